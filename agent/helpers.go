package agent

import (
	"github.com/scagent/scagent/tasks/runner/helper"
	"github.com/scagent/scagent/tasks/runner/js"
	"github.com/scagent/scagent/tasks/runner/supervisor"
)

// helpers are the processes that an agent has beside its own, by name.
var helpers = map[string]func() int{
	js.Helper:       js.Child,
	supervisor.Name: supervisor.Main,
}

// RunHelper is to be called first thing in the main of a program that embeds an
// agent. The agent starts that program again for what another process must do,
// and then RunHelper does not return. Without the call the agent works too, but
// less of what its tasks started ends when the program is killed, and JavaScript
// runs inside the program, where nothing bounds its memory. Files that the program
// was started with, beside the standard three, are then not inherited by its
// children.
func RunHelper() { helper.Run(helpers) }
