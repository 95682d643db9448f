package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// script runs a task whose argv is "echo TEXT", "fail TEXT", "flaky TEXT",
// "exit N", "cat", "read NAME" or "files".
func script(_ context.Context, a *tasks.Attempt) tasks.Outcome {
	if a.Task.Kind == tasks.Function {
		if len(a.Task.Args) == 0 {
			return tasks.Outcome{Code: tasks.Failed, Text: "no arguments"}
		}
		return tasks.Outcome{Value: a.Task.Args[0], Encoding: tasks.JSON}
	}
	argv := append(a.Task.Argv, "", "")
	failure := tasks.Outcome{Code: tasks.Exit, Exit: 3, Text: "exit status 3"}
	switch argv[0] {
	case "echo":
		io.WriteString(a.Stdout, argv[1])
	case "fail":
		io.WriteString(a.Stderr, argv[1])
		return failure
	case "flaky":
		fmt.Fprintf(a.Stdout, "%s %d\n", argv[1], a.N)
		if a.N == 1 {
			return failure
		}
	case "exit":
		fmt.Sscan(argv[1], &failure.Exit)
		return failure
	case "cat":
		io.Copy(a.Stdout, a.Stdin)
	case "read":
		for i := range a.Task.Inputs {
			in := &a.Task.Inputs[i]
			fmt.Fprintf(a.Stdout, "%s %o %d\n", in.Name, in.Mode, in.Len())
		}
	case "files":
		return tasks.Outcome{Outputs: []tasks.OutputFile{{Name: "d/f", Mode: 0o640, Content: tasks.Content{Inline: []byte(a.Node), Size: int64(len(a.Node))}}}}
	}
	return tasks.Outcome{}
}

func TestSubmit(t *testing.T) {
	_, addr := newAgent(t, script)
	for _, c := range []struct {
		name           string
		args           []string
		status         int
		stdout, stderr string
	}{
		{"one target", []string{"-on", "w1", "echo", "a\nb"}, 0, "a\nb", ""},
		{"own status", []string{"-on", "w1", "fail", "oops"}, 3, "", "oops"},
		{"status in eight bits", []string{"-on", "w1", "exit", "1000"}, 255, "", ""},
		{"function", []string{"-func", "f", `{"a":[1, 2]}`}, 0, `{"a":[1,2]}` + "\n", ""},
		{"function that fails", []string{"-on", "w1", "-func", "f"}, 1, "", "scagent: w1: failed: no arguments\n"},
		{"function that fails, quietly", []string{"-q", "-on", "w1", "-func", "f"}, 1, "", ""},
		{"no such function", []string{"-func", "g", "-wait-workers", "1ms"}, 125, "", `scagent: no worker matches: 0 of 2 workers match: 2 are without function "g"` + "\n"},
		{"folded", []string{"-all", "-fold", "echo", "x\n"}, 0, "w1,w2:\nx\n", ""},
		{"several", []string{"-all", "exit", "1"}, 2, "", "scagent: w1: exit 1\nscagent: w2: exit 1\n"},
		{"several, quietly", []string{"-all", "-q", "exit", "1"}, 2, "", ""},
		{"one of several by its flags", []string{"-where", `name == "w2"`, "echo", "x"}, 0, "w2: x\n", ""},
		{"retry on several", []string{"-where", `name == "w1"`, "-retry", "1", "-q", "flaky", "x"}, 0, "w1: x 2\n", ""},
		{"standard input", []string{"-stdin", "cat"}, 0, "the input", ""},
		{"unknown worker", []string{"-on", "w9", "-wait-workers", "1ms", "echo"}, 125, "", `scagent: no worker matches: no worker is named "w9"; there are w1, w2` + "\n"},
		{"too few workers", []string{"-all", "-expect", "3", "-wait-workers", "1ms", "echo"}, 125, "", "scagent: no worker matches: 2 workers match and 3 are expected\n"},
		{"dry run", []string{"-where", `name == "w2"`, "-dry-run", "echo"}, 0, "NAME  TAKES  WHY\nw1    no     name == \"w2\" is false (name is \"w1\")\nw2    yes    matches\n", ""},
		{"flags of another case", []string{"-join", "10.0.0.1", "echo"}, 125, "", "scagent: -join is only where no agent runs, and one does at " + addr + "; leave it out, or stop it\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			newConsole("the input").want(t, append([]string{"submit", "-addr", addr}, c.args...), c.status, c.stdout, c.stderr)
		})
	}
}

func TestSubmitJSON(t *testing.T) {
	_, addr := newAgent(t, script)
	c := newConsole("")
	if status := Run(&c.Env, []string{"submit", "-addr", addr, "-json", "-all", "fail", "e"}); status != 2 {
		t.Errorf("status = %d, want 2", status)
	}
	lines := strings.Split(strings.TrimSpace(c.out.String()), "\n")
	workers := map[string]bool{}
	for _, line := range lines {
		var s api.TaskStatus
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		workers[s.Worker] = true
		if s.ExitCode != 3 || s.State != tasks.StateFailed || s.Stderr == nil || *s.Stderr != "e" {
			t.Errorf("line %s", line)
		}
	}
	if len(lines) != 2 || !workers["w1"] || !workers["w2"] {
		t.Errorf("lines of %v, want one of w1 and one of w2", workers)
	}
}

func TestSubmitSendsAndBringsBackFiles(t *testing.T) {
	_, addr := newAgent(t, script)
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, tasks.MaxInlineBytes+5), 0o754); err != nil {
		t.Fatal(err)
	}
	newConsole("").want(t, []string{"submit", "-addr", addr, "-in", big + ":x/y", "read"}, 0, fmt.Sprintf("x/y 754 %d\n", tasks.MaxInlineBytes+5), "")

	newConsole("").want(t, []string{"submit", "-addr", addr, "-on", "w2", "-out", "d", "-out-dir", filepath.Join(dir, "one"), "files"}, 0, "", "")
	newConsole("").want(t, []string{"submit", "-addr", addr, "-all", "-out", "d", "-out-dir", filepath.Join(dir, "all"), "files"}, 0, "", "")
	for path, want := range map[string]string{"one/d/f": "w2", "all/w1/d/f": "w1", "all/w2/d/f": "w2"} {
		if b, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(b) != want {
			t.Errorf("%s = %q, %v; want %q", path, b, err, want)
		}
	}

	// A file that cannot be written is an error of scagent's own.
	c := newConsole("")
	if status := Run(&c.Env, []string{"submit", "-addr", addr, "-out", "d", "-out-dir", filepath.Join(big, "no"), "files"}); status != 125 || c.err.String() == "" {
		t.Errorf("status = %d, stderr %q; want 125 and why", status, c.err.String())
	}
}

func TestSubmitDetached(t *testing.T) {
	b, addr := newAgent(t, script)
	c := newConsole("")
	if status := Run(&c.Env, []string{"submit", "-addr", addr, "-detach", "echo"}); status != 0 {
		t.Fatalf("status = %d: %s", status, c.err.String())
	}
	id, err := tasks.ParseID(strings.TrimSpace(c.out.String()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Task(id); err != nil {
		t.Errorf("task %s: %v", id, err)
	}
}

// sleeper runs tasks that say when they start and wait to be stopped; the
// stubborn ones until they are killed.
func sleeper(started chan<- struct{}, stubborn bool, reasons chan<- error) func(context.Context, *tasks.Attempt) tasks.Outcome {
	return func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		io.WriteString(a.Stdout, "up\n")
		started <- struct{}{}
		<-ctx.Done()
		reasons <- context.Cause(ctx)
		if stubborn {
			<-a.Kill
		}
		return tasks.Outcome{Code: tasks.Cancelled, Text: "stopped"}
	}
}

func TestInterruptCancelsAndWaits(t *testing.T) {
	for _, c := range []struct {
		signal os.Signal
		reason tasks.StopReason
	}{{os.Interrupt, tasks.StopInterrupt}, {syscall.SIGTERM, tasks.StopCancel}} {
		started, reasons := make(chan struct{}, 2), make(chan error, 2)
		_, addr := newAgent(t, sleeper(started, false, reasons))
		con := newConsole("")
		go func() {
			<-started
			<-started
			con.signals <- c.signal
		}()
		con.want(t, []string{"submit", "-addr", addr, "-all", "-no-prefix", "x"}, 130, "up\nup\n",
			"scagent: stopping; once more to kill\nscagent: w1: cancelled\nscagent: w2: cancelled\n")
		for range 2 {
			if err := <-reasons; err.Error() != (&tasks.StopError{Reason: c.reason}).Error() {
				t.Errorf("%v stopped a task with %v, want %v", c.signal, err, c.reason)
			}
		}
	}
}

func TestSecondInterruptKillsAtOnce(t *testing.T) {
	started, reasons := make(chan struct{}, 1), make(chan error, 1)
	_, addr := newAgent(t, sleeper(started, true, reasons))
	con := newConsole("")
	go func() {
		<-started
		con.signals <- os.Interrupt
		<-reasons // the first has arrived
		con.signals <- os.Interrupt
	}()
	if status := Run(&con.Env, []string{"submit", "-addr", addr, "-q", "x"}); status != 130 || con.err.String() != "" {
		t.Errorf("status = %d, stderr %q; want 130 and nothing", status, con.err.String())
	}
}

func TestInterruptBeforeTheTaskIsSubmitted(t *testing.T) {
	_, addr := newAgent(t, script)
	con := newConsole("")
	con.signals <- os.Interrupt
	con.want(t, []string{"submit", "-addr", addr, "-on", "w9", "-wait-workers", "1h", "x"}, 130, "", "")
}

// closedPipe is a standard output that nobody reads.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Err: syscall.EPIPE}
}

func TestClosedStdoutCancelsQuietly(t *testing.T) {
	started, reasons := make(chan struct{}, 1), make(chan error, 1)
	b, addr := newAgent(t, sleeper(started, false, reasons))
	con := newConsole("")
	con.Stdout = closedPipe{}
	con.want(t, []string{"submit", "-addr", addr, "x"}, 141, "", "")
	rs := b.Tasks(tasks.ID{}, nil, 10)
	if len(rs) != 1 || rs[0].State != tasks.StateCancelled {
		t.Errorf("tasks %+v, want one that is cancelled", rs)
	}
}

func TestFullStdoutIsAnError(t *testing.T) {
	_, addr := newAgent(t, script)
	con := newConsole("")
	con.Stdout = order{new([]string), "", syscall.ENOSPC}
	con.want(t, []string{"submit", "-addr", addr, "echo", "x"}, 125, "", "scagent: write standard output: no space left on device\n")
}

// What a real agent says depends on how fast its tasks are.
func TestTaskThatStartsAnewSaysSo(t *testing.T) {
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, e := range []api.StreamEvent{
			{Type: api.StreamSubmitted, Submitted: &api.Submitted{Tasks: make([]api.SubmittedTask, 1)}},
			{Type: api.StreamOutput, Worker: "w1", WorkerID: "a", Attempt: 1, Stream: "stdout", DataBase64: []byte("x 1\n")},
			{Type: api.StreamAgain, Worker: "w2", WorkerID: "b", Attempt: 2},
			{Type: api.StreamOutput, Worker: "w2", WorkerID: "b", Attempt: 2, Stream: "stdout", DataBase64: []byte("x 2\n")},
			{Type: api.StreamResult, Worker: "w2", WorkerID: "b", Result: &api.TaskStatus{State: tasks.StateDone}},
		} {
			json.NewEncoder(w).Encode(e)
		}
	}))
	newConsole("").want(t, []string{"submit", "-addr", addr, "x"}, 0, "x 1\nx 2\n",
		"scagent: w2: starts anew, attempt 2; what it printed before is void\n")
	newConsole("").want(t, []string{"submit", "-q", "-addr", addr, "x"}, 0, "x 1\nx 2\n", "")
}

// An agent that dies takes its stream with it.
func TestAgentThatHangsUp(t *testing.T) {
	id, err := tasks.ParseID("abcdefghijklmnopqrstuvwxye")
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(api.StreamEvent{Type: api.StreamSubmitted, Submitted: &api.Submitted{Run: id, Tasks: make([]api.SubmittedTask, 1)}})
		json.NewEncoder(w).Encode(api.StreamEvent{Type: api.StreamOutput, Stream: "stdout", DataBase64: []byte("begun")})
	}))
	newConsole("").want(t, []string{"submit", "-addr", addr, "x"}, 125, "begun",
		"scagent: the agent hung up; run "+id.String()+" may go on, see: scagent status "+id.String()+"\n")
}

func TestSubmitWithoutAnAgentAtTheAddress(t *testing.T) {
	con := newConsole("")
	status := Run(&con.Env, []string{"submit", "-addr", "unix:///nowhere/1.sock", "x"})
	if want := "scagent: no agent answers at unix:///nowhere/1.sock"; status != 125 || !strings.HasPrefix(con.err.String(), want) {
		t.Errorf("status = %d, stderr %q; want 125 and %q", status, con.err.String(), want)
	}
}
