//go:build unix

package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// short is a grace and a linger that tests can wait for; long one that they
// would not get to the end of.
const (
	short = 200 * time.Millisecond
	long  = 5 * time.Minute
)

var attempts atomic.Int64

// idOf returns what stands for the id of a task: no other test has it, in this process
// or another, such as one that runs the same test. Stray processes are found, and
// killed, by it.
func idOf(t *testing.T) string { return fmt.Sprintf("%s-%d", t.Name(), os.Getpid()) }

// shell returns a Spec for a line of shell, with an attempt of its own.
func shell(t *testing.T, line string, args ...string) *process.Spec {
	marks := []string{"SCAGENT_TASK_ID=" + idOf(t), fmt.Sprintf("SCAGENT_ATTEMPT=%d", attempts.Add(1))}
	return &process.Spec{
		Argv: append([]string{"/bin/sh", "-c", line, "sh"}, args...),
		Env:  append([]string{"PATH=" + os.Getenv("PATH")}, marks...), Marks: marks,
		Dir: t.TempDir(), Grace: long, Linger: long,
	}
}

func mustRun(t *testing.T, ctx context.Context, s *process.Spec) process.Exit {
	t.Helper()
	ex, err := process.Run(ctx, s)
	if err != nil {
		t.Fatalf("Run(%q) = %v", s.Argv, err)
	}
	return ex
}

// within fails the test when fn takes longer than it may in any weather.
func within(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("Run has not returned after 30 s")
	}
}

// started is a writer that tells when its text has come, and keeps all of it.
type started struct {
	mu   sync.Mutex
	text string
	want string
	seen chan struct{}
}

func awaiting(want string) *started { return &started{want: want, seen: make(chan struct{})} }

func (s *started) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := strings.Contains(s.text, s.want)
	s.text += string(b)
	if !had && strings.Contains(s.text, s.want) {
		close(s.seen)
	}
	return len(b), nil
}

func (s *started) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// stopping returns a context that stops for the reason when text has come.
func stopping(t *testing.T, out *started, reason tasks.StopReason) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		select {
		case <-out.seen:
			cancel(&tasks.StopError{Reason: reason})
		case <-t.Context().Done():
		}
	}()
	return ctx
}

// alive reports whether the process runs; a zombie does not.
func alive(pid string) bool {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

func mustBeGone(t *testing.T, text string) {
	t.Helper()
	pids := strings.Fields(text)
	n := 0
	for _, pid := range pids {
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		n++
		if alive(pid) {
			t.Errorf("process %s still runs", pid)
		}
	}
	if n == 0 {
		t.Errorf("no process ids in %q", text)
	}
}

func TestEndsAreToldApart(t *testing.T) {
	for line, want := range map[string]process.Exit{
		"exit 0":        {},
		"exit 7":        {Status: 7},
		"exit 126":      {Status: 126},
		"exit 127":      {Status: 127},
		"exit 255":      {Status: 255},
		"exit 256":      {}, // a status has eight bits
		"kill -KILL $$": {Signal: "SIGKILL"},
		"kill -SEGV $$": {Signal: "SIGSEGV"},
		"kill -PIPE $$": {Signal: "SIGPIPE"},
		"kill -TERM $$": {Signal: "SIGTERM"},
	} {
		t.Run(line, func(t *testing.T) {
			ex := mustRun(t, t.Context(), shell(t, line))
			if ex.Status != want.Status || ex.Signal != want.Signal || ex.Stopped != 0 {
				t.Errorf("Run = %+v, want status %d, signal %q", ex, want.Status, want.Signal)
			}
			if ex.Started.IsZero() || ex.Finished.Before(ex.Started) {
				t.Errorf("started %v, finished %v", ex.Started, ex.Finished)
			}
		})
	}
}

// Real-time signals, which have no names, included.
func TestEverySignalIsNamed(t *testing.T) {
	for n := syscall.Signal(1); n <= 64; n++ {
		switch n {
		case syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGURG, syscall.SIGWINCH:
			continue // these end nothing
		case 32, 33:
			continue // the C library's own
		}
		if runtime.GOOS != "linux" && n > 31 {
			break
		}
		want := unix.SignalName(n)
		if want == "" {
			want = fmt.Sprintf("signal %d", int(n))
		}
		ex := mustRun(t, t.Context(), shell(t, fmt.Sprintf("ulimit -c 0; kill -%d $$; exit 9", int(n))))
		if ex.Signal != want || ex.Status != 0 || ex.Stopped != 0 {
			t.Errorf("kill -%d: Run = %+v, want signal %q", int(n), ex, want)
		}
	}
}

func TestStartErrorsAreToldApart(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	write("bin/plain", "#!/bin/sh\n", 0o644)
	write("plain", "#!/bin/sh\n", 0o644)
	write("noformat", "\x00\x01\x02\x03", 0o755)
	write("nointerpreter", "#!/no/such/interpreter\n", 0o755)
	long := strings.Repeat("x", 100<<10)
	var many []string
	for range 100 {
		many = append(many, long)
	}
	for _, c := range []struct {
		name string
		argv []string
		dir  string
		want tasks.Code
		text string
	}{
		{"no such program", []string{"no-such-program"}, dir, tasks.NotFound, "no-such-program: no such program"},
		{"no such path", []string{"./none"}, dir, tasks.NotFound, "./none: no such program"},
		{"below a file", []string{"./plain/x"}, dir, tasks.NotFound, "no such program"},
		{"only in the agent's PATH", []string{"true"}, dir, tasks.NotFound, "true: no such program"},
		{"not executable", []string{"./plain"}, dir, tasks.NotExecutable, "permission denied"},
		{"not executable in PATH", []string{"plain"}, dir, tasks.NotExecutable, "permission denied"},
		{"directory", []string{"./bin"}, dir, tasks.NotExecutable, "is a directory"},
		{"format", []string{"./noformat"}, dir, tasks.NotExecutable, "#! line"},
		{"interpreter", []string{"./nointerpreter"}, dir, tasks.NotExecutable, "interpreter"},
		{"too long", append([]string{"/bin/true"}, many...), dir, tasks.NotExecutable, "too long"},
		{"no directory", []string{"/bin/true"}, dir + "/none", tasks.BadInput, "no such directory"},
		{"nothing", nil, dir, tasks.BadInput, "no program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, in := awaiting(""), io.NopCloser(strings.NewReader("unread"))
			_, err := process.Run(t.Context(), &process.Spec{Argv: c.argv, Env: []string{"PATH=" + bin}, Dir: c.dir, Stdout: out, Stdin: in})
			var start *process.StartError
			if !errors.As(err, &start) {
				t.Fatalf("Run(%.60q) = %v, want a StartError", c.argv, err)
			}
			status := map[tasks.Code]int{tasks.NotFound: 127, tasks.NotExecutable: 126}[c.want]
			if start.Code != c.want || start.Status() != status || !strings.Contains(start.Text, c.text) {
				t.Errorf("Run = %v (%d) %q, want %v (%d) and %q", start.Code, start.Status(), start.Text, c.want, status, c.text)
			}
		})
	}
}

func TestProgramIsLookedUpForTheTask(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/sub/tool", []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ prog, path string }{
		{"tool", "/nowhere:" + dir + "/sub"},
		{"tool", "sub"},    // relative to Dir
		{"sub/tool", ""},   // no lookup
		{"./sub/tool", ""}, // no lookup
	} {
		var out bytes.Buffer
		ex, err := process.Run(t.Context(), &process.Spec{Argv: []string{c.prog}, Env: []string{"PATH=" + c.path}, Dir: dir, Stdout: &out})
		if err != nil || ex.Status != 0 || out.String() != "ran\n" {
			t.Errorf("Run %s with PATH=%s: %+v, %v, %q", c.prog, c.path, ex, err, out.String())
		}
	}
}

func TestEnvironmentIsOnlyWhatIsGiven(t *testing.T) {
	t.Setenv("CANARY", "agent's secret")
	for _, env := range [][]string{nil, {"A=1"}} {
		var out bytes.Buffer
		mustRun(t, t.Context(), &process.Spec{Argv: []string{"/usr/bin/env"}, Env: env, Stdout: &out})
		want := ""
		if env != nil {
			want = "A=1\n"
		}
		if out.String() != want {
			t.Errorf("env with %q printed %q", env, out.String())
		}
	}
}

func TestStdin(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unending, w := io.Pipe() // closed by Run when the program has exited
	defer w.Close()
	for _, c := range []struct {
		name, line string
		stdin      io.Reader
		want       string
	}{
		{"none", "cat; echo $?", nil, "0\n"},
		{"bytes", "cat", strings.NewReader("hello"), "hello"},
		{"large", "cat", strings.NewReader(big), big},
		{"file", "cat", f, big},
		{"not read", "exit 0", strings.NewReader(big), ""},
		{"unending", "echo out", unending, "out\n"},
		{"held by another", "sleep 300 <&0 & echo out", strings.NewReader(big), "out\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			within(t, func() {
				var out bytes.Buffer
				s := shell(t, c.line)
				s.Stdin, s.Stdout = c.stdin, &out
				if ex := mustRun(t, t.Context(), s); ex.Status != 0 || out.String() != c.want {
					t.Errorf("Run = %+v with %d bytes of output, want %d", ex, out.Len(), len(c.want))
				}
			})
		})
	}
}

func TestStreamsAreKeptApartAndCounted(t *testing.T) {
	var out, errs bytes.Buffer
	s := shell(t, "printf out; printf error >&2")
	s.Stdout, s.Stderr = &out, &errs
	ex := mustRun(t, t.Context(), s)
	if out.String() != "out" || errs.String() != "error" || ex.StdoutBytes != 3 || ex.StderrBytes != 5 {
		t.Errorf("stdout %q (%d), stderr %q (%d)", out.String(), ex.StdoutBytes, errs.String(), ex.StderrBytes)
	}
}

func TestClosedStdoutIsNotTheEnd(t *testing.T) {
	var out bytes.Buffer
	s := shell(t, "echo first; exec >&- 2>&-; sleep 0.1; exit 3")
	s.Stdout, s.Stderr = &out, &out
	if ex := mustRun(t, t.Context(), s); ex.Status != 3 || out.String() != "first\n" {
		t.Errorf("Run = %+v, %q", ex, out.String())
	}
}

// failing is a writer that takes one Write and no more.
type failing struct{ n int }

func (f *failing) Write(b []byte) (int, error) {
	if f.n++; f.n > 1 {
		return 0, errors.New("gone")
	}
	return len(b), nil
}

func TestProgramOutlivesItsReader(t *testing.T) {
	s := shell(t, "head -c 1000000 /dev/zero && exit 4")
	w := &failing{}
	s.Stdout = w
	ex := mustRun(t, t.Context(), s)
	if ex.Status != 4 || ex.StdoutBytes != 1000000 || w.n != 2 {
		t.Errorf("Run = %+v after %d writes, want status 4, 1000000 bytes, 2 writes", ex, w.n)
	}
}

func TestUsageIsMeasured(t *testing.T) {
	s := shell(t, "x=$(head -c 30000000 /dev/zero | tr '\\0' a); exit 0")
	ex := mustRun(t, t.Context(), s)
	if ex.MaxRSS < 30e6 || ex.MaxRSS > 2e9 || ex.User+ex.System <= 0 || ex.User+ex.System > ex.Finished.Sub(ex.Started)*8 {
		t.Errorf("max RSS %d, user %v, system %v", ex.MaxRSS, ex.User, ex.System)
	}
}

func TestEndedContextStartsNothing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&tasks.StopError{Reason: tasks.StopTimeout})
	closed := make(chan struct{})
	close(closed)
	mark := filepath.Join(t.TempDir(), "ran")
	s := shell(t, "touch "+mark)
	if ex := mustRun(t, ctx, s); !ex.NotStarted || ex.Stopped != tasks.StopTimeout {
		t.Errorf("Run with an ended context = %+v", ex)
	}
	s.Kill = closed
	if ex := mustRun(t, t.Context(), s); !ex.NotStarted || ex.Stopped != tasks.StopKill {
		t.Errorf("Run with Kill closed = %+v", ex)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the program ran")
	}
}

// gate is a writer whose first Write waits until it is opened.
type gate struct {
	waits chan struct{} // closed by the first Write
	open  chan struct{}
	once  sync.Once
	n     int64
	most  int
}

func (g *gate) Write(b []byte) (int, error) {
	g.once.Do(func() { close(g.waits); <-g.open })
	g.n += int64(len(b))
	g.most = max(g.most, len(b))
	return len(b), nil
}

func TestSlowReaderSlowsTheProgram(t *testing.T) {
	const size = 100_000_000
	g := &gate{waits: make(chan struct{}), open: make(chan struct{})}
	out := awaiting("\n")
	s := shell(t, fmt.Sprintf("echo $$ >&2; exec head -c %d /dev/zero", size))
	s.Stdout, s.Stderr = g, out
	within(t, func() {
		done := make(chan process.Exit)
		go func() { done <- mustRun(t, t.Context(), s) }()
		<-out.seen
		<-g.waits
		if _, err := os.Stat("/proc/self/io"); err == nil {
			awaitStalled(t, strings.TrimSpace(out.String()))
		}
		close(g.open)
		ex := <-done
		if ex.Status != 0 || g.n != size || ex.StdoutBytes != size {
			t.Errorf("Run = %+v, %d bytes came", ex, g.n)
		}
		if g.most > 64<<10 {
			t.Errorf("a Write had %d bytes; the buffer is 64 KiB", g.most)
		}
	})
}

// awaitStalled waits until the process sleeps, and checks that it has written no
// more than a pipe and a buffer hold.
func awaitStalled(t *testing.T, pid string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		io, err := os.ReadFile("/proc/" + pid + "/io")
		if err != nil {
			t.Fatal(err)
		}
		var written int
		_, after, _ := strings.Cut(string(io), "wchar: ")
		fmt.Sscan(after, &written)
		if written > 1<<20 {
			t.Fatalf("the program has written %d bytes to a reader that reads nothing", written)
		}
		if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "S") && written > 60<<10 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the program neither writes nor waits: %s %s", stat, io)
		}
		time.Sleep(time.Millisecond)
	}
}
