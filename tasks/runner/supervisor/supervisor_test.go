//go:build linux

package supervisor_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/helper"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/supervisor"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

func TestMain(m *testing.M) {
	helper.Run(map[string]func() int{supervisor.Name: supervisor.Main, "agent": agent})
	back := moveAside()
	status := m.Run()
	back()
	os.Exit(status)
}

// moveAside moves this process, and so the agents that it starts, into a cgroup of its
// own, where there are cgroups: an agent of another test on this machine that starts
// would else remove those of an agent that is killed here.
func moveAside() (back func()) {
	back = func() {}
	dir, err := os.MkdirTemp("", "scagent-test-")
	if err != nil {
		return back
	}
	defer os.RemoveAll(dir)
	n, err := process.OpenNets(process.Brood{Dir: dir}, nil, quiet)
	if err != nil || n.Brood().Cgroup == "" {
		return back
	}
	defer n.Close()
	base := filepath.Dir(n.Brood().Cgroup)
	aside, err := os.MkdirTemp(base, "supervisor-test.")
	if err != nil {
		return back
	}
	move := func(to string) error {
		return os.WriteFile(to+"/cgroup.procs", []byte(strconv.Itoa(os.Getpid())), 0)
	}
	if move(aside) != nil {
		os.Remove(aside)
		return back
	}
	return func() {
		if err := errors.Join(move(base), os.Remove(aside)); err != nil {
			fmt.Println(err)
		}
	}
}

var quiet = log.New(io.Discard, "", 0)

// patience is how long tests wait for what should come at once.
const patience = 20 * time.Second

// agent is a process that does of an agent what matters here: it runs a task that
// leaves processes in every way, says so, and closes when its input ends.
func agent() int {
	if os.Getenv("NO_CGROUPS") != "" {
		mounts, _ := os.ReadFile("/proc/self/mountinfo")
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, " - cgroup2 ") {
				unix.Unmount(strings.Fields(line)[4], unix.MNT_DETACH)
			}
		}
	}
	s, err := supervisor.Open(supervisor.Config{Root: os.Getenv("ROOT"), Helper: true, Remove: os.Getenv("REMOVE"), Logger: log.New(os.Stderr, "", 0)})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if want := os.Getenv("NO_CGROUPS") == ""; want != (s.Nets().Brood().Cgroup != "") {
		fmt.Println("cgroups: want", want)
		return 1
	}
	at := &tasks.Attempt{Task: &tasks.Task{}, N: 1, Stdout: os.Stdout, Stderr: os.Stderr}
	rand.Read(at.ID[:]) // that no other agent has: stray processes are found, and killed, by it
	cfg := &workdir.Config{Root: s.Dir(), Nets: s.Nets()}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		workdir.Run(ctx, cfg, at, func(d *workdir.Dir, spec *process.Spec) tasks.Outcome {
			if path := os.Getenv("ELSEWHERE"); path != "" {
				if err := d.Elsewhere(path); err != nil {
					fmt.Println(err)
				}
			}
			m := os.Getenv("MARKER")
			spec.Argv = []string{"/bin/sh", "-c", `mkdir -p a/b && chmod 500 a
				(env -i setsid /bin/sleep ` + m + ` </dev/null >/dev/null 2>&1 &)
				setsid sleep ` + m + ` >/dev/null 2>&1 &
				sleep ` + m + ` &
				echo ready; ls /proc/self/fd | wc -l
				exec sleep ` + m}
			if root := os.Getenv("INNER_ROOT"); root != "" {
				spec.Argv = []string{"/proc/self/exe", "__agent"}
				spec.Env = append(spec.Env, "ROOT="+root, "MARKER="+m, "NO_CGROUPS="+os.Getenv("NO_CGROUPS"))
				spec.Stdin, _ = io.Pipe() // that does not end
			}
			ex, err := process.Run(ctx, spec)
			if err != nil {
				fmt.Println(err)
			}
			return ex.Outcome(ctx)
		})
	}()
	io.Copy(io.Discard, os.Stdin)
	cancel(&tasks.StopError{Reason: tasks.StopKill})
	<-done
	if err := s.Close(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

var markers atomic.Int64

// fixture is an agent that runs, and what it left.
type fixture struct {
	t      *testing.T
	marker string
	root   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	out    *bufio.Reader
}

// start starts an agent, and waits for its four processes and for all that they write.
func start(t *testing.T, root string, change func(*exec.Cmd)) *fixture {
	t.Helper()
	f := &fixture{t: t, marker: fmt.Sprintf("87654.%07d%06d", os.Getpid(), markers.Add(1)), root: root}
	cmd, err := helper.Command("agent")
	if err != nil {
		t.Fatal(err)
	}
	f.cmd = cmd
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ROOT=" + root, "MARKER=" + f.marker}
	if change != nil {
		change(cmd)
	}
	if f.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		for _, pid := range f.tasks() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if line, err := f.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the agent says %q, %v", line, err)
	}
	if line, err := f.out.ReadString('\n'); err != nil { // how many files the task has open
		t.Fatalf("the agent says %q, %v", line, err)
	}
	f.await("four processes of the task", func() bool { return len(f.tasks()) == 4 })
	return f
}

// await waits until ok.
func (f *fixture) await(what string, ok func() bool) time.Duration {
	f.t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > patience {
			f.t.Fatalf("not after %v: %s; of the task %v run; %v is there", patience, what, f.tasks(), f.dirs())
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(begin)
}

// processes returns those of which ok holds.
func processes(ok func(pid int, argv []string) bool) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if len(b) > 0 && ok(pid, strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// tasks returns the processes that sleep for the agent's task.
func (f *fixture) tasks() []int {
	return processes(func(_ int, argv []string) bool { return len(argv) == 2 && argv[1] == f.marker })
}

// supervisors returns the supervisor processes that are children of the agent.
func (f *fixture) supervisors() []int { return helpersOf(f.cmd.Process.Pid, "__supervisor") }

// helpersOf returns the children of a process that do a helper's work.
func helpersOf(parent int, name string) []int {
	return processes(func(pid int, argv []string) bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		return len(argv) == 2 && argv[1] == name && len(fields) > 1 && fields[1] == strconv.Itoa(parent)
	})
}

// supervisor returns the supervisor process, once it is ready for signals.
func (f *fixture) supervisor() int {
	f.t.Helper()
	return f.supervisorOf(f.cmd.Process.Pid)
}

func (f *fixture) supervisorOf(agent int) int {
	f.t.Helper()
	pid := 0
	f.await("one supervisor process that ignores SIGTERM", func() bool {
		pids := helpersOf(agent, "__supervisor")
		if len(pids) != 1 {
			return false
		}
		pid = pids[0]
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, mask, _ := strings.Cut(string(b), "SigIgn:\t")
		mask, _, _ = strings.Cut(mask, "\n")
		n, _ := strconv.ParseUint(mask, 16, 64)
		return n&(1<<(syscall.SIGTERM-1)) != 0
	})
	return pid
}

// dirs returns what is in the root directory.
func (f *fixture) dirs() []string {
	entries, err := os.ReadDir(f.root)
	if err != nil {
		f.t.Error(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// cgroup returns the cgroup of the agent's tasks.
func (f *fixture) cgroup() string {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.root, f.dirs()[0], ".brood"))
	if err != nil {
		f.t.Fatal(err)
	}
	_, path, _ := strings.Cut(string(b), `"Cgroup":"`)
	path, _, _ = strings.Cut(path, `"`)
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func kill(pid int, sig syscall.Signal) { syscall.Kill(pid, sig) }

// eachWay runs a test with cgroups and without, where that can be chosen.
func eachWay(t *testing.T, fn func(t *testing.T, change func(*exec.Cmd))) {
	t.Run("cgroups", func(t *testing.T) {
		n, err := process.OpenNets(process.Brood{Dir: t.TempDir()}, nil, quiet)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if n.Brood().Cgroup == "" {
			t.Skip("there are no cgroups")
		}
		fn(t, func(*exec.Cmd) {})
	})
	t.Run("no cgroups", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root can hide the cgroups")
		}
		fn(t, withoutCgroups)
	})
}

func withoutCgroups(cmd *exec.Cmd) {
	cmd.Env = append(cmd.Env, "NO_CGROUPS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
}

func TestNothingIsLeftOfAKilledAgent(t *testing.T) {
	eachWay(t, func(t *testing.T, way func(*exec.Cmd)) {
		elsewhere, temporary := filepath.Join(t.TempDir(), "x"), filepath.Join(t.TempDir(), "y")
		for _, d := range []string{elsewhere, temporary} {
			if err := os.MkdirAll(d+"/sub", 0o500); err != nil {
				t.Fatal(err)
			}
		}
		f := start(t, t.TempDir(), func(cmd *exec.Cmd) {
			way(cmd)
			cmd.Env = append(cmd.Env, "ELSEWHERE="+elsewhere, "REMOVE="+temporary)
		})
		cgroup, pid := f.cgroup(), f.supervisor()
		if sid, err := unix.Getsid(pid); err != nil || sid != pid {
			t.Errorf("the supervisor process is in the session %d, %v; want its own", sid, err)
		}
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
			kill(pid, sig)
		}
		kill(f.cmd.Process.Pid, syscall.SIGKILL)
		t.Logf("gone after %v", f.await("the processes are gone", func() bool { return len(f.tasks()) == 0 }))
		f.await("the directories are gone", func() bool {
			return len(f.dirs()) == 0 && !exists(elsewhere) && !exists(temporary) && (cgroup == "" || !exists(cgroup))
		})
		f.await("the supervisor process is gone", func() bool { return gone(pid) })
		if text, err := io.ReadAll(f.out); err != nil || len(text) > 0 {
			t.Errorf("the agent wrote %q, %v; want its output to end", text, err)
		}
	})
}

// gone reports whether there is no such process any more.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestNothingIsLeftAfterTheNextStart(t *testing.T) {
	eachWay(t, func(t *testing.T, way func(*exec.Cmd)) {
		root, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "x")
		if err := os.MkdirAll(elsewhere+"/sub", 0o500); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/of an older version", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Symlink("/usr", root+"/link")
		f := start(t, root, func(cmd *exec.Cmd) {
			way(cmd)
			cmd.Env = append(cmd.Env, "ELSEWHERE="+elsewhere)
		})
		other := start(t, t.TempDir(), way)
		f.await("what was there is removed", func() bool { return len(f.dirs()) == 1 })
		cgroup := f.cgroup()
		pid := f.supervisor()
		kill(pid, syscall.SIGSTOP) // else it might be faster than the second signal
		kill(f.cmd.Process.Pid, syscall.SIGKILL)
		kill(pid, syscall.SIGKILL)
		f.cmd.Process.Wait()
		if len(f.tasks()) == 0 || len(f.dirs()) != 1 {
			t.Fatal("the test shows nothing: there is nothing left to remove")
		}

		begin := time.Now()
		s, err := supervisor.Open(supervisor.Config{Root: root, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if pids := f.tasks(); len(pids) > 0 {
			t.Errorf("after the next start %v run", pids)
		}
		t.Logf("the next start took %v", time.Since(begin))
		f.await("the directories are gone", func() bool {
			return len(f.dirs()) == 1 && f.dirs()[0] == filepath.Base(s.Dir()) && !exists(elsewhere) && (cgroup == "" || !exists(cgroup))
		})
		if n := len(other.tasks()); n != 4 || len(other.dirs()) != 1 {
			t.Errorf("another agent has %d processes, and %v; want 4 and 1", n, other.dirs())
		}
		if !exists("/usr/bin") {
			t.Error("a link was followed")
		}
	})
}

func TestACleanEndLeavesNothing(t *testing.T) {
	eachWay(t, func(t *testing.T, way func(*exec.Cmd)) {
		temporary := t.TempDir()
		f := start(t, t.TempDir(), func(cmd *exec.Cmd) {
			way(cmd)
			cmd.Env = append(cmd.Env, "REMOVE="+temporary)
		})
		pid, cgroup := f.supervisor(), f.cgroup()
		f.stdin.Close()
		text, _ := io.ReadAll(f.out)
		if err := f.cmd.Wait(); err != nil || len(text) > 0 {
			t.Errorf("the agent ended with %v and wrote %q", err, text)
		}
		if len(f.tasks()) > 0 || len(f.dirs()) > 0 || cgroup != "" && exists(cgroup) {
			t.Errorf("of the task %v run, %v is there, and %s", f.tasks(), f.dirs(), cgroup)
		}
		if !gone(pid) {
			t.Error("the supervisor process is still there")
		}
		if !exists(temporary) {
			t.Error("a directory was removed that the agent removes itself when it ends")
		}
	})
}

func TestAKilledSupervisorIsReplaced(t *testing.T) {
	var logged bytes.Buffer
	f := start(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = &logged })
	first := f.supervisor()
	kill(first, syscall.SIGKILL)
	f.await("another supervisor process runs", func() bool {
		pids := f.supervisors()
		return len(pids) == 1 && pids[0] != first
	})
	if len(f.tasks()) != 4 {
		t.Errorf("of the task %v run, want all four", f.tasks())
	}
	f.supervisor()
	kill(f.cmd.Process.Pid, syscall.SIGKILL)
	f.await("all is gone", func() bool { return len(f.tasks()) == 0 && len(f.dirs()) == 0 })
	f.cmd.Wait()
	if n := strings.Count(logged.String(), "[WARN] supervisor: the supervisor process has ended"); n != 1 {
		t.Errorf("the agent logged %q", logged.String())
	}
}

func TestAStuckSupervisorDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	f := start(t, t.TempDir(), nil)
	kill(f.supervisor(), syscall.SIGSTOP)
	f.stdin.Close()
	io.Copy(io.Discard, f.out)
	if err := f.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if len(f.tasks()) > 0 || len(f.dirs()) > 0 {
		t.Errorf("of the task %v run, %v is there", f.tasks(), f.dirs())
	}
}

func TestTheSupervisorHasNoFilesOfTheAgent(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	file, err := os.Create(secret)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	eachWay(t, func(t *testing.T, way func(*exec.Cmd)) {
		f := start(t, t.TempDir(), func(cmd *exec.Cmd) {
			way(cmd)
			cmd.ExtraFiles = []*os.File{file, file, file}
		})
		for name, pids := range map[string][]int{"the supervisor process": {f.supervisor()}, "a task": f.tasks()} {
			for _, pid := range pids {
				files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
				if len(files) < 3 {
					t.Errorf("%s: the files of %d are not to be seen", name, pid)
				}
				for _, path := range files {
					to, _ := os.Readlink(path)
					n, _ := strconv.Atoi(filepath.Base(path))
					switch {
					case to == secret:
						t.Errorf("%s has inherited a file that the agent was started with", name)
					case name == "a task":
					case n < 3 && to != "/dev/null":
						t.Errorf("%s: standard file %d is %s", name, n, to)
					case n >= 3 && (strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/sys/") && !strings.Contains(to, ".groups-")):
						t.Errorf("%s has %s open", name, to)
					}
				}
			}
		}
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", f.supervisor())); err != nil || bytes.Contains(env, []byte("PATH")) {
			t.Errorf("its environment is %q, %v", env, err)
		}
	})
}

// TestAnAgentThatIsATask kills an agent by what its task is known by: the tasks of
// the agent that this is are known by something else.
func TestAnAgentThatIsATask(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can hide the cgroups")
	}
	inner := t.TempDir()
	f := start(t, t.TempDir(), func(cmd *exec.Cmd) {
		withoutCgroups(cmd)
		cmd.Env = append(cmd.Env, "INNER_ROOT="+inner)
	})
	// From then on it is known by nothing of the outer agent's.
	f.await("the inner agent", func() bool { return len(helpersOf(f.cmd.Process.Pid, "__agent")) == 1 })
	f.supervisorOf(helpersOf(f.cmd.Process.Pid, "__agent")[0])
	f.stdin.Close()
	if err := f.cmd.Wait(); err != nil {
		t.Error(err)
	}
	f.root = inner
	f.await("the inner task is gone", func() bool { return len(f.tasks()) == 0 && len(f.dirs()) == 0 })
}

func TestWhatIsNoTaskHasAMarkOfItsOwn(t *testing.T) {
	for _, c := range []struct {
		name string
		mark func(string) string
		want func(string) string
	}{
		{"tasks", nil, workdir.Mark},
		{"others", func(dir string) string { return "X=" + dir + "/" }, func(dir string) string { return "X=" + dir + "/" }},
	} {
		s, err := supervisor.Open(supervisor.Config{Root: t.TempDir(), Mark: c.mark, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		record, err := os.ReadFile(filepath.Join(s.Dir(), ".brood"))
		var b process.Brood
		if err == nil {
			err = json.Unmarshal(record, &b)
		}
		if want := c.want(s.Dir()); err != nil || b.Mark != want || s.Nets().Brood().Mark != want {
			t.Errorf("%s: the mark is %q, on disk %q, %v, want %q", c.name, s.Nets().Brood().Mark, b.Mark, err, want)
		}
	}
}
