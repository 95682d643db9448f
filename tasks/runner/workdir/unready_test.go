package workdir

import (
	"os"
	"syscall"
	"testing"

	"github.com/scagent/scagent/tasks"
)

func TestADirectoryThatCannotBeMadeNowIsNoFault(t *testing.T) {
	for err, want := range map[syscall.Errno]tasks.Code{syscall.EMFILE: tasks.Busy, syscall.EIO: tasks.Internal, syscall.ENOSPC: tasks.Internal} {
		made := internal("work directory", &os.PathError{Op: "open", Path: "/x", Err: err})
		if out := unready(t.Context(), made); out.Code != want || out.Text != made.Error() {
			t.Errorf("%v is %+v, want the code %s", err, out, want)
		}
	}
}
