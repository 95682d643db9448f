package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/query"
)

// maxEventFileBytes bounds what data is read from. It may have spaces that are not sent.
const maxEventFileBytes = 2 * api.MaxEventDataBytes

// EventCommand sends an event on the bus.
type EventCommand struct{ env *Env }

// eventOptions are what the arguments of event say.
type eventOptions struct {
	common
	target  tasks.Target
	request bool
	timeout time.Duration
	send    api.SendRequest // made of the above, and of the operands
}

// Synopsis says what the command does, on one line.
func (c *EventCommand) Synopsis() string { return "send an event on the bus, or ask for replies" }

// Help says how the command is called.
func (c *EventCommand) Help() string {
	return manual{
		name: "event", flags: eventFlags(&eventOptions{}), usage: []string{"[options] NAME [DATA | @FILE | -]"},
		about: `
Sends an event to members of the pool, to all of them unless told otherwise. NAME is such as
build.done, see: scagent help events. DATA that is JSON is sent as JSON, any other as a string, as is
what FILE holds or, for -, standard input; write -- before DATA that begins with another -. Nothing is
printed but, on standard error, which of the named or matching members do not have the event and why;
-json prints how many have it, or of all, how many it is for.

With -request, what each member replies is printed as it comes, as JSON on a line: for one member of
-on alone, else after the member's name. -json prints an object per line. Members that do not reply
are named on standard error, with the reason.`,
		exits:   "0 all have it or, with -request, all replied, 1 failed, 2 called wrongly, 130 ended by ^C",
		example: "scagent event build.done '{\"commit\": \"1f3a9c\"}'\nuptime | scagent event -on n1,n2 load -\nscagent event -request -where 'data.gpu == \"a100\"' gpu.usage",
	}.String()
}

func eventFlags(o *eventOptions) *flagSet {
	o.timeout = api.DefaultReplySeconds * time.Second
	f := newFlags(true)
	f.group("To whom")
	f.boolean(&o.target.All, "all", "all members, which is the default")
	f.words(&o.target.On, "on", "the members `NAME,…`, by name or id (repeatable)")
	f.str(&o.target.Where, "where", "the members that match `EXPR`, see: scagent help query")
	f.words(&o.target.Except, "except", "not the members `NAME,…` (repeatable)")
	f.group("How")
	f.boolean(&o.request, "request", "wait for replies, and print them")
	f.duration(&o.timeout, "timeout", "wait for replies at most so `LONG`")
	o.common.define(f)
	f.finish = func() error {
		switch {
		case f.isSet("timeout") && !o.request:
			return errors.New("-timeout goes with -request only")
		case o.timeout <= 0 || o.timeout > api.MaxReplySeconds*time.Second:
			return fmt.Errorf("-timeout is %s; want more than 0, and at most %s", o.timeout, shortDuration(api.MaxReplySeconds*time.Second))
		case f.isSet("where") && o.target.Where == "":
			return errors.New("-where is empty; want an expression, or -all")
		}
		if o.target.Where != "" {
			if _, err := query.Compile(o.target.Where); err != nil {
				return fmt.Errorf("-where: %w", err)
			}
		}
		return o.target.Validate()
	}
	return f
}

// take makes the event of the operands, and reads its data.
func (o *eventOptions) take(operands []string, stdin io.Reader) (err error) {
	if len(operands) == 0 {
		return errors.New("want the name of the event")
	}
	if len(operands) > 2 {
		return fmt.Errorf("unexpected argument %q; want a name and data, which quotes keep together", shorten(operands[2], 80))
	}
	o.send = api.SendRequest{Event: operands[0], Target: &o.target, Request: o.request}
	o.target.All = len(o.target.On) == 0 && o.target.Where == ""
	if o.request {
		o.send.TimeoutSeconds = o.timeout.Seconds()
	}
	if err := bus.CheckName(o.send.Event); err != nil {
		return err
	}
	if bus.Reserved(o.send.Event) {
		return fmt.Errorf("%s is an agent's own event; want another name", o.send.Event)
	}
	if len(operands) == 2 {
		o.send.Data, err = eventData(operands[1], stdin)
	}
	return err
}

// eventData is the data that an operand stands for.
func eventData(s string, stdin io.Reader) (bus.Data, error) {
	what, text := "DATA", []byte(s)
	var err error
	if path, ok := strings.CutPrefix(s, "@"); ok {
		what = path
		text, err = readLimited(path, maxEventFileBytes)
	} else if s == "-" {
		what = "standard input"
		text, err = readAtMost(stdin, what, maxEventFileBytes)
	}
	if err != nil {
		return bus.Data{}, err
	}
	if !utf8.Valid(text) {
		return bus.Data{}, fmt.Errorf("%s is neither JSON nor text in UTF-8", what)
	}
	d, err := bus.FromJSON(jsonValue(string(text)))
	if err == nil && d.Len() > api.MaxEventDataBytes {
		err = fmt.Errorf("%s has more than %d bytes; an event carries no more", what, api.MaxEventDataBytes)
	}
	return d, err
}

// Run sends it.
func (c *EventCommand) Run(args []string) int {
	o := &eventOptions{}
	check := func(operands []string) error { return o.take(operands, c.env.Stdin) }
	return talk(c.env, "event", c.Help(), eventFlags(o), &o.common, args, check, func(ctx context.Context, cl *client.Client, _ []string) (int, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		signals, stop := c.env.Signals(false)
		defer stop()
		defer watchSignals(signals, func(os.Signal) { cancel(errInterrupted) })()
		do := c.send
		if o.request {
			do = c.request
		}
		status, err := do(ctx, cl, o)
		if errors.Is(err, errInterrupted) {
			return exitCancelled, nil
		}
		return status, err
	})
}

// send sends the event, and says who does not have it.
func (c *EventCommand) send(ctx context.Context, cl *client.Client, o *eventOptions) (int, error) {
	sent, err := cl.SendEvent(ctx, o.send)
	if err != nil {
		return 0, err
	}
	status := exitOK
	if o.json {
		status = c.env.printJSON(sent)
	}
	labels := newLabels(&api.Submitted{})
	for _, r := range sent.Failed {
		c.env.note("%s: %s", clean(labels.node(r.Name, r.ID)), clean(r.Error))
		status = max(status, exitFailed)
	}
	return status, nil
}

// request prints the replies as they come, and says who did not reply.
func (c *EventCommand) request(ctx context.Context, cl *client.Client, o *eventOptions) (int, error) {
	out, labels := newStreams(c.env), newLabels(&api.Submitted{})
	lines := &linePrinter{s: out, prefix: o.target.Several(), color: c.env.color()}
	status, n := exitOK, 0
	for r, err := range cl.RequestEvent(ctx, o.send) {
		if err != nil {
			return 0, err
		}
		label := clean(labels.node(r.Name, r.ID))
		switch {
		case o.json:
			json.NewEncoder(out.to(stdout)).Encode(r) // an error of writing shows when it is flushed
		case r.Error == "":
			b, err := r.Data.MarshalJSON()
			if err != nil {
				return 0, err
			}
			lines.line(label, n, stdout, b, nil)
		}
		if r.Error != "" {
			status = exitFailed
			fmt.Fprintf(out.to(stderr), "scagent: %s: %s\n", label, clean(r.Error))
		}
		if err := out.flush(); err != nil {
			return 0, notWritten(err)
		}
		n++
	}
	return status, nil
}
