//go:build linux

package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/helper"
	"github.com/scagent/scagent/tasks/runner/process"
)

func TestCallGoesThrough(t *testing.T) {
	p := newWorkers(t)
	out := p.Call(t.Context(), &tasks.Attempt{}, &Script{Source: "echo", Args: []json.RawMessage{[]byte(`"a"`), []byte("{}")}, Seed: [2]uint64{5, 1 << 63}})
	if string(out.Value) != `[5,9223372036854775808,["a",{}]]` || out.Encoding != tasks.JSON {
		t.Errorf("echo = %+v", out)
	}
	var stdout, stderr bytes.Buffer
	out = p.Call(t.Context(), &tasks.Attempt{Stdout: &stdout, Stderr: &stderr}, &Script{Source: "print"})
	if out.Code != tasks.OK || stdout.String() != strings.Repeat("o", 100_000) || stderr.String() != strings.Repeat("e", 70_000) {
		t.Errorf("print = %+v with %d and %d bytes of output", out, stdout.Len(), stderr.Len())
	}
	out = p.Call(t.Context(), &tasks.Attempt{}, &Script{Source: "nothing useful"})
	if out.Code != tasks.Failed || out.Text != strings.Repeat("é", maxTextBytes/2) {
		t.Errorf("a long line came as %v, %d bytes", out.Code, len(out.Text))
	}
	out = p.Call(t.Context(), &tasks.Attempt{}, &Script{Source: strings.Repeat("x", maxCallBytes)})
	if out.Code != tasks.BadInput || out.Text != "the source and its arguments take 1572892 bytes, at most 1572864; send data as files" {
		t.Errorf("too large a call = %v %q", out.Code, out.Text)
	}
}

func TestNobodyKnowsTheHelper(t *testing.T) {
	if _, err := New(Config{Helper: "none"}); !errors.Is(err, helper.ErrUnavailable) {
		t.Errorf("New = %v, want ErrUnavailable", err)
	}
}

func TestNothingIsStartedBeforeTheFirstCall(t *testing.T) {
	p := newWorkers(t)
	if n := len(offspring(t)); n != 0 {
		t.Fatalf("a new pool has %d children", n)
	}
	value(t, p, "echo")
	await(t, "a child that works and one that waits", func() bool { return len(offspring(t)) == 2 })
}

func TestSameChildIsCalledAgain(t *testing.T) {
	p := newWorkers(t)
	first := value(t, p, "pid")
	for range 100 {
		if pid := value(t, p, "pid"); pid != first {
			t.Fatalf("calls one after the other went to %s and %s", first, pid)
		}
	}
}

func TestWornChildIsReplaced(t *testing.T) {
	p := newWorkers(t)
	pid := value(t, p, "pid")
	c, err := p.get(t.Context())
	if err != nil || strconv.Itoa(c.cmd.Process.Pid) != pid {
		t.Fatalf("get = %v, %v, want the child %s", c, err, pid)
	}
	c.number = maxCalls - 1
	p.put(c, true)
	if last := value(t, p, "pid"); last != pid {
		t.Errorf("call %d went to another child", maxCalls)
	}
	if next := value(t, p, "pid"); next == pid {
		t.Errorf("call %d went to the same child", maxCalls+1)
	}
	await(t, "the worn child is gone", func() bool { return isGone(atoi(t, pid)) })
}

func TestChildThatHoldsMemoryIsReplaced(t *testing.T) {
	p := newWorkers(t)
	pid := value(t, p, "hold")
	if next := value(t, p, "pid"); next == pid {
		t.Error("a child that holds more than maxHeld was called again")
	}
	await(t, "that child is gone", func() bool { return isGone(atoi(t, pid)) })
}

func TestIdleChildrenEnd(t *testing.T) {
	p := newWorkers(t)
	var all []*proc
	for range 5 {
		c, err := p.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for _, c := range all {
		p.put(c, true)
	}
	await(t, "the spare one has started", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return !p.starting })
	p.trimIdle()
	if n := p.waiting(); n < 5 {
		t.Errorf("%d children wait, some of 5 were ended at once", n)
	}
	p.mu.Lock()
	for _, c := range p.idle[:len(p.idle)-1] {
		c.idleSince = c.idleSince.Add(-maxIdle)
	}
	newest := p.idle[len(p.idle)-1]
	p.mu.Unlock()
	p.trimIdle()
	await(t, "one child is left", func() bool { return len(offspring(t)) == 1 })
	if pid := value(t, p, "pid"); atoi(t, pid) != newest.cmd.Process.Pid {
		t.Error("the child that is left is not the one used last")
	}
}

func (p *Pool) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

func TestDeadChildIsNotCalled(t *testing.T) {
	p := newWorkers(t)
	for range 20 {
		c, err := p.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.put(c, true)
		syscall.Kill(c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.exited
		if next := atoi(t, value(t, p, "pid")); next == c.cmd.Process.Pid {
			t.Fatalf("%d answered after its death", next)
		}
	}
}

func TestChildKilledFromOutside(t *testing.T) {
	p := newWorkers(t)
	out := p.Call(t.Context(), &tasks.Attempt{Stdout: onLine(func(pid string) { syscall.Kill(atoi(t, pid), syscall.SIGKILL) })}, &Script{Source: "for ever"})
	if out.Code != tasks.Signalled || out.Signal != "SIGKILL" || out.Text != "the script's process was killed by SIGKILL" {
		t.Errorf("killed from outside: %+v", out)
	}
	value(t, p, "echo")
}

// onLine is called with each line that is written.
type onLine func(string)

func (f onLine) Write(b []byte) (int, error) {
	for l := range strings.Lines(string(b)) {
		f(strings.TrimSpace(l))
	}
	return len(b), nil
}

func atoi(t testing.TB, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Error(err)
	}
	return n
}

// offspring returns the processes that this one has started and that run.
func offspring(t testing.TB) (pids []int) {
	t.Helper()
	out, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range out {
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if pid, err := strconv.Atoi(e.Name()); err == nil && f[1] == strconv.Itoa(os.Getpid()) && f[0] != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestStops(t *testing.T) {
	const never = time.Hour // the child is not killed because it does not answer
	for _, c := range []struct {
		name, source string
		reason       tasks.StopReason
		closeKill    bool
		code         tasks.Code
		text         string
		survives     bool
		answer       time.Duration
	}{
		{"interrupted", "until interrupted", tasks.StopTimeout, false, tasks.Timeout, "timed out after 1s", true, never},
		{"timeout", "for ever", tasks.StopTimeout, false, tasks.Timeout, "timed out after 1s", false, answerTimeout},
		{"cancel", "for ever", tasks.StopCancel, false, tasks.Cancelled, "stopped: cancel", false, answerTimeout},
		{"kill", "for ever", tasks.StopKill, false, tasks.Cancelled, "stopped: kill", false, never},
		{"kill alone", "for ever", 0, true, tasks.Cancelled, "stopped: kill", false, never},
		{"cancel, then kill", "for ever", tasks.StopCancel, true, tasks.Cancelled, "stopped: cancel", false, never},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newWorkers(t)
			p.answerTimeout = c.answer
			before := value(t, p, "pid")
			ctx, stop := context.WithCancelCause(t.Context())
			kill := make(chan struct{})
			var stopped time.Time
			out := p.Call(ctx, &tasks.Attempt{Kill: kill, Stdout: onLine(func(string) {
				stopped = time.Now()
				if c.reason != 0 {
					stop(&tasks.StopError{Reason: c.reason, After: time.Second})
				}
				if c.closeKill {
					close(kill)
				}
			})}, &Script{Source: c.source})
			took := time.Since(stopped)
			if out.Code != c.code || out.Text != c.text || took > patience {
				t.Errorf("%v %q after %v, want %v %q within %v", out.Code, out.Text, took, c.code, c.text, patience)
			}
			if after := value(t, p, "pid"); (after == before) != c.survives {
				t.Errorf("the child was %s, and then it is %s", before, after)
			}
		})
	}
}

// An interrupt may cross the result of its call, and must not reach the next.
func TestLateInterruptDoesNothing(t *testing.T) {
	p := newWorkers(t)
	c, err := p.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late := func() {
		if err := c.send(interruptFrame(5)); err != nil {
			t.Error(err)
		}
	}
	c.number = 5 // of a call that has ended
	late()
	p.put(c, true)
	out := p.Call(t.Context(), &tasks.Attempt{Stdout: onLine(func(string) { late() })}, &Script{Source: "for a moment"})
	if string(out.Value) != "1" || c.number != 6 {
		t.Errorf("call %d = %+v", c.number, out)
	}
}

// blocked is a writer that takes nothing until it is told to.
type blocked struct {
	wait  chan struct{} // closed when something is written
	once  sync.Once
	until chan struct{}
	first string
	n     atomic.Int64 // bytes taken
}

func newBlocked() *blocked { return &blocked{wait: make(chan struct{}), until: make(chan struct{})} }

func (b *blocked) Write(p []byte) (int, error) {
	b.once.Do(func() {
		b.first, _, _ = strings.Cut(string(p), "\n")
		close(b.wait)
	})
	<-b.until
	b.n.Add(int64(len(p)))
	return len(p), nil
}

func TestSlowReaderSlowsItsScriptAlone(t *testing.T) {
	p := newWorkers(t)
	w := newBlocked()
	ctx, cancel := context.WithCancel(t.Context())
	var out tasks.Outcome
	var wg sync.WaitGroup
	wg.Go(func() { out = p.Call(ctx, &tasks.Attempt{Stdout: w}, &Script{Source: "print for ever"}) })
	<-w.wait
	pid := atoi(t, w.first)
	await(t, "the child waits for its pipe", func() bool { return sleeps(t, pid) })
	for range 10 {
		value(t, p, "echo")
	}
	cancel()
	// The child is gone, although the reader still takes nothing.
	await(t, "the child is gone", func() bool { return isGone(pid) })
	close(w.until)
	wg.Wait()
	if out.Code != tasks.Cancelled {
		t.Errorf("%+v", out)
	}
	// All that it wrote while nobody read fits into a pipe and a buffer.
	if n := w.n.Load(); n > 64<<10+2*maxOutputBytes {
		t.Errorf("%d bytes were written while nobody read", n)
	}
}

// sleeps reports whether no thread of a process runs.
func sleeps(t *testing.T, pid int) bool {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range threads {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, e.Name()))
		if err != nil || !strings.HasPrefix(string(b[bytes.LastIndexByte(b, ')'):]), ") S") {
			return false
		}
	}
	return true
}

func TestPanicOfAWriterCostsTheChild(t *testing.T) {
	p := newWorkers(t)
	before := value(t, p, "pid")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not come through")
			}
		}()
		p.Call(t.Context(), &tasks.Attempt{Stdout: onLine(func(string) { panic("disco") })}, &Script{Source: "for ever"})
	}()
	if after := value(t, p, "pid"); after == before {
		t.Error("a child that was in the middle of a script was called again")
	}
	await(t, "that child is gone", func() bool { return isGone(atoi(t, before)) })
}

func TestCloseEndsWhatRuns(t *testing.T) {
	p := newWorkers(t)
	var wg sync.WaitGroup
	running := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			var once sync.Once
			out := p.Call(t.Context(), &tasks.Attempt{Stdout: onLine(func(string) { once.Do(func() { running <- struct{}{} }) })}, &Script{Source: "for ever"})
			if out.Code != tasks.Cancelled || out.Text != "stopped: the agent is closing" {
				t.Errorf("a script that ran during Close: %+v", out)
			}
		})
	}
	for range 3 {
		<-running
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if left := offspring(t); len(left) != 0 {
			t.Errorf("after Close there are the children %v", left)
		}
	}
	wg.Wait()
	if out := p.Call(t.Context(), &tasks.Attempt{}, &Script{Source: "echo"}); out.Code != tasks.Cancelled || out.Text != "stopped: the agent is closing" {
		t.Errorf("a call after Close: %+v", out)
	}
}

// Whatever way an agent dies, its children see the end of their input.
func TestChildEndsWithItsAgent(t *testing.T) {
	for _, source := range []string{"for ever", "print for ever"} {
		cmd, err := helper.Command("agent")
		if err != nil {
			t.Fatal(err)
		}
		stdin, err1 := cmd.StdinPipe()
		stdout, err2 := cmd.StdoutPipe()
		if err := errors.Join(err1, err2, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		io.WriteString(stdin, source+"\n")
		var pid int
		if _, err := fmt.Fscanln(stdout, &pid); err != nil || isGone(pid) {
			t.Fatalf("the child %d of the agent: %v", pid, err)
		}
		cmd.Process.Kill()
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) {
			t.Error(err)
		}
		await(t, "the child of a killed agent is gone", func() bool { return isGone(pid) || zombie(pid) })
	}
}

// zombie reports whether a process has ended and nobody has asked how: here
// orphans may have no parent that does.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.HasPrefix(string(b[bytes.LastIndexByte(b, ')'):]), ") Z")
}

func TestChildHasNothing(t *testing.T) {
	inherited, err := syscall.Dup(0) // is not closed on exec
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(inherited)
	p := newWorkers(t)
	if got := value(t, p, "open"); got != `"open /etc/hostname: too many open files, too many open files"` {
		t.Errorf("a child that opens a file and a socket: %s", got)
	}
	want := fmt.Sprintf("%q", fmt.Sprint(os.Getuid(), os.Getgid(), groups(t), []string{}, "/", true))
	if got := value(t, p, "surroundings"); got != want {
		t.Errorf("a child sees %s, want %s", got, want)
	}
	c, err := p.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.put(c, true)
	dir := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
	if b, err := os.ReadFile(dir + "oom_score_adj"); string(b) != "1000\n" {
		t.Errorf("oom_score_adj is %q, %v", b, err)
	}
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		what, err := os.Readlink(dir + "fd/" + fd.Name())
		n := atoi(t, fd.Name())
		switch {
		case err != nil:
			t.Error(err)
		case n <= 2 && strings.HasPrefix(what, "pipe:"):
		case n > 2 && (strings.HasPrefix(what, "anon_inode:") || strings.HasPrefix(what, "/sys/fs/cgroup/")): // the Go runtime's
		default:
			t.Errorf("file %d of a child is %s", n, what)
		}
	}
	limits, err1 := os.ReadFile(dir + "limits")
	status, err2 := os.ReadFile(dir + "status")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Max core file size", "Max open files"} {
		if l := field(limits, name); l != "0" {
			t.Errorf("%s is %s, want 0", name, l)
		}
	}
	has, limit := atoi(t, field(status, "VmData:"))<<10, atoi(t, field(limits, "Max data size"))
	if left := int64(limit - has); left > testSetup.MemoryBytes || left < testSetup.MemoryBytes/2 {
		t.Errorf("a script has %d bytes of memory left, want %d, or a little less", left, testSetup.MemoryBytes)
	}
}

// field returns the first word after a name.
func field(file []byte, name string) string {
	_, after, _ := bytes.Cut(file, []byte(name))
	word, _, _ := strings.Cut(strings.TrimSpace(string(after)), " ")
	return word
}

func groups(t *testing.T) []int {
	g, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestChildRunsAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can run children as another user")
	}
	p := newPool(t, Config{Helper: "worker", User: &process.User{Name: "somebody", UID: 12345, GID: 23456, Groups: []uint32{34567}}})
	want := fmt.Sprintf("%q", fmt.Sprint(12345, 23456, []int{34567}, []string{}, "/", true))
	if got := value(t, p, "surroundings"); got != want {
		t.Errorf("a child of another user sees %s, want %s", got, want)
	}
	if out := p.Call(t.Context(), &tasks.Attempt{Stdout: onLine(func(pid string) { p.cancel() })}, &Script{Source: "for ever"}); out.Code != tasks.Cancelled {
		t.Errorf("a child of another user was not killed: %+v", out)
	}
}

func TestChildThatDoesNotStart(t *testing.T) {
	p := newPool(t, Config{Helper: "broken"})
	out := p.Call(t.Context(), &tasks.Attempt{}, &Script{Source: "echo"})
	if want := "start a process for scripts: no  such thing"; out.Code != tasks.Internal || out.Text != want {
		t.Errorf("%v %q, want internal %q", out.Code, out.Text, want)
	}
	if os.Geteuid() == 0 {
		return
	}
	p = newPool(t, Config{Helper: "worker", User: &process.User{Name: "root"}})
	out = p.Call(t.Context(), &tasks.Attempt{}, &Script{Source: "echo"})
	if want := "start a process for scripts as user root: "; out.Code != tasks.Internal || !strings.HasPrefix(out.Text, want) {
		t.Errorf("%v %q, want internal %q…", out.Code, out.Text, want)
	}
}

func TestLiarIsKilled(t *testing.T) {
	p := newPool(t, Config{Helper: "liar"})
	call := func(source string) (tasks.Outcome, string) {
		var stderr bytes.Buffer
		out := p.Call(t.Context(), &tasks.Attempt{Stderr: &stderr}, &Script{Source: source})
		return out, stderr.String()
	}
	for want, frame := range bad {
		want = "panic: the script's process answered with " + strings.TrimRight(want, "\x00")
		if out, _ := call("says " + string(frame)); out.Code != tasks.Panic || out.Text != want || out.Value != nil {
			t.Errorf("%.30q: %v %q, want panic %q", frame, out.Code, out.Text, want)
		}
	}
	if out, _ := call("says " + string(endFrame(beginFrame(nil, frameReady)))); out.Text != "panic: the script's process answered with a frame of type 4 with 0 bytes" {
		t.Errorf("ready in the middle of a call: %+v", out)
	}
	if out, _ := call("says " + string(raw(tasks.OK, "", "[1]"))); string(out.Value) != "[1]" {
		t.Errorf("a good answer: %+v", out)
	}
}

func TestDeathsAreTold(t *testing.T) {
	const memory = "the script used more than 100 MiB of memory"
	p := newPool(t, Config{Helper: "liar", Setup: Setup{MemoryBytes: 100 << 20}})
	for source, c := range map[string]struct {
		code tasks.Code
		text string
	}{
		"dies runtime: out of memory: cannot allocate 1099511627776-byte block (4161536 in use)\nfatal error: out of memory": {tasks.Failed, memory},
		"dies fatal error: runtime: cannot allocate memory\n\ngoroutine 1 [running]:":                                        {tasks.Failed, memory},
		"dies fatal error: out of memory allocating heap arena metadata":                                                     {tasks.Failed, memory},
		"dies SIGSEGV: segmentation violation\nPC=0x437d3d m=2 sigcode=1 addr=0x0\n\ngoroutine 0 gp=0x1178580 m=0":           {tasks.Failed, memory},
		"dies SIGSEGV: segmentation violation\nPC=0x437d3d m=0 sigcode=1 addr=0x1ff8\n":                                      {tasks.Failed, memory},
		"grows SIGSEGV: segmentation violation\nPC=0x437d3d m=2 sigcode=1 addr=0xc000200000\n":                               {tasks.Failed, memory},
		"dies panic: nil\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x437d3d]\n":                          {tasks.Panic, "panic: the script's process ended: exit status 2"},
		"dies runtime: goroutine stack exceeds 67108864-byte limit\nfatal error: stack overflow":                             {tasks.Failed, "the script nests too deep: the engine's stack is full"},
		"dies fatal error: concurrent map writes\n\ngoroutine 1":                                                             {tasks.Panic, "panic: concurrent map writes"},
		"dies ": {tasks.Panic, "panic: the script's process ended: exit status 2"},
	} {
		var stderr bytes.Buffer
		out := p.Call(t.Context(), &tasks.Attempt{Stderr: &stderr}, &Script{Source: source})
		if out.Code != c.code || out.Text != c.text {
			t.Errorf("%s: %v %q, want %v %q", source, out.Code, out.Text, c.code, c.text)
		}
		_, said, _ := strings.Cut(source, " ")
		if want := map[bool]string{true: said}[c.code == tasks.Panic]; stderr.String() != want {
			t.Errorf("%s: standard error has %q, want %q", source, stderr.String(), want)
		}
	}
}
