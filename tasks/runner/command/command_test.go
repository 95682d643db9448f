//go:build linux

package command_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/command"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

const short = 200 * time.Millisecond

type fixture struct {
	root    string
	runner  *command.Runner
	out     output
	errs    output
	attempt tasks.Attempt
}

// output is a writer that can be waited for.
type output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(b)
	if o.seen != nil && strings.Contains(o.buf.String(), o.want) {
		close(o.seen)
		o.seen = nil
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) await(text string) <-chan struct{} {
	c := make(chan struct{})
	o.want, o.seen = text, c
	return c
}

func newFixture(t *testing.T, cfg command.Config, task tasks.Task) *fixture {
	t.Helper()
	f := &fixture{root: filepath.Join(t.TempDir(), "work")}
	cfg.Root = f.root
	if cfg.Grace == 0 {
		cfg.Grace = short
	}
	var err error
	if f.runner, err = command.New(cfg); err != nil {
		t.Fatal(err)
	}
	task.Kind = tasks.Command
	f.attempt = tasks.Attempt{Task: &task, ID: newID(), N: 1, Slots: 1, Node: "n1", Stdout: &f.out, Stderr: &f.errs,
		Keep: func(path string) (tasks.Content, error) {
			b, err := os.ReadFile(path)
			return tasks.Content{Inline: b}, err
		}}
	t.Cleanup(func() {
		if left, err := os.ReadDir(f.root); err == nil && len(left) > 0 {
			t.Errorf("work directories are left: %v", left)
		}
	})
	return f
}

func (f *fixture) run(ctx context.Context) tasks.Outcome {
	return f.runner.Run(ctx, &f.attempt)
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name string
		task tasks.Task
		want tasks.Outcome
		out  string
	}{
		{"argv", tasks.Task{Argv: []string{"printf", "%s-", "a b", "$HOME", ""}}, tasks.Outcome{}, "a b-$HOME--"},
		{"shell", tasks.Task{Shell: `printf %s "$((1+2))"`}, tasks.Outcome{}, "3"},
		{"status", tasks.Task{Shell: "exit 7"}, tasks.Outcome{Code: tasks.Exit, Exit: 7, Text: "exit status 7"}, ""},
		{"shell's 127", tasks.Task{Shell: "no-such-program 2>&1 | tr -dc f", Env: map[string]string{"PATH": "/usr/bin:/bin"}}, tasks.Outcome{}, "f"},
		{"signal", tasks.Task{Shell: "kill -SEGV $$"}, tasks.Outcome{Code: tasks.Signalled, Signal: "SIGSEGV", Text: "killed by SIGSEGV"}, ""},
		{"not found", tasks.Task{Argv: []string{"no-such-program"}, Env: map[string]string{"PATH": "/bin"}},
			tasks.Outcome{Code: tasks.NotFound, Exit: 127, Text: `no-such-program: no such program in the PATH of the task, "/bin"`}, ""},
		{"not executable", tasks.Task{Argv: []string{"./x"}, Inputs: []tasks.Input{{Name: "x", Mode: 0o644}}},
			tasks.Outcome{Code: tasks.NotExecutable, Exit: 126, Text: "./x: permission denied: the file, its directory or the file system does not allow to execute it"}, ""},
		{"directory", tasks.Task{Argv: []string{"/"}}, tasks.Outcome{Code: tasks.NotExecutable, Exit: 126, Text: "/: is a directory, not a program"}, ""},
		{"input outside", tasks.Task{Shell: "echo ran", Inputs: []tasks.Input{{Name: "../x"}}},
			tasks.Outcome{Code: tasks.BadInput, Text: `input: the file name "../x" leaves the work directory; want a relative path inside it`}, ""},
		{"own variable", tasks.Task{Shell: "echo ran", Env: map[string]string{"SCAGENT_NODE": "x"}},
			tasks.Outcome{Code: tasks.BadInput, Text: "env SCAGENT_NODE: names that begin with SCAGENT_ are set by scagent; choose another"}, ""},
		{"no directory", tasks.Task{Shell: "echo ran", Dir: "/no/such/dir"},
			tasks.Outcome{Code: tasks.BadInput, Text: "dir /no/such/dir: there is no such directory on this worker"}, ""},
		{"input as program", tasks.Task{Argv: []string{"./x", "1"}, Inputs: []tasks.Input{{Name: "x", Mode: 0o755, Content: tasks.Content{Inline: []byte("#!/bin/sh\necho $1\n")}}}},
			tasks.Outcome{}, "1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, command.Config{}, c.task)
			got := f.run(t.Context())
			if got.Code != c.want.Code || got.Exit != c.want.Exit || got.Signal != c.want.Signal || got.Text != c.want.Text {
				t.Errorf("Run = %v %d %q %q, want %v %d %q %q", got.Code, got.Exit, got.Signal, got.Text,
					c.want.Code, c.want.Exit, c.want.Signal, c.want.Text)
			}
			if f.out.String() != c.out || got.StdoutBytes != int64(len(c.out)) {
				t.Errorf("output %q (%d bytes), want %q; stderr %q", f.out.String(), got.StdoutBytes, c.out, f.errs.String())
			}
			if got.Started.IsZero() || got.Finished.Before(got.Started) {
				t.Errorf("started %v, finished %v", got.Started, got.Finished)
			}
		})
	}
}

func TestWhereItRuns(t *testing.T) {
	f := newFixture(t, command.Config{}, tasks.Task{
		Shell:  `pwd; ls; echo "$HOME" "$TMPDIR" "$SCAGENT_WORKDIR"; cat in; test -d "$TMPDIR" && cat; echo ${CANARY-clean}`,
		Inputs: []tasks.Input{{Name: "in", Content: tasks.Content{Inline: []byte("input\n")}}},
	})
	t.Setenv("CANARY", "seen")
	f.attempt.Stdin = strings.NewReader("stdin\n")
	out := f.run(t.Context())
	dir := filepath.Join(f.root, f.attempt.ID.String()+"-1")
	want := fmt.Sprintf("%s\nin\n%s %s/.tmp %s\ninput\nstdin\nclean\n", dir, dir, dir, dir)
	if out.Code != tasks.OK || f.out.String() != want {
		t.Errorf("Run = %+v, output %q, want %q", out, f.out.String(), want)
	}
}

func TestStdinOfTheTask(t *testing.T) {
	for name, content := range map[string]tasks.Content{"inline": {Inline: []byte("in")}, "blob": {Blob: "a", Size: 2}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, command.Config{}, tasks.Task{Shell: "cat", Stdin: &content})
			closed := false
			f.attempt.Open = func(context.Context, *tasks.Content) (io.ReadCloser, error) {
				return closer{strings.NewReader("in"), &closed}, nil
			}
			if out := f.run(t.Context()); out.Code != tasks.OK || f.out.String() != "in" || closed != (name == "blob") {
				t.Errorf("Run = %+v, output %q, closed %v", out, f.out.String(), closed)
			}
		})
	}
}

type closer struct {
	io.Reader
	closed *bool
}

func (c closer) Close() error { *c.closed = true; return nil }

func TestDirIsWhereItRunsAndNotWhereFilesAre(t *testing.T) {
	dir := t.TempDir()
	f := newFixture(t, command.Config{}, tasks.Task{Dir: dir, Outputs: []string{"result"},
		Shell: `pwd; ls; cat "$SCAGENT_WORKDIR/in" >"$SCAGENT_WORKDIR/result"; touch here`, Inputs: []tasks.Input{{Name: "in"}}})
	out := f.run(t.Context())
	if out.Code != tasks.OK || f.out.String() != dir+"\n" || len(out.Outputs) != 1 || out.Outputs[0].Name != "result" {
		t.Errorf("Run = %+v, output %q", out, f.out.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "here")); err != nil {
		t.Error(err)
	}
}

func TestOutputs(t *testing.T) {
	for _, c := range []struct {
		line, pattern string
		code          tasks.Code
		text          string
		files         []string
	}{
		{"touch a.csv b.csv c", "*.csv", tasks.OK, "", []string{"a.csv", "b.csv"}},
		{"mkdir -p o/p; touch o/p/x", "o", tasks.OK, "", []string{"o/p/x"}},
		{"true", "*.csv", tasks.Failed, `output "*.csv" was not made`, nil},
		{"exit 3", "*.csv", tasks.Exit, "exit status 3", nil},
		{"touch a.csv; exit 3", "*.csv", tasks.Exit, "exit status 3", []string{"a.csv"}},
		{"ln -s /etc/passwd x", "x", tasks.OK, `output "x" is a symbolic link that leads nowhere inside the work directory: left out`, nil},
	} {
		t.Run(c.line, func(t *testing.T) {
			f := newFixture(t, command.Config{}, tasks.Task{Shell: c.line, Outputs: []string{c.pattern}})
			out := f.run(t.Context())
			var files []string
			for _, o := range out.Outputs {
				files = append(files, o.Name)
			}
			slices.Sort(files)
			if out.Code != c.code || out.Text != c.text || !slices.Equal(files, c.files) {
				t.Errorf("Run = %v %q %q, want %v %q %q", out.Code, out.Text, files, c.code, c.text, c.files)
			}
		})
	}
}

func TestStops(t *testing.T) {
	for _, c := range []struct {
		stop tasks.StopError
		code tasks.Code
		text string
	}{
		{tasks.StopError{Reason: tasks.StopCancel}, tasks.Cancelled, "stopped: cancel"},
		{tasks.StopError{Reason: tasks.StopInterrupt}, tasks.Cancelled, "stopped: interrupt"},
		{tasks.StopError{Reason: tasks.StopKill}, tasks.Cancelled, "stopped: kill"},
		{tasks.StopError{Reason: tasks.StopTimeout, After: time.Minute}, tasks.Timeout, "timed out after 1m0s"},
	} {
		t.Run(c.stop.Reason.String(), func(t *testing.T) {
			f := newFixture(t, command.Config{}, tasks.Task{Shell: `trap "" TERM INT; touch x; echo ready; while :; do sleep 0.02; done`, Outputs: []string{"y"}})
			ready := f.out.await("ready")
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() { <-ready; cancel(&c.stop) }()
			out := f.run(ctx)
			if out.Code != c.code || out.Text != c.text || out.Signal != "SIGKILL" {
				t.Errorf("Run = %v %q %q, want %v %q by SIGKILL", out.Code, out.Text, out.Signal, c.code, c.text)
			}
		})
	}
}

func TestStopWhileInputsAreFetched(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	f := newFixture(t, command.Config{}, tasks.Task{Shell: "echo ran", Inputs: []tasks.Input{{Name: "x", Content: tasks.Content{Blob: "a", Size: 1}}}})
	f.attempt.Open = func(ctx context.Context, _ *tasks.Content) (io.ReadCloser, error) {
		cancel(&tasks.StopError{Reason: tasks.StopTimeout, After: time.Second})
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if out := f.run(ctx); out.Code != tasks.Timeout || out.Text != "timed out after 1s" || f.out.String() != "" {
		t.Errorf("Run = %+v, output %q", out, f.out.String())
	}
}

func TestRunsAsAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can")
	}
	// t.TempDir is not to be passed through by others.
	root, err := os.MkdirTemp("", "scagent-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := command.New(command.Config{Config: workdir.Config{Root: root + "/work", User: &process.User{UID: 65534, GID: 65534}}})
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, command.Config{}, tasks.Task{Shell: "id -u; cat in; echo x >out; echo y >$TMPDIR/y; ls .. 2>/dev/null", Outputs: []string{"out"},
		Inputs: []tasks.Input{{Name: "in", Mode: 0o600, Content: tasks.Content{Inline: []byte("in\n")}}}})
	out := r.Run(t.Context(), &f.attempt)
	if out.Exit == 0 || len(out.Outputs) != 1 || string(out.Outputs[0].Inline) != "x\n" || f.out.String() != "65534\nin\n" {
		t.Errorf("Run = %+v, output %q", out, f.out.String())
	}
}

func TestDefaultsAndBadConfigurations(t *testing.T) {
	for _, cfg := range []workdir.Config{{}, {Root: "rel"}, {Root: "/x", Grace: -1}, {Root: "/x", Linger: -1}} {
		if _, err := command.New(command.Config{Config: cfg}); err == nil {
			t.Errorf("New(%+v) = nil", cfg)
		}
	}
}

func TestOutputFilesComeWithOutputThatWasCut(t *testing.T) {
	f := newFixture(t, command.Config{Config: workdir.Config{Limits: process.Limits{Output: 4}}},
		tasks.Task{Shell: "echo made >out; echo too long", Outputs: []string{"out"}})
	if got := f.run(t.Context()); got.Code != tasks.Failed || len(got.Outputs) != 1 || f.out.String() != "too " {
		t.Errorf("outcome %+v, stdout %q, want Failed, the output and four bytes", got, f.out.String())
	}
}

func TestLargeOutputTakesNoMemory(t *testing.T) {
	f := newFixture(t, command.Config{}, tasks.Task{Shell: "head -c 100000000 /dev/zero"})
	var most uint64
	var n int64
	f.attempt.Stdout = writer(func(b []byte) {
		if n += int64(len(b)); n%(10<<20) < int64(len(b)) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	})
	if out := f.run(t.Context()); out.Code != tasks.OK || out.StdoutBytes != 100_000_000 || n != out.StdoutBytes {
		t.Errorf("Run = %+v, %d bytes came", out, n)
	}
	if most > 32<<20 {
		t.Errorf("the heap grew to %d bytes", most)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// newID returns an ID that no other test has, in this process or another: stray
// processes are found, and killed, by it.
func newID() (id tasks.ID) {
	rand.Read(id[:])
	return id
}
