package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// mapScript is script with "index", which prints the task's index, and "show", which
// prints its arguments.
func mapScript(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	switch {
	case a.Task.Shell != "":
		fmt.Fprintln(a.Stdout, a.Task.Shell)
		return tasks.Outcome{}
	case len(a.Task.Argv) > 0 && a.Task.Argv[0] == "index":
		fmt.Fprintln(a.Stdout, a.Index, a.Task.Argv[1:])
		return tasks.Outcome{}
	case slices.Equal(a.Task.Argv, []string{"exit", "0"}):
		return tasks.Outcome{}
	case len(a.Task.Argv) > 0 && a.Task.Argv[0] == "show":
		fmt.Fprintf(a.Stdout, "%q\n", a.Task.Argv[1:])
		return tasks.Outcome{}
	}
	return script(ctx, a)
}

func TestMap(t *testing.T) {
	_, addr := newAgent(t, mapScript)
	file := filepath.Join(t.TempDir(), "inputs")
	if err := os.WriteFile(file, []byte("x\x00y\nz"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		args           []string
		stdin          string
		status         int
		stdout, stderr string
	}{
		{"inputs of the command line", []string{"-k", "show", ":::", "a b", "", "c"}, "no", 0, "[\"a b\"]\n[\"\"]\n[\"c\"]\n", ""},
		{"no inputs", []string{"show", ":::"}, "no", 0, "", ""},
		{"inputs of standard input", []string{"-k", "show", "{#}", "{/.}", "-{}-"}, "d/a.b\n\nlast", 0,
			"[\"1\" \"a\" \"-d/a.b-\"]\n[\"2\" \"\" \"--\"]\n[\"3\" \"last\" \"-last-\"]\n", ""},
		{"inputs of a file", []string{"-k", "-0", "-a", file, "show"}, "no", 0, "[\"x\"]\n[\"y\\nz\"]\n", ""},
		{"no such file", []string{"-a", file + "x", "show"}, "", 125, "", "scagent: -a: open " + file + "x: no such file or directory\n"},
		{"numbers", []string{"-k", "-array", "3-8:2", "index"}, "", 0, "3 []\n5 []\n7 []\n", ""},
		{"places", []string{"-k", "index"}, "a\nb", 0, "0 [a]\n1 [b]\n", ""},
		{"a line of the shell", []string{"-k", "-shell", "cat {} | wc"}, "it's\nb c\nplain", 0, "cat 'it'\\''s' | wc\ncat 'b c' | wc\ncat plain | wc\n", ""},
		{"a function", []string{"-k", "-func", "f"}, "1\n{\"a\": 2}\nword", 0, "1\n{\"a\":2}\n\"word\"\n", ""},
		{"a function's argument", []string{"-k", "-func", "f", "[3]", "{}"}, "1", 0, "[3]\n", ""},
		{"by lines", []string{"-lb", "echo", "a\nb"}, "x", 0, "a\nb\n", ""},
		{"as they are written", []string{"echo"}, "x", 0, "x", ""},
		{"failures", []string{"-k", "exit"}, "1\n0\n2", 2, "", "scagent: input 1, \"1\", on w: exit 1\nscagent: input 3, \"2\", on w: exit 2\n"},
		{"failures, quietly", []string{"-q", "exit"}, "1\n0\n2", 2, "", ""},
		{"retried", []string{"-retry", "1", "flaky"}, "x", 0, "x 2\n", ""},
		{"nobody", []string{"-on", "w9", "-wait-workers", "1ms", "echo"}, "x", 125, "", "scagent: no worker matches: 0 of 2 workers match: 2 are not named\n"},
		{"a bad input", []string{"-q", "-k", "echo"}, "x\na\x00b\ny", 125, "x", "scagent: input 2, \"a\\x00b\": bad task: argv[1] has a NUL byte, which no program can be given\n"},
		{"bar", []string{"-bar", "echo", ":::", "x"}, "", 0, "x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			con := newConsole(c.stdin)
			status := Run(&con.Env, append([]string{"map", "-addr", addr}, c.args...))
			errors := con.err.String()
			if c.name == "bar" {
				if !strings.Contains(errors, strings.Repeat("#", barWidth)+"] 1/1") || !strings.HasSuffix(errors, "\n") {
					t.Errorf("stderr = %q, want a bar that is full", errors)
				}
				errors = ""
			}
			errors = strings.NewReplacer("on w1", "on w", "on w2", "on w").Replace(errors)
			lines := strings.SplitAfter(errors, "\n")
			slices.Sort(lines)
			if errors = strings.Join(lines, ""); status != c.status || con.out.String() != c.stdout || errors != c.stderr {
				t.Errorf("scagent map %q = %d, want %d\nstdout %q\n  want %q\nstderr %q\n  want %q", c.args, status, c.status, con.out.String(), c.stdout, errors, c.stderr)
			}
		})
	}
}

func TestMapManyInOrder(t *testing.T) {
	_, addr := newAgent(t, mapScript)
	var in, want strings.Builder
	for i := range 2000 {
		fmt.Fprintln(&in, i)
		fmt.Fprintf(&want, "%d [%d]\n", i, i)
	}
	con := newConsole(in.String())
	con.want(t, []string{"map", "-addr", addr, "-k", "index"}, 0, want.String(), "")
	con = newConsole(in.String())
	if status := Run(&con.Env, []string{"map", "-addr", addr, "-j", "3", "index"}); status != 0 {
		t.Errorf("status = %d: %s", status, con.err.String())
	}
	got := strings.SplitAfter(con.out.String(), "\n")
	slices.SortFunc(got, func(a, b string) int {
		x, _ := strconv.Atoi(strings.Split(a, " ")[0])
		y, _ := strconv.Atoi(strings.Split(b, " ")[0])
		return x - y
	})
	if all := strings.Join(got, ""); all != want.String() {
		t.Errorf("the lines, sorted, are %.100q…; want %.100q…", all, want.String())
	}
}

func TestMapJSON(t *testing.T) {
	_, addr := newAgent(t, mapScript)
	con := newConsole("a\nb\n")
	if status := Run(&con.Env, []string{"map", "-addr", addr, "-json", "-k", "echo"}); status != 0 {
		t.Errorf("status = %d: %s", status, con.err.String())
	}
	for i, line := range strings.Split(strings.TrimSpace(con.out.String()), "\n") {
		var s api.TaskStatus
		if err := json.Unmarshal([]byte(line), &s); err != nil || s.Index != i || s.Stdout == nil || *s.Stdout != string("ab"[i]) {
			t.Errorf("line %d is %s (%v)", i, line, err)
		}
	}
}

func TestMapBringsFilesBack(t *testing.T) {
	_, addr := newAgent(t, mapScript)
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, tasks.MaxInlineBytes+5), 0o644); err != nil {
		t.Fatal(err)
	}
	newConsole("").want(t, []string{"map", "-addr", addr, "-in", big, "read", ":::", "a", "b"}, 0, strings.Repeat(fmt.Sprintf("big 644 %d\n", tasks.MaxInlineBytes+5), 2), "")
	newConsole("").want(t, []string{"map", "-addr", addr, "-out", "d", "-out-dir", dir, "files", ":::", "a", "b"}, 0, "", "")
	for _, n := range []string{"1", "2"} {
		if b, err := os.ReadFile(filepath.Join(dir, n, "d", "f")); err != nil || !bytes.HasPrefix(b, []byte("w")) {
			t.Errorf("file of input %s = %q, %v", n, b, err)
		}
	}
}

func TestMapGoesOnWhereTheLogEnds(t *testing.T) {
	_, addr := newAgent(t, mapScript)
	log := filepath.Join(t.TempDir(), "log")
	run := func(status int, stdout string, args ...string) {
		t.Helper()
		con := newConsole("0\n3\n0\n")
		got := Run(&con.Env, append([]string{"map", "-q", "-addr", addr, "-k", "-joblog", log}, args...))
		if got != status || con.out.String() != stdout {
			t.Errorf("map %q = %d, %q; want %d, %q (%s)", args, got, con.out.String(), status, stdout, con.err.String())
		}
	}
	run(1, "", "exit")
	run(0, "", "-resume", "echo")
	run(0, "3", "-resume-failed", "echo")
	run(0, "", "-resume-failed", "echo")
	run(0, "030", "echo") // anew
	b, err := os.ReadFile(log)
	if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); err != nil || len(lines) != 4 || lines[0]+"\n" != joblogHead || !strings.HasSuffix(string(b), "\techo 0\n") && !strings.HasSuffix(string(b), "\techo 3\n") {
		t.Errorf("the log is %q, %v", b, err)
	}
}

func TestMapHaltsNow(t *testing.T) {
	var running, stopped atomic.Int32
	_, addr := newAgent(t, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		if running.Add(1) == 4 { // the last of those that there is room for
			return tasks.Outcome{Code: tasks.Exit, Exit: 1}
		}
		<-ctx.Done()
		stopped.Add(1)
		return tasks.Outcome{Code: tasks.Cancelled}
	})
	con := newConsole("")
	status := Run(&con.Env, []string{"map", "-addr", addr, "-halt", "now,fail=1", "-array", "1-100000", "x"})
	if !strings.HasSuffix(con.err.String(), "tasks failed\n") || status != 1 || stopped.Load()+1 != running.Load() {
		t.Errorf("status = %d, %d of %d were stopped: %s", status, stopped.Load(), running.Load(), con.err.String())
	}
}

func TestMapHaltsSoon(t *testing.T) {
	var running, stopped, ended atomic.Int32
	release := make(chan struct{})
	b, addr := newAgent(t, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		switch n := running.Add(1); {
		case n == 4:
			return tasks.Outcome{Code: tasks.Exit, Exit: 1}
		case n > 4: // in the place of that one
			return tasks.Outcome{}
		}
		select {
		case <-ctx.Done():
			stopped.Add(1)
		case <-release:
			ended.Add(1)
		}
		return tasks.Outcome{}
	})
	con := newConsole("")
	status := make(chan int)
	go func() {
		status <- Run(&con.Env, []string{"map", "-q", "-addr", addr, "-halt", "soon,fail=1", "-array", "1-100000", "x"})
	}()
	count := func(s tasks.State) int { return len(b.Tasks(tasks.ID{}, []tasks.State{s}, 1<<30)) }
	waitFor(t, func() bool { return count(tasks.StateFailed) > 0 && count(tasks.StateQueued) == 0 }) // what waited is dropped
	close(release)
	if s := <-status; s != 1 || stopped.Load() != 0 || ended.Load() != 3 || running.Load() == 100_000 {
		t.Errorf("status = %d, %d were stopped and %d ended; want 1, 0 and 3; %s", s, stopped.Load(), ended.Load(), con.err.String())
	}
}

func TestMapIsInterrupted(t *testing.T) {
	started, reasons := make(chan struct{}, 100), make(chan error, 100)
	b, addr := newAgent(t, sleeper(started, false, reasons))
	con := newConsole("")
	r, w := io.Pipe() // of which more could come for ever
	defer w.Close()
	con.Stdin = r
	go func() {
		io.WriteString(w, "1\n2\n3\n4\n5\n")
		for range 4 {
			<-started
		}
		con.signals <- os.Interrupt
	}()
	con.want(t, []string{"map", "-addr", addr, "-joblog", os.DevNull, "x"}, 130, "up\nup\nup\nup\n", "scagent: stopping; once more to kill\n")
	for _, r := range b.Tasks(tasks.ID{}, nil, 100) {
		if r.State != tasks.StateCancelled {
			t.Errorf("task %d is %s", r.Index, r.State)
		}
	}
}

func TestMapWithAClosedStdoutCancelsQuietly(t *testing.T) {
	_, addr := newAgent(t, mapScript)
	con := newConsole("")
	con.Stdout = closedPipe{}
	con.want(t, []string{"map", "-addr", addr, "-array", "1-1000000", "echo", "x"}, 141, "", "")
}

// TestMapTakesLittleMemory has inputs that all together are many times larger than
// what may be in memory.
func TestMapTakesLittleMemory(t *testing.T) {
	inputs := 100_000
	if raced {
		inputs = 10_000 // ten times slower
	}
	_, addr := newAgent(t, func(context.Context, *tasks.Attempt) tasks.Outcome { return tasks.Outcome{} })
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	pad := strings.Repeat("x", 1000)
	read, most := 0, uint64(0)
	r, w := io.Pipe()
	go func() {
		out := w
		for i := range inputs {
			fmt.Fprintf(out, "\"%d %s\"\n", i, pad)
			if read = i; i%10_000 == 9999 {
				runtime.GC()
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
			}
		}
		w.Close()
	}()
	con := newConsole("")
	con.Stdin = r
	con.Stdout = io.Discard
	if status := Run(&con.Env, []string{"map", "-addr", addr, "-j", "1000", "-func", "f"}); status != 0 || read != inputs-1 {
		t.Fatalf("status = %d after %d inputs: %s", status, read, con.err.String())
	}
	t.Logf("the heap was %d MiB before and at most %d with the map", before.HeapAlloc>>20, most>>20)
	if limit := before.HeapAlloc + 64<<20; most > limit {
		t.Errorf("the heap grew to %d MiB, want at most %d", most>>20, limit>>20)
	}
}
