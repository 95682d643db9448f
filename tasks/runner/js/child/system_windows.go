package child

import (
	"os"
	"syscall"

	"github.com/scagent/scagent/tasks/runner/process"
)

// attributes keep ^C of the agent's terminal away from a child.
func attributes(*process.User) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

func signal(*os.ProcessState) string { return "" }

func stdio(f *os.File) *os.File { return f }
