//go:build unix

package supervisor

import (
	"encoding/json"
	"os"
	"syscall"

	"github.com/scagent/scagent/tasks/runner/helper"
	"github.com/scagent/scagent/tasks/runner/process"
)

// order is what the supervisor process is told: the first line in the pipe. When
// the agent ends by itself, a second line comes; when it is killed, the end.
type order struct {
	Brood  process.Brood
	Groups bool // Brood.Groups is open
	Remove string
}

// The files of the supervisor process, beside /dev/null.
const (
	pipeFile = 3 + iota
	groupsFile
)

// startChild starts the supervisor process.
func (s *Supervisor) startChild() (*child, error) {
	cmd, err := helper.Command(Name)
	if err != nil {
		return nil, err
	}
	b := s.nets.Brood()
	text, err := json.Marshal(order{Brood: b, Groups: b.Groups != nil, Remove: s.cfg.Remove})
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Dir = "/"
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GOGC=20") // it has next to nothing to do
	cmd.ExtraFiles = []*os.File{r}
	if b.Groups != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, b.Groups)
	}
	// What ends the agent's session or process group does not end this.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Before it runs: the agent may be killed at any moment, also just after the start,
	// and tasks run by then if it is a replacement. A pipe has room for it.
	w.Write(append(text, '\n')) // an error: the process finds the pipe empty
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, err
	}
	return &child{cmd: cmd, pipe: w}, nil
}
