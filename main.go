// Command scagent spreads work over the machines one has: `scagent agent` on
// each of them, then `scagent submit` on any. See `scagent help`.
package main

import (
	"os"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/command"
)

func main() {
	agent.RunHelper()
	os.Exit(command.Main(os.Args[1:]))
}
