package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// StatusCommand shows a task or a run.
type StatusCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *StatusCommand) Synopsis() string { return "show one task or run" }

// Help says how the command is called.
func (c *StatusCommand) Help() string {
	return manual{
		name: "status", usage: []string{"ID…"}, flags: simpleFlags(&common{}),
		about: `
Shows tasks, or the tasks of runs, whichever agent of the pool they were submitted to. Of the attempts
at a task the last is shown: its number, its worker, and where it stands.`,
		exits:   "0 done, 1 an id is not known or the agent failed, 2 called wrongly",
		example: "scagent status $(scagent submit -detach sleep 60)",
	}.String()
}

// Run shows it.
func (c *StatusCommand) Run(args []string) int {
	var ids []tasks.ID
	check := func(operands []string) (err error) {
		ids, err = parseIDs(operands)
		return err
	}
	return simple(c.env, "status", c.Help(), args, check, func(ctx context.Context, cl *client.Client, o *common, _ []string) (int, error) {
		printed := false
		return eachID(c.env, ids, func(id tasks.ID) error {
			run, err := cl.RunTasks(ctx, id)
			if err != nil {
				return err
			}
			if printed && !o.json {
				err = c.env.write("\n")
			}
			printed = true
			return cmp.Or(err, c.env.write(formatStatus(id, &run, o.json)))
		})
	})
}

// parseIDs reads at least one id. What is there twice counts once.
func parseIDs(operands []string) ([]tasks.ID, error) {
	if len(operands) == 0 {
		return nil, errors.New("want at least one id of a task or a run")
	}
	var ids []tasks.ID
	seen := map[tasks.ID]bool{}
	for _, s := range operands {
		id, err := tasks.ParseID(s)
		if err != nil {
			return nil, err
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// eachID does something for each id, and says what does not work, one line for each.
func eachID(e *Env, ids []tasks.ID, do func(tasks.ID) error) (status int, err error) {
	for _, id := range ids {
		err := do(id)
		var own *api.Error
		switch {
		case errors.As(err, &own):
			status = e.fail(err) // that id's alone
		case err != nil:
			return 0, err
		}
	}
	return status, nil
}

// formatStatus is what is known of a run or of its only task, whichever the id is.
func formatStatus(id tasks.ID, run *api.RunStatus, asJSON bool) string {
	task := len(run.Tasks) == 1 && run.Tasks[0].ID == id
	if !asJSON {
		if task {
			return formatTask(&run.Tasks[0])
		}
		return formatRun(run)
	}
	var v any = run
	if task {
		v = &run.Tasks[0]
	}
	b, _ := json.Marshal(v) // it came as JSON
	return string(b) + "\n"
}

// formatTask is a task in full, but for its output.
func formatTask(t *api.TaskStatus) string {
	b := &fields{}
	b.add("Task", t.ID.String())
	b.add("Run", t.Run.String())
	b.add("Kind", string(t.Kind))
	b.add("State", string(t.State))
	if t.State.Final() && exitOne(t) != exitOK {
		b.add("Ended with", how(t))
	}
	b.add("Worker", t.Worker)
	b.add("Attempt", attempt(t))
	b.add("Queued", stamp(t.QueuedAt))
	b.add("Started", stamp(t.StartedAt))
	b.add("Finished", stamp(t.FinishedAt))
	if t.StartedAt != nil && t.FinishedAt != nil {
		b.add("Took", t.FinishedAt.Sub(t.StartedAt.Time).Round(time.Millisecond).String())
	}
	if t.MaxRSSBytes > 0 {
		b.add("CPU", fmt.Sprintf("%.3fs user, %.3fs system", t.UserSeconds, t.SystemSeconds))
		b.add("Memory", fmt.Sprintf("%d bytes at most", t.MaxRSSBytes))
	}
	if len(t.Result) > 0 && string(t.Result) != "null" {
		b.add("Result", shorten(string(t.Result), 1000))
	}
	for _, f := range t.Outputs {
		b.add("File", fmt.Sprintf("%s (%d bytes)", f.Name, f.Size))
	}
	return b.String()
}

// attempt says which attempt at a task was the last. Of the others it is known that
// they came to nothing.
func attempt(t *api.TaskStatus) string {
	switch t.Attempt {
	case 0:
		return "none has started"
	case 1:
		return "1"
	}
	return fmt.Sprintf("%d, after %d that did not count", t.Attempt, t.Attempt-1)
}

// formatRun is a table of the tasks of a run.
func formatRun(r *api.RunStatus) string {
	t := table{{"TASK", "WORKER", "STATE", "ATTEMPT", "ENDED WITH"}}
	for i := range r.Tasks {
		k := &r.Tasks[i]
		t = append(t, []string{k.ID.String(), k.Worker, string(k.State), fmt.Sprint(k.Attempt), endedWith(k)})
	}
	return t.String()
}

func stamp(t *api.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// fields are lines of a name and a value; those without a value are left out.
type fields struct{ rows [][2]string }

func (f *fields) add(name, value string) {
	if value != "" {
		f.rows = append(f.rows, [2]string{name, clean(value)})
	}
}

// String aligns the values.
func (f *fields) String() string {
	width := 0
	for _, r := range f.rows {
		width = max(width, len(r[0]))
	}
	var b strings.Builder
	for _, r := range f.rows {
		fmt.Fprintf(&b, "%-*s  %s\n", width+1, r[0]+":", r[1])
	}
	return b.String()
}
