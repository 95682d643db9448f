package command

import (
	"context"
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
		name: "status", usage: []string{"ID"}, flags: simpleFlags(&common{}),
		about:   "Shows a task, or the tasks of a run, that this host's agent submitted.",
		example: "scagent status $(scagent submit -detach sleep 60)",
	}.String()
}

// Run shows it.
func (c *StatusCommand) Run(args []string) int {
	var ids []tasks.ID
	check := func(operands []string) (err error) {
		if len(operands) != 1 {
			return fmt.Errorf("want one id of a task or a run")
		}
		ids, err = parseIDs(operands)
		return err
	}
	return simple(c.env, "status", c.Help(), args, check, func(ctx context.Context, cl *client.Client, o *common, _ []string) (int, error) {
		run, err := cl.RunTasks(ctx, ids[0])
		if err != nil {
			return 0, err
		}
		task := len(run.Tasks) == 1 && run.Tasks[0].ID == ids[0]
		switch {
		case task && o.json:
			return c.env.printJSON(run.Tasks[0]), nil
		case o.json:
			return c.env.printJSON(run), nil
		case task:
			return c.env.print(formatTask(&run.Tasks[0])), nil
		}
		return c.env.print(formatRun(&run)), nil
	})
}

func parseIDs(operands []string) ([]tasks.ID, error) {
	var ids []tasks.ID
	for _, s := range operands {
		id, err := tasks.ParseID(s)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
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
	b.add("Attempt", fmt.Sprint(t.Attempt))
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

// formatRun is a table of the tasks of a run.
func formatRun(r *api.RunStatus) string {
	t := table{{"TASK", "WORKER", "STATE", "ATTEMPT", "ENDED WITH"}}
	for i := range r.Tasks {
		k := &r.Tasks[i]
		end := ""
		if k.State.Final() {
			end = "exit 0"
			if exitOne(k) != exitOK {
				end = how(k)
			}
		}
		t = append(t, []string{k.ID.String(), k.Worker, string(k.State), fmt.Sprint(k.Attempt), end})
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
