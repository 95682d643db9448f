//go:build unix

package child

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks/runner/process"
)

// attributes keep signals of the agent's terminal away from a child.
func attributes(u *process.User) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if u != nil {
		a.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	return a
}

// signal returns the name of the signal that ended a process, empty if none did.
func signal(s *os.ProcessState) string {
	ws, ok := s.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return ""
	}
	if n := unix.SignalName(ws.Signal()); n != "" {
		return n
	}
	return ws.Signal().String()
}

// stdio returns a standard stream that the runtime's poller serves, so that to
// wait for it takes no thread.
func stdio(f *os.File) *os.File {
	unix.SetNonblock(int(f.Fd()), true)
	return os.NewFile(f.Fd(), f.Name())
}
