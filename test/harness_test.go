//go:build linux

package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/test/hosts"
)

// patience is how long tests wait for what has no promised time. Only a failing
// test takes that long.
const patience = 30 * time.Second

// waitDelay is how long those may go on to whom a process that has ended left its output.
const waitDelay = patience / 2

func TestMain(m *testing.M) {
	if text := os.Getenv(ordersVariable); text != "" {
		os.Exit(asAttacker(text))
	}
	status := m.Run()
	if program.dir != "" {
		os.RemoveAll(program.dir)
	}
	processes.Remove()
	os.Exit(status)
}

// processes is the cgroup of all processes that tests start.
var processes = hosts.Cgroup{Name: "scagent-test"}

// program is the program under test, built when the first test asks for it.
var program struct {
	once sync.Once
	dir  string
	err  error
}

// binary returns the path of the program.
func binary(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "scagent-test-"); program.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", program.dir+"/scagent", "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return filepath.Join(program.dir, "scagent")
}

// need skips the test when the machine lacks one of the programs, or this is not
// root; it fails when nothing may be skipped.
func need(t testing.TB, programs ...string) {
	t.Helper()
	var lacks []string
	if os.Geteuid() != 0 {
		lacks = append(lacks, "root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacks = append(lacks, p)
		}
	}
	if len(lacks) > 0 {
		lack(t, strings.Join(lacks, ", "))
	}
}

// lack skips the test for want of something.
func lack(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("SCAGENT_TEST_NO_SKIP") != "" {
		t.Fatalf("this machine lacks %s, and nothing may be skipped", what)
	}
	t.Skipf("SKIPPED: this machine lacks %s", what)
}

// output is what a process writes. Whoever waits for something in it is woken by each
// write.
type output struct {
	mu      sync.Mutex // guards the fields below
	text    bytes.Buffer
	changed chan struct{}
	closed  bool
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(b), nil
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await returns the first line that contains all the words, once it is whole.
func (o *output) await(t testing.TB, words ...string) string {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		o.mu.Lock()
		text, changed, closed := o.text.String(), o.changed, o.closed
		o.mu.Unlock()
		for line := range strings.Lines(text) {
			if strings.HasSuffix(line, "\n") && containsAll(line, words) {
				return strings.TrimSuffix(line, "\n")
			}
		}
		if closed {
			t.Fatalf("the process ended without a line with %q; it wrote:\n%s", words, text)
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("no line with %q within %s in:\n%s", words, patience, text)
		}
	}
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

// process is a process that a test started. It is killed when the test ends.
type process struct {
	t        testing.TB
	cmd      *exec.Cmd
	started  time.Time
	out, err *output
	done     chan struct{} // closed when it has ended and its output is read
	ended    time.Time     // valid after done
}

// start starts a command. Its output goes where the command says, else into out
// and err.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, out: newOutput(), err: newOutput(), done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.err
	}
	cmd.WaitDelay = waitDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{} // not Pdeathsig: it strikes when the thread that forked ends
	processes.Use(cmd.SysProcAttr)
	p.started = time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %v: %v", cmd.Args, err)
	}
	go func() {
		cmd.Wait() // the state tells
		p.ended = time.Now()
		p.out.close()
		p.err.close()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends a signal, unless the process has ended.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("signal %v to %v: %v", s, p.cmd.Args, err)
	}
}

// kill kills it and waits for its end.
func (p *process) kill() {
	p.cmd.Process.Kill() // an error: it has ended
	<-p.done
}

// result is how a command ended.
type result struct {
	args           []string
	stdout, stderr string
	status         int // 128+n when signal n killed it
	took           time.Duration
}

func (r *result) String() string {
	return fmt.Sprintf("%q: status %d after %s\nstdout: %s\nstderr: %s", r.args, r.status, r.took.Round(time.Millisecond), r.stdout, r.stderr)
}

// await waits for the end of the process.
func (p *process) await() *result {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%q has not ended after %s\nstdout: %s\nstderr: %s", p.cmd.Args, patience, p.out, p.err)
	}
	r := &result{args: p.cmd.Args, stdout: p.out.String(), stderr: p.err.String(), took: p.ended.Sub(p.started)}
	r.status = p.cmd.ProcessState.ExitCode()
	if ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		r.status = 128 + int(ws.Signal())
	}
	return r
}

// want fails the test unless the command ended with a status and printed
// exactly this on standard output.
func (r *result) want(t testing.TB, status int, stdout string) *result {
	t.Helper()
	if r.status != status || r.stdout != stdout {
		t.Fatalf("%s\nwant status %d, stdout %q", r, status, stdout)
	}
	return r
}

// ok fails the test unless the command ended with 0, and returns what it printed.
func (r *result) ok(t testing.TB) string {
	t.Helper()
	if r.status != 0 {
		t.Fatal(r)
	}
	return r.stdout
}

// complains fails the test unless the command ended with a status, printed
// nothing, and said what was wrong in one line that has all the words.
func (r *result) complains(t testing.TB, status int, words ...string) {
	t.Helper()
	line, more, whole := strings.Cut(r.stderr, "\n")
	switch {
	case r.status != status:
		t.Errorf("%s\nwant status %d", r, status)
	case r.stdout != "":
		t.Errorf("%s\nwant nothing on stdout", r)
	case !whole || more != "" || !strings.HasPrefix(line, "scagent") || !containsAll(line, words):
		t.Errorf("%s\nwant one line on stderr with %q", r, words)
	}
}

// eventually asks every 50 ms until ok, and returns how long that took. After
// the limit it fails the test with what was asked about last.
func eventually(t testing.TB, limit time.Duration, what string, ok func() (bool, any)) time.Duration {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		good, state := ok()
		if took := time.Since(begin); good {
			return took
		} else if took > limit {
			t.Fatalf("not within %s: %s; last: %v", limit, what, state)
		}
		<-tick.C
	}
}

// within fails the test when something took longer than promised, and logs it.
func within(t testing.TB, what string, took, limit time.Duration) {
	t.Helper()
	t.Logf("%s: %s (at most %s)", what, took.Round(time.Millisecond), limit)
	if took > limit {
		t.Errorf("%s took %s, want at most %s", what, took, limit)
	}
}
