//go:build linux

package process_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// escapes are ways to get away from a task. Each leaves processes that have its
// name, $M, among their arguments.
var escapes = []struct {
	name, line string
	unmarked   bool // no environment shows whose it is
}{
	{"a child", `sleep $M &`, false},
	{"nohup", `nohup sleep $M >/dev/null 2>&1 &`, false},
	{"setsid", `setsid sleep $M >/dev/null 2>&1 &`, false},
	{"setsid, holding the output", `setsid sleep $M &`, false},
	{"double fork", `(setsid sh -c "sleep $M & exit" </dev/null >/dev/null 2>&1 &)`, false},
	{"own environment", `env -i setsid sleep $M >/dev/null 2>&1 &`, true},
	{"daemon", `(cd / && env -i setsid /bin/sh -c "/bin/sleep $M & exit" </dev/null >/dev/null 2>&1 &)`, true},
	{"daemon, holding the output", `(env -i setsid /bin/sh -c "/bin/sleep $M & exit" &)`, true},
	{"ignores signals", `env -i setsid /bin/sh -c "trap '' TERM HUP INT; while :; do /bin/sleep $M; done" </dev/null >/dev/null 2>&1 &`, true},
	{"stops itself", `env -i setsid /bin/sh -c "kill -STOP \$\$; : $M" </dev/null >/dev/null 2>&1 &`, true},
	{"starts again what is killed", `env -i setsid /bin/sh -c "while :; do /bin/sleep $M & /bin/sleep $M & wait; done" </dev/null >/dev/null 2>&1 &`, true},
}

// marker returns the argument that the processes of one escape of a test have: a
// time that nobody sleeps.
func marker(i int) string {
	return fmt.Sprintf("98765.%07d%06d%02d", os.Getpid(), attempts.Add(1), i)
}

// have returns the processes that have the text among their arguments.
func have(t *testing.T, text string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Fatalf("no processes are to be seen: %v", err)
	}
	for _, f := range files {
		if b, _ := os.ReadFile(f); bytes.Contains(b, []byte(text)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// awaitSleep waits until n processes with the text have become the sleep that they
// are meant to be: each was a shell before, and in the middle of an exec is nothing.
func awaitSleep(t *testing.T, text string, n int) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		pids := have(t, text)
		asleep := 0
		for _, pid := range pids {
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.TrimPrefix(string(b), "/bin/") == "sleep\x00"+text+"\x00" {
				asleep++
			}
		}
		if asleep == n {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("of the processes %v with %s only %d sleep, want %d", pids, text, asleep, n)
		}
	}
}

// nobody is as whom "groups" run.
var nobody = &process.User{Name: "nobody", UID: 65534, GID: 65534}

// eachNet runs a test with each of the nets that there are.
func eachNet(t *testing.T, fn func(t *testing.T, nets *process.Nets, u *process.User)) {
	t.Run("marks", func(t *testing.T) { fn(t, nil, nil) })
	for _, way := range process.Ways {
		t.Run(way, func(t *testing.T) {
			var u *process.User
			if way == "groups" {
				if os.Getuid() != 0 {
					t.Skip("only root can run programs as another user")
				}
				u = nobody
			}
			nets, err := process.OpenWay(way, t.TempDir(), u)
			if err != nil {
				t.Skip(err)
			}
			defer nets.Close()
			fn(t, nets, u)
		})
	}
}

// open makes a directory that every user may write to.
func open(t *testing.T) string {
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestNothingSurvivesItsTask starts a task that tries all escapes at once, and
// ends it in each way.
func TestNothingSurvivesItsTask(t *testing.T) {
	eachNet(t, func(t *testing.T, nets *process.Nets, u *process.User) {
		for _, end := range []string{"ends", "fails", "cancel", "timeout", "kill"} {
			t.Run(end, func(t *testing.T) {
				within(t, func() { tryEscapes(t, nets, u, end) })
			})
		}
	})
}

func tryEscapes(t *testing.T, nets *process.Nets, u *process.User, end string) {
	var lines strings.Builder
	markers := make(map[string]string)
	for i, e := range escapes {
		m := marker(i)
		markers[e.name] = m
		fmt.Fprintln(&lines, strings.ReplaceAll(e.line, "$M", m))
	}
	t.Cleanup(func() { // whatever the test finds, nothing stays
		for _, m := range markers {
			for _, pid := range have(t, m) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	status := map[string]int{"fails": 3}[end]
	fmt.Fprintf(&lines, "while ! [ -e go ]; do sleep 0.02; done; exit %d", status)

	dir := open(t)
	script := filepath.Join(dir, "script") // so that the main process has no marker
	if err := os.WriteFile(script, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	s := shell(t, ". ./script")
	out, kill := awaiting(""), make(chan struct{})
	s.Dir, s.Stdout, s.Stderr, s.Nets, s.User = dir, out, out, nets, u
	s.Grace, s.Linger, s.Kill = short, short, kill
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	type result struct {
		process.Exit
		err error
	}
	done := make(chan result)
	go func() {
		ex, err := process.Run(ctx, s)
		done <- result{ex, err}
	}()
	for e, m := range markers {
		for limit := time.Now().Add(20 * time.Second); len(have(t, m)) == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("%s: it has not started; output %q", e, out.String())
			}
		}
	}
	reason := map[string]tasks.StopReason{"cancel": tasks.StopCancel, "timeout": tasks.StopTimeout, "kill": tasks.StopKill}[end]
	switch end {
	case "cancel", "timeout":
		cancel(&tasks.StopError{Reason: reason})
	case "kill":
		close(kill)
	default:
		if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ex := <-done
	if ex.err != nil || ex.Stopped != reason || reason == 0 && ex.Status != status {
		t.Fatalf("Run = %+v; output %q", ex, out.String())
	}
	for _, e := range escapes {
		if e.unmarked && nets == nil {
			continue // not promised with marks alone
		}
		if pids := have(t, markers[e.name]); len(pids) > 0 {
			t.Errorf("%s: the processes %v still run", e.name, pids)
		}
	}
}

// TestOthersAreSpared ends one task while another, and its daemon, run.
func TestOthersAreSpared(t *testing.T) {
	eachNet(t, func(t *testing.T, nets *process.Nets, u *process.User) {
		within(t, func() {
			m := marker(0)
			out, kill := awaiting("ready"), make(chan struct{})
			other := shell(t, `(env -i setsid /bin/sleep `+m+` </dev/null >/dev/null 2>&1 &); setsid sleep `+m+` >/dev/null 2>&1 & echo ready; exec sleep `+m)
			other.Stdout, other.Nets, other.User, other.Kill, other.Dir = out, nets, u, kill, "/"
			done := make(chan process.Exit)
			go func() { done <- mustRun(t, t.Context(), other) }()
			<-out.seen
			awaitSleep(t, m, 3)
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(&tasks.StopError{Reason: tasks.StopKill})
			for _, ctx := range []context.Context{t.Context(), ctx} {
				s := shell(t, "true")
				s.Nets, s.User, s.Dir = nets, u, "/"
				mustRun(t, ctx, s)
			}
			if pids := have(t, m); len(pids) != 3 {
				t.Errorf("after another task has ended, %v of the three run", pids)
			}
			close(kill)
			<-done
			for _, pid := range have(t, m) {
				if nets != nil {
					t.Errorf("process %d still runs", pid)
				}
				syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	})
}

// TestCloseKillsWhatStillRuns closes nets under a task, as an agent does whose
// runner does not return.
func TestCloseKillsWhatStillRuns(t *testing.T) {
	eachNet(t, func(t *testing.T, nets *process.Nets, u *process.User) {
		if nets == nil {
			t.Skip("there is nothing to close")
		}
		within(t, func() {
			out := awaiting("ready")
			s := shell(t, "echo ready; exec sleep 300")
			s.Stdout, s.Nets, s.User, s.Dir, s.Marks = out, nets, u, "/", nil
			done := make(chan process.Exit)
			go func() { done <- mustRun(t, t.Context(), s) }()
			<-out.seen
			if err := nets.Close(); err != nil {
				t.Error(err)
			}
			if ex := <-done; ex.Signal != "SIGKILL" || ex.Stopped != 0 {
				t.Errorf("Run = %+v, want SIGKILL", ex)
			}
		})
	})
}

// TestABroodIsKilledByWhoKnowsIt kills what two agents have started as their
// supervisors would, one after the other.
func TestABroodIsKilledByWhoKnowsIt(t *testing.T) {
	for name, u := range map[string]*process.User{"own user": nil, "another user": nobody} {
		t.Run(name, func(t *testing.T) {
			if u != nil && os.Getuid() != 0 {
				t.Skip("only root can run programs as another user")
			}
			within(t, func() {
				var broods []process.Brood
				markers := []string{marker(0), marker(1)}
				for i, m := range markers {
					dir := t.TempDir()
					nets, err := process.OpenAny(process.Brood{Dir: dir, Mark: fmt.Sprintf("BROOD=%s-%d/", idOf(t), i)}, u)
					if err != nil {
						t.Fatal(err)
					}
					defer nets.Close()
					broods = append(broods, nets.Brood())
					s := shell(t, `(env -i setsid /bin/sleep `+m+` </dev/null >/dev/null 2>&1 &); setsid sleep `+m+` >/dev/null 2>&1 & exec sleep `+m)
					s.Nets, s.User, s.Dir = nets, u, "/"
					s.Env = append(s.Env, fmt.Sprintf("BROOD=%s-%d/1", idOf(t), i))
					kill, done := make(chan struct{}), make(chan struct{})
					s.Kill = kill
					go func() { defer close(done); mustRun(t, t.Context(), s) }()
					defer func() { close(kill); <-done }()
				}
				for _, m := range markers {
					awaitSleep(t, m, 3)
				}
				broods[0].Kill()
				if pids := have(t, markers[0]); len(pids) > 0 {
					t.Errorf("of the brood that was killed %v run", pids)
				}
				if pids := have(t, markers[1]); len(pids) != 3 {
					t.Errorf("of the other brood %v run, want three", pids)
				}
				broods[1].Kill()
				if pids := have(t, markers[1]); len(pids) > 0 {
					t.Errorf("of the second brood %v run", pids)
				}
			})
		})
	}
}

func TestABroodWithoutAMarkSparesOthers(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "300")
	cmd.Env = []string{"A=b"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	b := process.Brood{Dir: t.TempDir()}
	b.Kill()
	if !alive(strconv.Itoa(cmd.Process.Pid)) {
		t.Error("a process was killed that is in no brood")
	}
}

func TestMarksAreOfWholeEntries(t *testing.T) {
	start := func(env ...string) string {
		cmd := exec.Command("/bin/sleep", "300")
		cmd.Env = env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return strconv.Itoa(cmd.Process.Pid)
	}
	id := "SCAGENT_TASK_ID=" + idOf(t)
	pids := map[string]string{
		"first": start(id, "SCAGENT_ATTEMPT=1", "X=y"), "last": start("X=y", "SCAGENT_ATTEMPT=1", id),
		"another attempt": start(id, "SCAGENT_ATTEMPT=12"), "a longer id": start(id+"2", "SCAGENT_ATTEMPT=1"),
		"inside of another entry": start("X="+id, "SCAGENT_ATTEMPT=1"), "nothing": start(),
	}
	s := shell(t, "sleep 0.3") // long enough for all processes to be looked at
	s.Env = append(s.Env, id, "SCAGENT_ATTEMPT=1")
	s.Marks = []string{id, "SCAGENT_ATTEMPT=1"}
	mustRun(t, t.Context(), s)
	for _, name := range slices.Sorted(maps.Keys(pids)) {
		if want := name != "first" && name != "last"; alive(pids[name]) != want {
			t.Errorf("%s: alive = %v, want %v", name, !want, want)
		}
	}
}

// asNobody runs a test again as a user without rights, and reports whether this
// is that run.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody.UID, Gid: nobody.GID}}
	out, err := cmd.CombinedOutput()
	t.Logf("as nobody: %s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) && !bytes.Contains(out, []byte("--- SKIP: "+t.Name())) {
		t.Errorf("as nobody: %v", err)
	}
	return false
}

// TestABombIsDefused lets processes that fork without end fill a limit, and ends
// them.
func TestABombIsDefused(t *testing.T) {
	if !asNobody(t) {
		return
	}
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("needs perl, which forks fast")
	}
	nets, err := process.OpenWay("brands", t.TempDir(), nil)
	if err != nil {
		t.Skip(err)
	}
	defer nets.Close()
	within(t, func() {
		m := marker(0)
		// Each starts others in sessions of their own, for ever.
		s := shell(t, "")
		s.Argv = []string{perl, "-e", "use POSIX; while (1) { POSIX::setsid() if defined(my $p = fork) && !$p }", m}
		s.Nets, s.Marks, s.Limits.Processes, s.Grace = nets, nil, 60, short
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			for limit := time.Now().Add(20 * time.Second); len(have(t, m)) < 20 && time.Now().Before(limit); {
				time.Sleep(5 * time.Millisecond)
			}
			cancel(&tasks.StopError{Reason: tasks.StopKill})
		}()
		ex := mustRun(t, ctx, s)
		if ex.Stopped != tasks.StopKill {
			t.Errorf("Run = %+v", ex)
		}
		if pids := have(t, m); len(pids) > 0 {
			t.Errorf("%d processes still run", len(pids))
			nets.Close()
		}
	})
}
