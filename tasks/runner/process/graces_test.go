//go:build unix

package process

import (
	"context"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
)

// TestWhoeverIgnoresSignalsIsKilledAfterTheGraces stops a program that says what it is
// sent. The graces are of a bubble, whose clock stands still while the program is waited
// for, however long that takes.
func TestWhoeverIgnoresSignalsIsKilledAfterTheGraces(t *testing.T) {
	for _, c := range []struct {
		reason tasks.StopReason
		want   []string
	}{
		{tasks.StopCancel, []string{"TERM "}},
		{tasks.StopInterrupt, []string{"INT ", "TERM "}},
		{tasks.StopKill, nil},
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cmd := exec.Command("/bin/sh", "-c", `trap 'printf "TERM "' TERM; trap 'printf "INT "' INT; printf "ready "; while :; do sleep 0.02; done`)
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				hears := func(text string) {
					t.Helper()
					b := make([]byte, len(text))
					if _, err := io.ReadFull(out, b); err != nil || string(b) != text {
						t.Fatalf("it wrote %q, %v; want %q", b, err, text)
					}
				}
				const grace = time.Hour
				p := &proc{s: &Spec{Grace: grace}, pid: cmd.Process.Pid}
				defer p.killGroup()
				ctx, cancel := context.WithCancelCause(t.Context())
				exited, stopped := make(chan struct{}), make(chan struct{})
				go func() { defer close(stopped); p.stop(ctx, exited) }()

				hears("ready ")
				cancel(&tasks.StopError{Reason: c.reason})
				for _, text := range c.want {
					hears(text)
					synctest.Wait()
					time.Sleep(grace - time.Second) // of the bubble
					synctest.Wait()
					// It would hear the next signal at once, if it had been sent.
					fds := []unix.PollFd{{Fd: int32(out.(*os.File).Fd()), Events: unix.POLLIN}}
					if n, _ := unix.Poll(fds, 100); n > 0 {
						t.Errorf("after %s more was sent before the grace had ended", text)
					}
					time.Sleep(time.Second)
				}
				rest, err := io.ReadAll(out)
				if len(rest) > 0 || err != nil {
					t.Errorf("it wrote %q, %v; want it killed", rest, err)
				}
				cmd.Wait()
				close(exited)
				<-stopped
				if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL || p.ex.Stopped != c.reason {
					t.Errorf("%s, stopped for %v; want SIGKILL, and %v", cmd.ProcessState, p.ex.Stopped, c.reason)
				}
			})
		})
	}
}
