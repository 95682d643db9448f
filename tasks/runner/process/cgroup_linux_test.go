package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
)

func TestFindCgroup(t *testing.T) {
	const (
		unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		hybrid  = "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n40 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		part    = "30 24 0:26 /system.slice/a.service /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	)
	for _, c := range []struct{ name, self, mounts, want string }{
		{"unified", "0::/user.slice/x\n", unified, "/sys/fs/cgroup/user.slice/x"},
		{"root", "0::/\n", unified, "/sys/fs/cgroup"},
		{"hybrid", "4:cpu:/y\n0::/z\n", hybrid, "/sys/fs/cgroup/unified/z"},
		{"part is mounted", "0::/system.slice/a.service/w\n", part, "/sys/fs/cgroup/w"},
		{"another part is mounted", "0::/user.slice\n", part, ""},
		{"version 1 only", "4:cpu:/y\n", hybrid, ""},
		{"not mounted", "0::/x\n", "", ""},
		{"nonsense", "::::\n0:", " - cgroup2 \n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := findCgroup(c.self, c.mounts)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("findCgroup = %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// A task that ends while Close removes its cgroup removes it too.
func TestACgroupThatIsGoneIsNoFailure(t *testing.T) {
	if err := removeCgroup(t.TempDir() + "/gone"); err != nil {
		t.Error(err)
	}
}

func TestCgroupsOfADeadAgentAreRemoved(t *testing.T) {
	dead, err := openCgroups()
	if err != nil {
		t.Skip(err)
	}
	ended := make(chan Exit)
	pids := make(chan string, 1)
	go func() {
		ex, err := Run(context.Background(), &Spec{Argv: []string{"/bin/sh", "-c", "echo up; exec sleep 300"}, Env: []string{"PATH=" + os.Getenv("PATH")},
			Stdout: tell(pids), Nets: &Nets{cgroups: dead}})
		if err != nil {
			t.Error(err)
		}
		ended <- ex
	}()
	<-pids

	living, err := openCgroups()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead.dir); err != nil {
		t.Errorf("the cgroups of a living agent: %v", err)
	}
	living.close()

	dead.lock.Close() // as its death does
	next, err := openCgroups()
	if err != nil {
		t.Fatal(err)
	}
	defer next.close()
	if ex := <-ended; ex.Signal != "SIGKILL" || ex.Stopped != 0 {
		t.Errorf("the dead agent's process: %+v, want SIGKILL", ex)
	}
	// An agent of another test on this machine may be about to remove them.
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		_, err := os.Stat(dead.dir)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the cgroups of a dead agent: %v", err)
		}
	}
}

// The pipe by which a supervisor learns of the end of its agent may be closed long
// before the lock.
func TestABroodIsKilledWhoseAgentTakesLongToDie(t *testing.T) {
	c, err := openCgroups()
	if err != nil {
		t.Skip(err)
	}
	g := c.acquire()
	cmd := exec.Command("/bin/sleep", "300")
	cmd.Env, cmd.SysProcAttr = []string{}, &syscall.SysProcAttr{}
	g.use(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	g.closeFiles()
	time.AfterFunc(1500*time.Millisecond, func() { c.lock.Close() })
	b := Brood{Dir: t.TempDir(), Cgroup: c.dir}
	b.Kill()
	if s := state(cmd.Process.Pid); s != "Z" {
		t.Errorf("a process is in state %q, want Z: killed", s)
	}
	if _, err := os.Stat(c.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup: %v", err)
		c.close()
	}
}

// Each that starts looks for what dead ones have left, and may meet the directory of
// another that has just been made.
func TestAgentsThatStartTogetherAllHaveCgroups(t *testing.T) {
	if first, err := openCgroups(); err != nil {
		t.Skip(err)
	} else {
		first.close()
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				c, err := openCgroups()
				if err != nil {
					t.Error(err)
					return
				}
				if err := c.close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

type tell chan string

func (c tell) Write(b []byte) (int, error) {
	select {
	case c <- strings.TrimSpace(string(b)):
	default:
	}
	return len(b), nil
}

func TestRemovedCgroupIsDoneWithout(t *testing.T) {
	pool, err := openCgroups()
	if err != nil {
		t.Skip(err)
	}
	defer pool.close()
	g := pool.acquire()
	g.release()
	if err := os.Remove(g.path); err != nil {
		t.Fatal(err)
	}
	ex, err := Run(t.Context(), &Spec{Argv: []string{"/bin/sh", "-c", "exit 3"}, Nets: &Nets{cgroups: pool}})
	if err != nil || ex.Status != 3 {
		t.Errorf("Run = %+v, %v", ex, err)
	}
	if again := pool.acquire(); again == nil || again == g {
		t.Errorf("the next cgroup is %+v", again)
	}
}

func TestCgroupThatWasKilledIsNotUsedAgain(t *testing.T) {
	pool, err := openCgroups()
	if err != nil {
		t.Skip(err)
	}
	defer pool.close()
	g := pool.acquire()
	g.release()
	again := pool.acquire()
	if again != g {
		t.Error("an empty cgroup is not used again")
	}
	again.kill()
	again.release()
	if _, err := os.Stat(g.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a killed cgroup: %v", err)
	}
	if pool.acquire() == g {
		t.Error("a killed cgroup is used again")
	}
}

func TestOutcomes(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&tasks.StopError{Reason: tasks.StopTimeout, After: 5e9})
	for _, c := range []struct {
		ex   Exit
		code tasks.Code
		text string
	}{
		{Exit{}, tasks.OK, ""},
		{Exit{Status: 7}, tasks.Exit, "exit status 7"},
		{Exit{Signal: "SIGSEGV"}, tasks.Signalled, "killed by SIGSEGV"},
		{Exit{Signal: "SIGKILL", Stopped: tasks.StopTimeout}, tasks.Timeout, "timed out after 5s"},
		{Exit{Stopped: tasks.StopCancel}, tasks.Cancelled, "stopped: cancel"},
		{Exit{Stopped: tasks.StopKill, NotStarted: true}, tasks.Cancelled, "stopped: kill, before it was started"},
	} {
		if out := c.ex.Outcome(ctx); out.Code != c.code || out.Text != c.text || out.Signal != c.ex.Signal {
			t.Errorf("%+v: %v %q, want %v %q", c.ex, out.Code, out.Text, c.code, c.text)
		}
	}
	if out := Failure(ctx, context.Cause(ctx)); out.Code != tasks.Timeout {
		t.Errorf("Failure of an ended context = %+v", out)
	}
	if out := Failure(t.Context(), errors.New("x")); out.Code != tasks.Internal || out.Text != "x" {
		t.Errorf("Failure = %+v", out)
	}
	if out := Failure(ctx, &StartError{Code: tasks.NotFound, Text: "y"}); out.Code != tasks.NotFound || out.Exit != 127 || out.Text != "y" {
		t.Errorf("Failure = %+v", out)
	}
}
