//go:build unix

package command

import (
	"os/exec"
	"syscall"
	"testing"
)

// A program that writes to a closed pipe must end as it does anywhere else.
func TestProgramsStillDieOfClosedPipes(t *testing.T) {
	keepPipes()
	cmd := exec.Command("sh", "-c", "kill -PIPE $$; echo alive")
	out, err := cmd.Output()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGPIPE {
		t.Errorf("sh ended with %v and printed %q; want it killed by SIGPIPE", err, out)
	}
}
