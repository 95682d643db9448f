//go:build unix

package file_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/file"
)

// script returns a file task with arguments.
func script(name, text string, args ...string) tasks.Task {
	t := tasks.Task{Kind: tasks.File, Name: name, Content: &tasks.Content{Inline: []byte(text)}}
	for _, a := range args {
		b, _ := json.Marshal(a)
		t.Args = append(t.Args, b)
	}
	return t
}

type result struct {
	tasks.Outcome
	stdout, stderr string
}

// run runs a task; of programs there is only what bin has.
func run(t *testing.T, ctx context.Context, task tasks.Task, stdin string) result {
	t.Helper()
	root := filepath.Join(t.TempDir(), "work")
	r, err := file.New(file.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	a := tasks.Attempt{Task: &task, ID: newID(), N: 1, Slots: 1, Stdout: &out, Stderr: &errs,
		Open: func(_ context.Context, c *tasks.Content) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(c.Blob)), nil
		},
		Keep: func(path string) (tasks.Content, error) {
			b, err := os.ReadFile(path)
			return tasks.Content{Inline: b}, err
		}}
	if stdin != "" {
		a.Stdin = strings.NewReader(stdin)
	}
	o := r.Run(ctx, &a)
	if left, err := os.ReadDir(root); err == nil && len(left) > 0 {
		t.Errorf("work directories are left: %v", left)
	}
	if o.Started.IsZero() || o.Finished.Before(o.Started) || strings.ContainsAny(o.Text, "\n\x1b\x00") {
		t.Errorf("outcome %+v", o)
	}
	return result{o, out.String(), errs.String()}
}

// programs makes a directory with programs that print their name and arguments.
func programs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("#!/bin/sh\necho "+n+" \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func with(task tasks.Task, change func(*tasks.Task)) tasks.Task {
	change(&task)
	return task
}

func TestWhatRunsAFile(t *testing.T) {
	bin := programs(t, "node", "python3", "sh", "bash", "ruby", "perl", "php", "lua", "Rscript", "pwsh", "awk", "mine")
	for _, c := range []struct {
		name string
		task tasks.Task
		want string
	}{
		{"js", script("a.js", "x", "1", "b c"), "node ./a.js 1 b c\n"},
		{"mjs", script("a.mjs", "x"), "node ./a.mjs\n"},
		{"python", script("a.py", "x"), "python3 ./a.py\n"},
		{"sh", script("a.sh", "x"), "sh ./a.sh\n"},
		{"bash", script("a.bash", "x"), "bash ./a.bash\n"},
		{"ruby", script("a.rb", "x"), "ruby ./a.rb\n"},
		{"perl", script("a.pl", "x"), "perl ./a.pl\n"},
		{"php", script("a.php", "x"), "php ./a.php\n"},
		{"lua", script("a.lua", "x"), "lua ./a.lua\n"},
		{"R", script("a.R", "x"), "Rscript ./a.R\n"},
		{"powershell", script("a.ps1", "x"), "pwsh -File ./a.ps1\n"},
		{"awk", script("a.awk", "x"), "awk -f ./a.awk\n"},
		{"upper case", script("A.PY", "x"), "python3 ./A.PY\n"},
		{"a path", script("/home/me/a.py", "x"), "python3 ./a.py\n"},
		{"a path of windows", script(`C:\me\a.py`, "x"), "python3 ./a.py\n"},
		{"#! beats the extension", script("a.py", "#!/usr/bin/env ruby\n"), "ruby ./a.py\n"},
		{"env with options for it", script("a", "#!/usr/bin/env python3 -u -E\n"), "python3 -u -E ./a\n"},
		{"env -S", script("a", "#!/usr/bin/env -S python3 -u\n"), "python3 -u ./a\n"},
		{"env with a variable", script("a", "#!/usr/bin/env -S X=1 mine\n"), "mine ./a\n"},
		{"one argument", script("a", "#!"+bin+"/mine -a  b\n", "c"), "mine -a  b ./a c\n"},
		{"line end of windows", script("a", "#!/usr/bin/env python3\r\nx"), "python3 ./a\n"},
		{"spaces", script("a", "#! \t"+bin+"/mine\t-x \n"), "mine -x ./a\n"},
		{"no line end", script("a", "#!"+bin+"/mine"), "mine ./a\n"},
		{"interpreter beats #!", with(script("a.sh", "#!/bin/sh\n", "1"), func(t *tasks.Task) { t.Interpreter = "mine" }), "mine ./a.sh 1\n"},
		{"interpreter by path", with(script("a", "x"), func(t *tasks.Task) { t.Interpreter = bin + "/mine" }), "mine ./a\n"},
		{"named like an option", script("-rf", "#!/usr/bin/env mine"), "mine ./-rf\n"},
		{"no name", with(script("", "x"), func(t *tasks.Task) { t.Interpreter = "mine" }), "mine ./file\n"},
		{"blob", tasks.Task{Name: "a.py", Content: &tasks.Content{Blob: "#!/usr/bin/env ruby", Size: 19}}, "ruby ./a.py\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.task.Env = map[string]string{"PATH": bin}
			if strings.Contains(c.name, "variable") {
				c.task.Env["PATH"] += ":/usr/bin:/bin"
			}
			if got := run(t, t.Context(), c.task, ""); got.Code != tasks.OK || got.stdout != c.want {
				t.Errorf("Run = %v %q, output %q %q, want %q", got.Code, got.Text, got.stdout, got.stderr, c.want)
			}
		})
	}
}

func TestFilesThatCannotRun(t *testing.T) {
	path := map[string]string{"PATH": programs(t, "sh")}
	for _, c := range []struct {
		name string
		task tasks.Task
		code tasks.Code
		exit int
		text string
	}{
		{"no interpreter for the extension", script("a.py", "x"), tasks.NotFound, 127, `a.py needs "python3", which this worker does not have; install it there, or choose another with -interpreter`},
		{"#! with env", script("a", "#!/usr/bin/env node\n"), tasks.NotFound, 127, `a needs "node"`},
		{"#! with a path", script("a.sh", "#!/no/such/\x1bshell\n"), tasks.NotFound, 127, `a.sh needs "/no/such/\x1bshell"`},
		{"-interpreter", with(script("a.sh", "x"), func(t *tasks.Task) { t.Interpreter = "sh -e" }), tasks.NotFound, 127, `a.sh needs "sh -e"`},
		{"not known", script("a.data", "x"), tasks.BadInput, 0, "a.data: nothing says what runs it: it has no #! line, and its extension is not known; name its interpreter with -interpreter"},
		{"no extension", script("a", "x"), tasks.BadInput, 0, "a: nothing says what runs it"},
		{"empty", script("a", ""), tasks.BadInput, 0, "a: nothing says what runs it"},
		{"empty #!", script("a", "#!\n"), tasks.BadInput, 0, "nothing says what runs it"},
		{"number", tasks.Task{Name: "a.sh", Content: &tasks.Content{}, Args: []json.RawMessage{[]byte(`"1"`), []byte("2")}}, tasks.BadInput, 0, `args[1] is "2"; want a JSON string`},
		{"null", tasks.Task{Name: "a.sh", Content: &tasks.Content{}, Args: []json.RawMessage{[]byte("null")}}, tasks.BadInput, 0, "args[0] is"},
		{"NUL", script("a.sh", "", "a\x00b"), tasks.BadInput, 0, "args[0] has a NUL byte"},
		{"no content", tasks.Task{Name: "a.sh"}, tasks.BadInput, 0, "its content is missing"},
		{"dots", script("x/..", "#!/bin/sh\n"), tasks.BadInput, 0, "leaves the work directory"},
		{"escape", script("a\x1b[2J.sh", "#!/bin/sh\n"), tasks.BadInput, 0, "control characters"},
		{"TMPDIR", script(".tmp", "#!/bin/sh\n"), tasks.BadInput, 0, "TMPDIR"},
		{"an input has the name", with(script("a.sh", "x"), func(t *tasks.Task) { t.Inputs = []tasks.Input{{Name: "a.sh"}} }), tasks.BadInput, 0, `"a.sh": another input has this name`},
		{"no directory", with(script("a.sh", "x"), func(t *tasks.Task) { t.Dir = "/no/such" }), tasks.BadInput, 0, "there is no such directory"},
		{"another machine's", script("a", "\x7fELF\x02\x01\x01"+strings.Repeat("\x00", 57)), tasks.NotExecutable, 126, "./a: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.task.Env = path
			got := run(t, t.Context(), c.task, "")
			if got.Code != c.code || got.Exit != c.exit || !strings.Contains(got.Text, c.text) || got.stdout != "" {
				t.Errorf("Run = %v %d %q, output %q, want %v %d %q", got.Code, got.Exit, got.Text, got.stdout, c.code, c.exit, c.text)
			}
		})
	}
}

func TestAFileRunsInItsWorkDirectory(t *testing.T) {
	task := script("/x/a.sh", `#!/bin/sh
stat -c %a a.sh; ls; cat in; cat; echo "$1|$2" >out; echo err >&2; test "$PWD" = "$SCAGENT_WORKDIR" || exit 1; exit 3`, "a b", "")
	task.Inputs = []tasks.Input{{Name: "in", Content: tasks.Content{Inline: []byte("input\n")}}}
	task.Outputs = []string{"out"}
	got := run(t, t.Context(), task, "stdin\n")
	if got.Code != tasks.Exit || got.Exit != 3 || got.stdout != "700\na.sh\nin\ninput\nstdin\n" || got.stderr != "err\n" {
		t.Errorf("Run = %+v", got)
	}
	if len(got.Outputs) != 1 || string(got.Outputs[0].Inline) != "a b|\n" {
		t.Errorf("outputs %+v", got.Outputs)
	}
}

func TestDirIsWhereAFileRuns(t *testing.T) {
	task := script("a.sh", "#!/bin/sh\npwd; ls; test $0 = $SCAGENT_WORKDIR/a.sh && echo found >$SCAGENT_WORKDIR/out")
	task.Dir, task.Outputs = t.TempDir(), []string{"out"}
	got := run(t, t.Context(), task, "")
	if got.Code != tasks.OK || got.stdout != task.Dir+"\n" || len(got.Outputs) != 1 {
		t.Errorf("Run = %+v", got)
	}
}

func TestAProgramRunsByItself(t *testing.T) {
	b, err := os.ReadFile("/bin/echo")
	if err != nil {
		t.Skip(err)
	}
	task := script("my-echo", string(b), "a", "b  c")
	if got := run(t, t.Context(), task, ""); got.Code != tasks.OK || got.stdout != "a b  c\n" {
		t.Errorf("Run = %+v", got)
	}
}

func TestAFileIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r, err := file.New(file.Config{Root: filepath.Join(t.TempDir(), "work"), Grace: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	task := script("a.sh", "#!/bin/sh\necho ready; sleep 100 & wait")
	stop := writer(func([]byte) { cancel(&tasks.StopError{Reason: tasks.StopCancel}) })
	out := r.Run(ctx, &tasks.Attempt{Task: &task, ID: newID(), N: 1, Stdout: stop})
	if out.Code != tasks.Cancelled || out.Signal != "SIGTERM" {
		t.Errorf("Run = %+v", out)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// The work directory may be another user's, and what runs there as that user puts
// a pipe in the place of the file: the agent does not wait for its other end.
func TestAPipeInPlaceOfTheFileHoldsNothingUp(t *testing.T) {
	root := filepath.Join(t.TempDir(), "work")
	r, err := file.New(file.Config{Root: root, Grace: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	task := script("a.sh", "#!/bin/sh\n")
	task.Stdin = &tasks.Content{Blob: "x"}
	ctx, cancel := context.WithCancel(t.Context())
	a := tasks.Attempt{Task: &task, ID: newID(), N: 1, Slots: 1, Stdout: io.Discard, Stderr: io.Discard,
		Open: func(context.Context, *tasks.Content) (io.ReadCloser, error) { // the file is there already
			defer cancel()
			paths, err := filepath.Glob(root + "/*/a.sh")
			for _, p := range paths {
				err = errors.Join(err, os.Remove(p), syscall.Mkfifo(p, 0o700))
			}
			if len(paths) != 1 || err != nil {
				t.Errorf("the file is not there: %q, %v", paths, err)
			}
			return io.NopCloser(strings.NewReader("")), nil
		}}
	ended := make(chan tasks.Outcome)
	go func() { ended <- r.Run(ctx, &a) }()
	select {
	case o := <-ended:
		if o.Code != tasks.Cancelled {
			t.Errorf("it ended with %+v, want cancelled", o)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("two minutes after it was cancelled it still waits")
	}
}

func TestBadConfigurations(t *testing.T) {
	for _, cfg := range []file.Config{{}, {Root: "rel"}, {Root: "/x", Grace: -1}, {Root: "/x", Linger: -1}} {
		if _, err := file.New(cfg); err == nil || !strings.HasPrefix(err.Error(), "file: ") {
			t.Errorf("New(%+v) = %v", cfg, err)
		}
	}
}

func TestInterpreterThatAWorkerMustHave(t *testing.T) {
	for _, c := range []struct {
		name, head, interpreter, want string
	}{
		{"a.py", "", "", "python3"},
		{"a.js", "console.log(1)", "", "node"},
		{"a.R", "", "", "Rscript"},
		{"a.ps1", "", "", "pwsh"},
		{"a", "#!/usr/bin/env python3 -u\n", "", "python3"},
		{"a", "#!/usr/bin/env -S node --no-warnings\n", "", "node"},
		{"a.py", "#!/bin/sh\n", "", "sh"},
		{"a", "#!/usr/local/bin/bash -e", "", "bash"},
		{"a", "#!/opt/it/bin/python3\n", "", ""},
		{"a", "#!/usr/bin/mine\n", "", ""},
		{"a", "#!/usr/bin/env python3.11\n", "", ""},
		{"a", "\x7fELF", "", ""},
		{"a", "", "", ""},
		{"a.data", "x", "", ""},
		{"a.py", "#!/bin/sh", "node", "node"},
		{"a.py", "#!/bin/sh", "/usr/bin/ruby", "ruby"},
		{"a.py", "#!/bin/sh", "./mine", ""},
		{"a.py", "#!/bin/sh", "mine", ""},
	} {
		got, ok := file.Interpreter(c.name, []byte(c.head), c.interpreter)
		if ok != (c.want != "") || ok && got != c.want {
			t.Errorf("Interpreter(%q, %q, %q) = %q, %v, want %q", c.name, c.head, c.interpreter, got, ok, c.want)
		}
	}
}

// newID returns an ID that no other test has, in this process or another: stray
// processes are found, and killed, by it.
func newID() (id tasks.ID) {
	rand.Read(id[:])
	return id
}
