package process

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// markOf returns a mark that no other test has, in this process or another, such as one
// that runs the same test.
func markOf(t *testing.T) string { return "MARK=" + t.Name() + "-" + strconv.Itoa(os.Getpid()) + "-" }

// state returns the letter that /proc has for what a process does.
func state(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:min(1, len(rest))]
}

// TestAllAreStoppedBeforeOneIsKilled shows that no process can make another while
// others are looked for.
func TestAllAreStoppedBeforeOneIsKilled(t *testing.T) {
	var pids []int
	for range 3 {
		cmd := exec.Command("/bin/sleep", "300")
		cmd.Env = []string{markOf(t)}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		pids = append(pids, cmd.Process.Pid)
	}
	s := seek([]string{markOf(t)}, brand{})
	looks := 0
	caught := s.stop(func(*sought) []int { // each look finds one more
		looks++
		if looks == 4 {
			return []int{1 << 30} // it has ended, and may have had a child
		}
		return append([]int{os.Getpid()}, pids[:min(looks, len(pids))]...)
	})
	if len(caught) != 3 || looks != 5 {
		t.Errorf("%d processes were caught with %d looks; want 3, and a 5th look that finds nobody new", len(caught), looks)
	}
	for _, pid := range pids {
		for end := time.Now().Add(10 * time.Second); state(pid) != "T"; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d is in state %q, want T", pid, state(pid))
			}
		}
	}
	for _, h := range caught {
		h.close()
	}
	s.kill(func(*sought) []int { return pids })
	for _, pid := range pids {
		if state(pid) != "Z" {
			t.Errorf("process %d is in state %q, want Z", pid, state(pid))
		}
	}
}

// A daemon forks and exits. When it is found dead, its child may be one that the
// same look did not see.
func TestAProcessFoundDeadMayHaveLeftAChild(t *testing.T) {
	var pids []int
	for range 2 {
		cmd := exec.Command("/bin/sleep", "300")
		cmd.Env = []string{markOf(t)}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		pids = append(pids, cmd.Process.Pid)
	}
	dead, child := pids[0], pids[1]
	unix.Kill(dead, unix.SIGKILL)
	waitExit(dead)
	looks := 0
	seek([]string{markOf(t)}, brand{}).kill(func(*sought) []int {
		if looks++; looks == 1 {
			return []int{dead}
		}
		return []int{dead, child}
	})
	if state(child) != "Z" {
		t.Errorf("the child is in state %q after %d looks, want Z", state(child), looks)
	}
	if looks > 6 {
		t.Errorf("there were %d looks, want an end of them though nobody reaps the dead", looks)
	}
}

func TestNumbersGivenOutMeanwhileAreAskedAbout(t *testing.T) {
	for _, c := range []struct {
		name  string
		lasts []int // what the kernel says, one time after the other
		want  []int
		ok    bool
	}{
		{"none", []int{7}, nil, true},
		{"some", []int{9, 9}, []int{8, 9}, true},
		{"more meanwhile", []int{9, 10, 12, 12}, []int{8, 9, 10, 11, 12}, true},
		{"begun anew", []int{9, 3}, []int{8, 9}, false},
		{"too many", []int{7 + maxNewcomers + 1}, nil, false},
	} {
		var asked []int
		ok := born(7, func() (int, bool) {
			n := c.lasts[0]
			c.lasts = c.lasts[1:]
			return n, true
		}, func(n int) { asked = append(asked, n) })
		if ok != c.ok || !slices.Equal(asked, c.want) {
			t.Errorf("%s: asked about %v, %t; want %v, %t", c.name, asked, ok, c.want, c.ok)
		}
	}
}

func TestDescendantsOfAShortRunAreLookedForByNumber(t *testing.T) {
	last, ok := lastPid()
	if !ok {
		t.Skip("this kernel does not tell the last number")
	}
	mark := markOf(t)
	var pids []int
	for range 2 {
		cmd := exec.Command("/bin/sleep", "300")
		cmd.Env = []string{mark}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		pids = append(pids, cmd.Process.Pid)
	}
	if pids[0] <= last || pids[1] < pids[0] {
		t.Skip("the kernel has just begun anew")
	}
	s := seek([]string{mark}, brand{})
	for _, c := range []struct {
		name string
		look look
		want []int
	}{
		{"by number", newcomers(pids[0], time.Now()), pids[1:]},
		{"after a long run", newcomers(pids[0], time.Now().Add(-time.Hour)), pids},
		{"when numbers began anew", newcomers(1<<22, time.Now()), pids},
		{"when many were given out", newcomers(pids[0]-maxNewcomers-1, time.Now()), pids},
		{"everyone", everyone, pids},
	} {
		found := c.look(s)
		slices.Sort(found)
		if !slices.Equal(found, c.want) {
			t.Errorf("%s: found %v, want %v", c.name, found, c.want)
		}
	}
}

// TestWhoeverLooksAtTheSameTimeLooksTogether holds up one round, so that all
// others wait for the next.
func TestWhoeverLooksAtTheSameTimeLooksTogether(t *testing.T) {
	var pids []int
	for i := range 3 {
		cmd := exec.Command("/bin/sleep", "300")
		cmd.Env = []string{markOf(t) + strconv.Itoa(i)}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		pids = append(pids, cmd.Process.Pid)
	}
	var c rounds
	c.turn.Lock()
	var wg sync.WaitGroup
	for i, pid := range pids {
		wg.Go(func() {
			if found := c.find(seek([]string{markOf(t) + strconv.Itoa(i)}, brand{})); !slices.Equal(found, []int{pid}) {
				t.Errorf("found %v, want %d", found, pid)
			}
		})
	}
	waiting := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.next == nil {
			return 0
		}
		return len(c.next.sought)
	}
	for waiting() < len(pids) {
		runtime.Gosched()
	}
	c.turn.Unlock()
	wg.Wait()
}

func TestWhoIsBornDuringALookIsFound(t *testing.T) {
	if _, ok := lastPid(); !ok {
		t.Skip("this kernel does not tell the last number")
	}
	mark := markOf(t)
	cmd := exec.Command("/bin/sleep", "300")
	cmd.Env = []string{mark}
	r := &round{sought: []*sought{seek([]string{mark}, brand{})}}
	r.look(func() []int { // a list that is read before the process is there
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return nil
	})
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if !slices.Equal(r.found[0], []int{cmd.Process.Pid}) {
		t.Errorf("found %v, want %d", r.found[0], cmd.Process.Pid)
	}
}

// TestProcessesAreFoundWithoutHandles does as on a kernel before 5.3.
func TestProcessesAreFoundWithoutHandles(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &handle{cmd.Process.Pid, -1}
	if h.dead() {
		t.Error("a process that runs is said to be dead")
	}
	h.signal(9)
	h.await(time.Now().Add(10 * time.Second))
	if !h.dead() || state(h.pid) != "Z" {
		t.Errorf("a killed process is in state %q, dead = %v", state(h.pid), h.dead())
	}
	cmd.Wait()
	if !h.dead() {
		t.Error("a process that was reaped is not said to be dead")
	}
}

// TestProcessesAreFoundWithoutFiles looks while this process can open nothing: a task
// that has more processes than an agent may have files is the reason, and others end too.
func TestProcessesAreFoundWithoutFiles(t *testing.T) {
	b, err := openBrands(t.TempDir(), nil)
	if err != nil {
		t.Skip(err)
	}
	one := b.acquire()
	var cmds []*exec.Cmd
	for range 3 {
		cmd := exec.Command("/bin/sleep", "300")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		one.set(cmd.Process.Pid)
		cmds = append(cmds, cmd)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	seek(nil, one).kill(everyone)
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); e != nil {
		t.Fatal(e)
	}
	if err == nil {
		f.Close()
		t.Fatal("a file could be opened all the same")
	}
	for _, cmd := range cmds {
		if s := state(cmd.Process.Pid); s != "Z" {
			t.Errorf("a process is in state %q, want Z: killed", s)
		}
	}
}
