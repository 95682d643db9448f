package process_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// TestOutOfFilesIsNotForEver begins in a process that has started no program yet.
func TestOutOfFilesIsNotForEver(t *testing.T) {
	if os.Getenv("PROCESS_TEST_EXHAUSTED") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOutOfFilesIsNotForEver$", "-test.v")
		cmd.Env = append(os.Environ(), "PROCESS_TEST_EXHAUSTED=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	s := shell(t, "exit 3")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := process.Run(t.Context(), s)
	if serr := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); serr != nil {
		t.Fatal(serr)
	}
	if start := (*process.StartError)(nil); !errors.As(err, &start) || start.Code != tasks.Busy {
		t.Errorf("without files Run = %v, want the code busy", err)
	}
	if ex := mustRun(t, t.Context(), s); ex.Status != 3 {
		t.Errorf("with files the status is %d, want 3", ex.Status)
	}
}
