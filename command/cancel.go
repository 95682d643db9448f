package command

import (
	"context"

	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// CancelCommand stops tasks.
type CancelCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *CancelCommand) Synopsis() string { return "stop what runs, drop what is queued" }

// Help says how the command is called.
func (c *CancelCommand) Help() string {
	return manual{
		name: "cancel", usage: []string{"ID…"}, flags: simpleFlags(&common{}),
		about: `
Cancels tasks, or all tasks of runs, whichever agent of the pool they were submitted to: what is
queued is dropped; what runs gets SIGTERM, and SIGKILL after some seconds. What has ended stays as it
is.`,
		exits: "0 done, 1 an id is not known or the agent failed, 2 called wrongly", example: "scagent cancel ID",
	}.String()
}

// Run cancels them.
func (c *CancelCommand) Run(args []string) int {
	var ids []tasks.ID
	check := func(operands []string) (err error) {
		ids, err = parseIDs(operands)
		return err
	}
	return simple(c.env, "cancel", c.Help(), args, check, func(ctx context.Context, cl *client.Client, o *common, _ []string) (int, error) {
		stopped := 0
		status, err := eachID(c.env, ids, func(id tasks.ID) error {
			n, err := cl.Cancel(ctx, id, tasks.StopCancel)
			stopped += n
			return err
		})
		if o.json {
			c.env.printJSON(struct {
				Stopped int `json:"stopped"`
			}{stopped})
		} else if !o.quiet && status == exitOK && err == nil {
			c.env.note("cancelled %d %s", stopped, plural(stopped, "task", "tasks"))
		}
		return status, err
	})
}
