package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// maxListed is how many tasks an agent lists at once.
const maxListed = 10_000

// TasksCommand lists tasks.
type TasksCommand struct{ env *Env }

// tasksOptions are what the arguments of tasks say.
type tasksOptions struct {
	common
	states []tasks.State // none: see pick
	limit  int
	after  tasks.ID // zero: the newest
}

// Synopsis says what the command does, on one line.
func (c *TasksCommand) Synopsis() string { return "tasks of this agent (alias: ps)" }

// Help says how the command is called.
func (c *TasksCommand) Help() string {
	return manual{
		name: "tasks", usage: []string{"[options]"}, flags: tasksFlags(&tasksOptions{}),
		about: `
Lists tasks that were submitted to this host's agent, the newest last: those that have not ended and,
as far as -limit leaves room, those that have ended and were submitted last. With -state or -after it is
the tasks in these states or submitted after that one, open or not. -json prints an array of what
submit -json prints, without output and results.`,
		example: "scagent tasks\nscagent ps -state failed,lost -limit 1000",
	}.String()
}

func tasksFlags(o *tasksOptions) *flagSet {
	o.limit = 50
	f := newFlags(true)
	f.group("Options")
	f.add(funcValue(o.addStates), "state", "only those in one of the states `STATE,…`: queued, running, done, failed, cancelled, lost")
	f.integer(&o.limit, "limit", "at most `N`, the newest; with -after the first")
	f.add(funcValue(o.setAfter), "after", "only those submitted after the task `ID`")
	o.common.define(f)
	f.finish = func() error {
		if o.limit < 1 || o.limit > maxListed {
			return fmt.Errorf("-limit is %d; want 1 to %d", o.limit, maxListed)
		}
		return nil
	}
	return f
}

// states are the words for them, in the order in which a task has them.
var states = []tasks.State{tasks.StateQueued, tasks.StateRunning, tasks.StateDone, tasks.StateFailed, tasks.StateCancelled, tasks.StateLost}

func (o *tasksOptions) addStates(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		state := tasks.State(strings.TrimSpace(word))
		if !slices.Contains(states, state) {
			return fmt.Errorf("want some of queued, running, done, failed, cancelled, lost")
		}
		o.states = append(o.states, state)
	}
	return nil
}

func (o *tasksOptions) setAfter(s string) (err error) {
	o.after, err = tasks.ParseID(s)
	return err
}

// Run lists them.
func (c *TasksCommand) Run(args []string) int {
	o := &tasksOptions{}
	return talk(c.env, "tasks", c.Help(), tasksFlags(o), &o.common, args, none, func(ctx context.Context, cl *client.Client, _ []string) (int, error) {
		list, err := o.pick(ctx, cl)
		switch {
		case err != nil:
			return 0, err
		case o.json:
			return c.env.printJSON(list), nil
		}
		return c.env.print(formatTasks(list, time.Now())), nil
	})
}

// pick asks for the tasks that are shown, in order of their submission.
func (o *tasksOptions) pick(ctx context.Context, cl *client.Client) ([]api.TaskStatus, error) {
	if len(o.states) > 0 || !o.after.IsZero() {
		return cl.Tasks(ctx, client.Filter{States: o.states, After: o.after, Limit: o.limit, Newest: o.after.IsZero()})
	}
	list, err := cl.Tasks(ctx, client.Filter{States: states[:2], Limit: o.limit, Newest: true})
	if err != nil || len(list) == o.limit {
		return list, err
	}
	ended, err := cl.Tasks(ctx, client.Filter{States: states[2:], Limit: o.limit - len(list), Newest: true})
	if err != nil {
		return nil, err
	}
	list = append(list, ended...)
	slices.SortFunc(list, func(a, b api.TaskStatus) int { return strings.Compare(string(a.ID[:]), string(b.ID[:])) })
	// What ended between the two requests is there twice.
	return slices.CompactFunc(list, func(a, b api.TaskStatus) bool { return a.ID == b.ID }), nil
}

// formatTasks is a table of tasks, as of now.
func formatTasks(list []api.TaskStatus, now time.Time) string {
	t := table{{"TASK", "KIND", "STATE", "WORKER", "QUEUED", "TOOK", "ENDED WITH"}}
	for i := range list {
		k := &list[i]
		queued, took := "-", "-"
		if k.QueuedAt != nil {
			queued = k.QueuedAt.UTC().Format(time.RFC3339)
		}
		switch {
		case k.StartedAt == nil:
		case k.FinishedAt != nil:
			took = tookText(k.FinishedAt.Sub(k.StartedAt.Time))
		case k.State == tasks.StateRunning:
			took = tookText(now.Sub(k.StartedAt.Time))
		}
		t = append(t, []string{k.ID.String(), string(k.Kind), string(k.State), dash(k.Worker), queued, took, dash(endedWith(k))})
	}
	return t.String()
}

// tookText is a duration as a table shows it. Clocks of two hosts may differ.
func tookText(d time.Duration) string {
	d = max(0, d)
	if d < time.Minute {
		return d.Round(time.Millisecond).String()
	}
	return shortDuration(d.Round(time.Second))
}

// endedWith says how a task ended, empty if it has not.
func endedWith(t *api.TaskStatus) string {
	switch {
	case !t.State.Final():
		return ""
	case exitOne(t) == exitOK:
		return "exit 0"
	}
	return how(t)
}
