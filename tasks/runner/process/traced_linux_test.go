package process

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var tracedAttr = &syscall.ProcAttr{Env: []string{}, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}

func TestATracedProgramThatIsKilledIsReapedAsOthersAre(t *testing.T) {
	for name, prepare := range map[string]func(pid int) error{
		"before its limits": func(pid int) error {
			unix.Kill(pid, unix.SIGKILL)
			return (&Limits{OpenFiles: 10}).apply(pid, brand{})
		},
		"after its limits": func(pid int) error {
			err := (&Limits{OpenFiles: 10}).apply(pid, brand{})
			unix.Kill(pid, unix.SIGKILL)
			waitExit(pid)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			pid, err := startTraced("/bin/sleep", []string{"sleep", "300"}, tracedAttr, prepare)
			if err != nil {
				t.Fatalf("startTraced = %v", err)
			}
			waitExit(pid)
			var ws syscall.WaitStatus
			if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Errorf("it ended with %v, %v; want SIGKILL", ws, err)
			}
		})
	}
}

func TestAProgramThatCannotBeLimitedIsKilled(t *testing.T) {
	cause := os.NewSyscallError("prlimit", syscall.EPERM)
	at := 0
	_, err := startTraced("/bin/sleep", []string{"sleep", "300"}, tracedAttr, func(pid int) error {
		at = pid
		return cause
	})
	if !errors.Is(err, syscall.EPERM) {
		t.Errorf("startTraced = %v, want EPERM", err)
	}
	if at == 0 || unix.Kill(at, 0) != unix.ESRCH {
		t.Errorf("process %d is still there, or was never", at)
	}
	if _, err := syscall.Wait4(at, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("Wait4 = %v, want ECHILD: it is to be reaped", err)
	}
}

// TestATracedProgramEndsWithItsTracer kills a process, this test run again, that
// has stopped a program before its limits are set.
func TestATracedProgramEndsWithItsTracer(t *testing.T) {
	if os.Getenv("SCAGENT_TEST_TRACER") != "" {
		startTraced("/bin/sleep", []string{"sleep", "300"}, tracedAttr, func(pid int) error {
			os.Stdout.WriteString("x")
			select {}
		})
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$")
	cmd.Env = []string{"SCAGENT_TEST_TRACER=1"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	// The program has the pipe too: it ends when both have.
	if n, err := out.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("Read = %d, %v, want the end", n, err)
	}
}

func TestBrandsAreOfOneProgramAndComeBack(t *testing.T) {
	b, err := openBrands(t.TempDir(), nil)
	if err != nil {
		t.Skip(err)
	}
	first, second := b.acquire(), b.acquire()
	if first == second || first == (brand{}) || first.limit&^brandOfTask != second.limit&^brandOfTask {
		t.Errorf("brands %+v and %+v; want two of one brood", first, second)
	}
	b.release(first)
	if again := b.acquire(); again != first {
		t.Errorf("acquire = %+v, want %+v again", again, first)
	}
	for range brandOfTask - 2 {
		b.acquire()
	}
	if one := b.acquire(); one != (brand{}) {
		t.Errorf("acquire = %+v when all are in use; want none", one)
	}
	b.release(brand{})
	b.release(second)
	if again := b.acquire(); again != second {
		t.Errorf("acquire = %+v, want %+v again", again, second)
	}
	one, other := broodBrand("/a"), broodBrand("/b")
	if one.limit == other.limit || one.group == other.group || one.limit&brandOfTask != 0 || one.limit>>63 != 0 || one.group>>31 != 1 {
		t.Errorf("broods %x and %x", one, other)
	}
}
