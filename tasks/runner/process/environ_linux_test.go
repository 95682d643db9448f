package process

import (
	"os/exec"
	"slices"
	"testing"
	"time"
)

// TestWhoIsInTheMiddleOfAnExecIsFound looks as soon as the new program is sure to
// run, a moment before the kernel shows its environment. The moment is short, so
// there are many tries; without the wait some fail for certain.
func TestWhoIsInTheMiddleOfAnExecIsFound(t *testing.T) {
	mark := markOf(t)
	s := seek([]string{mark}, brand{})
	for range 300 {
		cmd := exec.Command("/bin/sleep", "300")
		cmd.Env = []string{mark}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		found := s.is(&subject{pid: cmd.Process.Pid})
		cmd.Process.Kill()
		cmd.Wait()
		if !found {
			t.Fatal("a process in the middle of an exec was taken for one without marks")
		}
	}
}

// TestWhoHasNoEnvironmentIsNotWaitedFor compares with the patience.
func TestWhoHasNoEnvironmentIsNotWaitedFor(t *testing.T) {
	empty := exec.Command("/bin/sleep", "300")
	empty.Env = []string{}
	dead := exec.Command("/bin/true")
	for _, cmd := range []*exec.Cmd{empty, dead} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
	}
	h, err := take(dead.Process.Pid)
	if err != nil || !h.await(time.Now().Add(10*time.Second)) {
		t.Fatalf("true does not end: %v", err)
	}
	defer h.close()
	var took []time.Duration
	for range 5 {
		begun := time.Now()
		for _, pid := range []int{empty.Process.Pid, dead.Process.Pid, 2} { // 2: a thread of the kernel, or some process
			if env := environOf(pid); pid != 2 && env != nil {
				t.Errorf("environment of %d: %q, want none", pid, env)
			}
		}
		took = append(took, time.Since(begun))
	}
	if least := slices.Min(took); least >= execPatience {
		t.Errorf("took %v, want less than the patience, %v", least, execPatience)
	}
}
