//go:build linux

package process_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// eachWay runs a test with the marks alone and, where they can be had, with
// brands and with cgroups.
func eachWay(t *testing.T, fn func(t *testing.T, nets *process.Nets)) {
	t.Run("marks", func(t *testing.T) { fn(t, nil) })
	for _, way := range process.Ways {
		t.Run(way, func(t *testing.T) {
			nets, err := process.OpenWay(way, t.TempDir(), nil)
			if err != nil {
				t.Skip(err)
			}
			fn(t, nets)
			if err := nets.Close(); err != nil {
				t.Error(err)
			}
			if dir := nets.Brood().Cgroup; dir != "" {
				if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("after Close, %s: %v", dir, err)
				}
			}
			if err := nets.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}

// daemon is shell for a process in a session of its own whose parent has
// exited; it prints its number. The shell goes on when it has.
const daemon = `(setsid sh -c 'echo $$; touch up; exec sleep 300' &); while ! [ -e up ]; do sleep 0.02; done; `

func TestCancelReachesTheWholeTree(t *testing.T) {
	eachWay(t, func(t *testing.T, nets *process.Nets) {
		for _, reason := range []tasks.StopReason{tasks.StopCancel, tasks.StopTimeout, tasks.StopSuperfluous, tasks.StopInterrupt, tasks.StopKill} {
			within(t, func() {
				out := awaiting("ready")
				s := shell(t, daemon+`sleep 300 & echo $! $$; echo ready; exec sleep 300`)
				s.Stdout, s.Nets = out, nets
				ex := mustRun(t, stopping(t, out, reason), s)
				want := map[tasks.StopReason]string{tasks.StopKill: "SIGKILL", tasks.StopInterrupt: "SIGINT"}[reason]
				if want == "" {
					want = "SIGTERM"
				}
				if ex.Stopped != reason || ex.Signal != want {
					t.Errorf("%v: Run = %+v, want signal %s", reason, ex, want)
				}
				if n := len(strings.Fields(out.String())); n != 4 {
					t.Errorf("%v: output %q", reason, out.String())
				}
				mustBeGone(t, out.String())
			})
		}
	})
}

func TestAskedProgramMayEndItsOwnWay(t *testing.T) {
	within(t, func() {
		out := awaiting("ready")
		s := shell(t, `trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.02; done`)
		s.Stdout = out
		ex := mustRun(t, stopping(t, out, tasks.StopCancel), s)
		if ex.Status != 9 || ex.Signal != "" || ex.Stopped != tasks.StopCancel || out.String() != "ready\nbye\n" {
			t.Errorf("Run = %+v, %q", ex, out.String())
		}
	})
}

func TestStoppedProcessHearsTheSignal(t *testing.T) {
	within(t, func() {
		out := awaiting("ready")
		s := shell(t, `echo ready $$; kill -STOP $$; sleep 300`)
		s.Stdout = out
		if ex := mustRun(t, stopping(t, out, tasks.StopCancel), s); ex.Signal != "SIGTERM" {
			t.Errorf("Run = %+v, want SIGTERM", ex)
		}
	})
}

func TestKillEndsAGrace(t *testing.T) {
	within(t, func() {
		out, kill := awaiting("TERM"), make(chan struct{})
		s := shell(t, `trap 'echo TERM' TERM; echo ready; while :; do sleep 0.02; done`)
		ready := awaiting("ready")
		s.Stdout, s.Kill = both{out, ready}, kill
		go func() { <-out.seen; close(kill) }()
		ex := mustRun(t, stopping(t, ready, tasks.StopTimeout), s)
		if ex.Signal != "SIGKILL" || ex.Stopped != tasks.StopTimeout {
			t.Errorf("Run = %+v, want SIGKILL in the grace of a timeout", ex)
		}
	})
}

type both []*started

func (w both) Write(b []byte) (int, error) {
	for _, s := range w {
		s.Write(b)
	}
	return len(b), nil
}

func TestReasonOfAPlainContext(t *testing.T) {
	within(t, func() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if ex := mustRun(t, ctx, shell(t, "exec sleep 300")); ex.Stopped != tasks.StopTimeout {
			t.Errorf("Run = %+v, want a timeout", ex)
		}
	})
}

func TestWhatIsLeftInTheGroupIsKilledAtTheEnd(t *testing.T) {
	within(t, func() {
		var out bytes.Buffer
		s := shell(t, `sleep 300 & echo $!; sh -c 'trap "" TERM HUP; exec sleep 300' & echo $!; exit 5`)
		s.Stdout = &out // both hold it open
		if ex := mustRun(t, t.Context(), s); ex.Status != 5 {
			t.Errorf("Run = %+v", ex)
		}
		mustBeGone(t, out.String())
	})
}

func TestHolderOfTheOutputOutsideTheGroup(t *testing.T) {
	eachWay(t, func(t *testing.T, nets *process.Nets) {
		t.Run("that ends is read to its end", func(t *testing.T) {
			within(t, func() {
				out := awaiting("late")
				s := shell(t, `(setsid sh -c 'touch up; while [ -e /proc/$0 ]; do sleep 0.02; done; echo late' $$ &); while ! [ -e up ]; do sleep 0.02; done; echo early`)
				s.Stdout, s.Nets = out, nets
				mustRun(t, t.Context(), s)
				if out.String() != "early\nlate\n" {
					t.Errorf("output %q", out.String())
				}
			})
		})
		t.Run("that stays is killed", func(t *testing.T) {
			within(t, func() {
				var out bytes.Buffer
				s := shell(t, daemon)
				s.Stdout, s.Nets, s.Linger = &out, nets, short
				if ex := mustRun(t, t.Context(), s); ex.Status != 0 || ex.Stopped != 0 {
					t.Errorf("Run = %+v", ex)
				}
				mustBeGone(t, out.String())
			})
		})
	})
}

func TestHolderThatCannotBeFoundIsLeftWithoutAReader(t *testing.T) {
	within(t, func() {
		var out bytes.Buffer
		pidFile := filepath.Join(t.TempDir(), "pid")
		s := shell(t, `(env -i setsid /bin/sh -c 'echo $$ >$0; echo text; exec sleep 300' $1 &); while ! [ -s $1 ]; do sleep 0.02; done`, pidFile)
		s.Stdout, s.Linger = &out, short
		mustRun(t, t.Context(), s)
		b, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		if !alive(strconv.Itoa(pid)) {
			t.Error("the test shows nothing: the process has ended")
		}
		syscall.Kill(pid, syscall.SIGKILL)
		if out.String() != "text\n" {
			t.Errorf("output %q", out.String())
		}
	})
}

func TestUnfoundWriterThatNeverStopsIsCut(t *testing.T) {
	within(t, func() {
		var out bytes.Buffer
		pidFile := filepath.Join(t.TempDir(), "pid")
		s := shell(t, `(env -i setsid /bin/sh -c 'echo $$ >$0; exec yes' $1 &); while ! [ -s $1 ]; do sleep 0.02; done`, pidFile)
		s.Stdout, s.Linger = &limited{w: &out}, short
		mustRun(t, t.Context(), s) // its next write ends it: nobody reads
	})
}

// limited keeps the first bytes only.
type limited struct{ w *bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if l.w.Len() < 1000 {
		l.w.Write(b[:min(len(b), 100)])
	}
	return len(b), nil
}

func TestManyAtOnceLeaveNothingBehind(t *testing.T) {
	eachWay(t, func(t *testing.T, nets *process.Nets) {
		mustRun(t, t.Context(), shell(t, "exit 0")) // what is made once
		process.OpenProc()                          // as a run that takes long does
		goroutines, files := runtime.NumGoroutine(), openFiles(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 10 {
					var out bytes.Buffer
					s := shell(t, "echo $0 $1; exit "+strconv.Itoa(i), strconv.Itoa(i))
					s.Stdout, s.Nets = &out, nets
					ex, err := process.Run(t.Context(), s)
					if err != nil || ex.Status != i || out.String() != "sh "+strconv.Itoa(i)+"\n" {
						t.Errorf("Run = %+v, %v, %q", ex, err, out.String())
					}
				}
			})
		}
		wg.Wait()
		nets.Close()
		for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; runtime.Gosched() { // some are returning
			if time.Now().After(end) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
			}
		}
		if n := openFiles(t); n > files {
			t.Errorf("%d open files, %d before", n, files)
		}
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func TestNoFileOfTheAgentIsInherited(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	s := shell(t, "readlink /proc/$$/fd/*")
	s.Stdout, s.Stdin = &out, strings.NewReader("x")
	mustRun(t, t.Context(), s)
	if strings.Contains(out.String(), f.Name()) || strings.Count(out.String(), "pipe:") < 2 {
		t.Errorf("open files:\n%s", out.String())
	}
}

func TestRunsAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can")
	}
	var out bytes.Buffer
	s := shell(t, "id -u; id -g; id -G")
	s.Dir, s.Stdout, s.User = "/", &out, &process.User{UID: 65534, GID: 65534}
	mustRun(t, t.Context(), s)
	if out.String() != "65534\n65534\n65534\n" {
		t.Errorf("ids %q", out.String())
	}
}
