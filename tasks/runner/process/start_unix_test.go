//go:build unix

package process

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/scagent/scagent/tasks"
)

func TestAMachineThatIsOutOfSomethingIsBusy(t *testing.T) {
	for err, want := range map[syscall.Errno]tasks.Code{
		syscall.EMFILE: tasks.Busy, syscall.ENFILE: tasks.Busy, syscall.EAGAIN: tasks.Busy, syscall.ENOMEM: tasks.Busy,
		syscall.EIO: tasks.Internal, syscall.ENOENT: tasks.NotFound,
	} {
		var start *StartError
		if got := startError(&Spec{}, "/no/such/program", os.NewSyscallError("fork", err)); !errors.As(got, &start) || start.Code != want {
			t.Errorf("%v is %v with the code %s, want %s", err, got, start.Code, want)
		}
	}
}
