package process

import "os"

// Brood names all processes of the tasks of one agent, from its start to its end,
// so that another process can find them too, also when the agent is dead.
type Brood struct {
	// Dir is a directory that no other agent has, or had. Its path gives the
	// processes their brands. It need not exist any more.
	Dir string
	// Mark begins an entry of the environment that each task is given, and no
	// other process.
	Mark string

	// The rest is filled in by OpenNets.

	Cgroup string   // the directory above those of the tasks; empty: none
	Groups *os.File `json:"-"` // the process groups, see groups; nil: none
}
