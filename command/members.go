package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks/query"
)

// watchEvery is how often -watch looks for changes.
const watchEvery = time.Second

// MembersCommand lists who is in the pool.
type MembersCommand struct{ env *Env }

// membersOptions are what the arguments of members say.
type membersOptions struct {
	common
	where    *query.Query // nil: everyone
	roles    []string     // any of them; none: everyone
	statuses []string     // any of them; none: everyone
	watch    bool
	wait     time.Duration
	local    localOptions
	localSet []string
}

// Synopsis says what the command does, on one line.
func (c *MembersCommand) Synopsis() string { return "who is in the pool" }

// Help says how the command is called.
func (c *MembersCommand) Help() string {
	return manual{
		name: "members", usage: []string{"[options]"}, flags: membersFlags(&membersOptions{}, new(string)),
		about: `
Lists the members of the pool. STATUS is alive, suspect, failed, left or external. Where no agent
runs, this command joins the pool itself for a moment.`,
		example: "scagent members -role worker -where 'facts.cpus >= 8'",
	}.String()
}

func membersFlags(o *membersOptions, where *string) *flagSet {
	o.wait = 3 * time.Second
	f := newFlags(true)
	f.group("Options")
	f.str(where, "where", "only those that match `EXPR`, see: scagent help query")
	f.words(&o.roles, "role", "only those with one of the roles `ROLE,…`")
	f.words(&o.statuses, "status", "only those with one of the statuses `STATUS,…`")
	f.boolean(&o.watch, "watch", "print the list again when it changes, until ^C")
	o.common.define(f)
	o.local.define(f)
	f.duration(&o.wait, "wait", "look so `LONG` for others")
	return f
}

func parseMembers(args []string) (*membersOptions, error) {
	o, where := &membersOptions{}, ""
	f := membersFlags(o, &where)
	operands, err := f.parse(args)
	if err == nil {
		err = none(operands)
	}
	if err != nil {
		return nil, err
	}
	o.localSet = f.given(append(localFlags, "wait")...)
	if f.isSet("where") {
		if o.where, err = query.Compile(where); err != nil {
			return nil, fmt.Errorf("-where: %w", err)
		}
	}
	if err := oneOf("-role", o.roles, "worker", "master", "tracker"); err != nil {
		return nil, err
	}
	if err := oneOf("-status", o.statuses, "alive", "suspect", "failed", "left", "external"); err != nil {
		return nil, err
	}
	return o, nil
}

func oneOf(flag string, words []string, want ...string) error {
	for _, w := range words {
		if !slices.Contains(want, w) {
			return fmt.Errorf("%s is %q; want one of %s", flag, shorten(w, 40), strings.Join(want, ", "))
		}
	}
	return nil
}

// Run lists them.
func (c *MembersCommand) Run(args []string) int {
	o, err := parseMembers(args)
	if err != nil {
		return c.env.usage("members", c.Help(), err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals, stop := c.env.Signals(false)
	defer stop()
	defer watchSignals(signals, func(os.Signal) { cancel(errInterrupted) })()
	err = c.list(ctx, o)
	switch {
	case errors.Is(err, errInterrupted) && o.watch:
		return exitOK
	case err != nil:
		return c.env.fail(err)
	}
	return exitOK
}

// list prints the members, with -watch again and again until ctx ends.
func (c *MembersCommand) list(ctx context.Context, o *membersOptions) error {
	cl, leave, err := connectOrStart(ctx, c.env, &o.common, o.localSet, &localStart{localOptions: o.local, wait: o.wait, settle: 2 * settleTime, look: true})
	if err != nil {
		return err
	}
	defer leave()
	var tick *time.Ticker
	last := ""
	for {
		members, err := cl.Members(ctx)
		if err != nil {
			return err
		}
		text, err := o.format(o.pick(members))
		if err != nil {
			return err
		}
		if text != last {
			if last != "" && !o.json {
				text = separator(c.env) + text
			}
			if err := c.env.write(text); err != nil {
				return err
			}
			if last == "" && !o.json && !o.quiet {
				c.sayTrust(ctx, cl)
			}
			last = strings.TrimPrefix(text, separator(c.env))
		}
		if !o.watch {
			return nil
		}
		if tick == nil {
			tick = time.NewTicker(watchEvery)
			defer tick.Stop()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sayTrust tells who may run what on this node as whom.
func (c *MembersCommand) sayTrust(ctx context.Context, cl *client.Client) {
	if info, err := cl.Info(ctx); err == nil && info.Trust != "" { // else the list is good without it
		c.env.note("on this node, %s", clean(info.Trust))
	}
}

// separator is printed between two lists of -watch: on a terminal the second
// takes the place of the first.
func separator(e *Env) string {
	if e.color() {
		return "\x1b[H\x1b[2J"
	}
	return "\n"
}

// pick returns those members that the options ask for, by name.
func (o *membersOptions) pick(members []api.Member) []api.Member {
	picked := []api.Member{}
	for i := range members {
		m := &members[i]
		if len(o.statuses) > 0 && !slices.Contains(o.statuses, m.Status) ||
			len(o.roles) > 0 && !slices.ContainsFunc(m.Roles, func(r string) bool { return slices.Contains(o.roles, r) }) ||
			o.where != nil && o.where.Match(queryNode(m)) != query.True {
			continue
		}
		picked = append(picked, *m)
	}
	slices.SortStableFunc(picked, func(a, b api.Member) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return picked
}

// queryNode is a member as queries see it.
func queryNode(m *api.Member) *query.Node {
	facts := decodeJSON(m.Facts)
	return &query.Node{Name: m.Name, Role: m.Roles, Data: decodeJSON(m.Data), Facts: facts,
		Slots: m.Slots, Free: max(0, m.Slots-m.Busy), Known: facts != nil}
}

// decodeJSON decodes a value with its numbers as they are; nil when there is none.
func decodeJSON(b json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

func (o *membersOptions) format(members []api.Member) (string, error) {
	if !o.json {
		return formatMembers(members), nil
	}
	b, err := json.Marshal(members)
	return string(b) + "\n", err
}

func formatMembers(members []api.Member) string {
	t := table{{"NAME", "ADDRESS", "ROLES", "STATUS", "SLOTS", "AVAILABLE", "DATA"}}
	for _, m := range members {
		slots, available := "-", "-"
		if slices.Contains(m.Roles, "worker") {
			slots, available = fmt.Sprintf("%d/%d", m.Busy, m.Slots), yesNo(m.Available)
		}
		t = append(t, []string{m.Name, net.JoinHostPort(m.Addr, strconv.Itoa(m.Port)), strings.Join(m.Roles, ","),
			m.Status, slots, available, shortJSON(m.Data)})
	}
	return t.String()
}

// shortJSON is JSON for a cell of a table.
func shortJSON(b json.RawMessage) string {
	var out bytes.Buffer
	if json.Compact(&out, b) != nil || out.String() == "null" || out.String() == "{}" {
		return "-"
	}
	return shorten(out.String(), 100)
}
