package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"context"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/tasks"
)

// either runs "sleep" with sleep, "hold TEXT" as something that writes TEXT and then
// sleeps, "big N" as something that writes N bytes, and the rest with script.
func either(sleep apitest.Run) apitest.Run {
	return func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		if len(a.Task.Argv) > 0 {
			switch a.Task.Argv[0] {
			case "hold":
				io.WriteString(a.Stdout, a.Task.Argv[1])
				io.WriteString(a.Stderr, "e\n")
				b := *a
				b.Stdout = io.Discard
				return sleep(ctx, &b)
			case "sleep":
				return sleep(ctx, a)
			case "big":
				n := 0
				fmt.Sscan(a.Task.Argv[1], &n)
				io.WriteString(a.Stdout, strings.Repeat("x", n))
				return tasks.Outcome{}
			}
		}
		return script(ctx, a)
	}
}

func TestLogsOfWhatHasEnded(t *testing.T) {
	_, addr := newAgent(t, either(nil))
	submit := func(args ...string) string {
		t.Helper()
		id := submitMany(t, addr, 1, args...)[0]
		c := newConsole("")
		Run(&c.Env, []string{"wait", "-addr", addr, id})
		return id
	}
	const kept = 1 << 20
	for _, c := range []struct {
		name           string
		args           []string // of submit
		logs           []string
		stdout, stderr string
	}{
		{"one task, as it is", []string{"-on", "w1", "echo", "a\x1b[1m"}, nil, "a\x1b[1m", ""},
		{"its standard error", []string{"-on", "w1", "fail", "oops"}, nil, "", "oops"},
		{"one stream", []string{"-on", "w1", "fail", "oops"}, []string{"-stream", "stdout"}, "", ""},
		{"the other", []string{"-on", "w1", "echo", "a"}, []string{"-stream", "stderr"}, "", ""},
		{"a result", []string{"-on", "w1", "-func", "f", "[1]"}, nil, "[1]\n", ""},
		{"no result", []string{"-on", "w1", "-func", "f", "[1]"}, []string{"-stream", "stderr"}, "", ""},
		{"several, with names", []string{"-where", `name == "w1"`, "echo", "a\nb"}, nil, "w1: a\nw1: b\n", ""},
		{"several, without", []string{"-where", `name == "w1"`, "echo", "a\nb"}, []string{"-no-prefix"}, "a\nb\n", ""},
		{"all that is kept", []string{"-on", "w1", "big", fmt.Sprint(kept)}, nil, strings.Repeat("x", kept), ""},
		{"more than is kept", []string{"-on", "w1", "big", fmt.Sprint(kept + 5)}, nil, strings.Repeat("x", kept), "scagent: w1: 5 bytes of stdout were cut out of the middle\n"},
		{"more than is kept, quietly", []string{"-on", "w1", "big", fmt.Sprint(kept + 5)}, []string{"-q"}, strings.Repeat("x", kept), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := submit(c.args...)
			for _, f := range []string{"-f", "-f=false"} {
				newConsole("").want(t, append([]string{"logs", f, "-addr", addr, id}, c.logs...), 0, c.stdout, c.stderr)
			}
		})
	}
	c := newConsole("")
	if status := Run(&c.Env, []string{"logs", "-json", "-addr", addr, submit("-on", "w1", "echo", "a")}); status != 0 {
		t.Error(c.err.String())
	}
	var types []string
	for line := range strings.Lines(c.out.String()) {
		var e api.StreamEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		types = append(types, e.Type)
	}
	if got := strings.Join(types, " "); got != "started output result" {
		t.Errorf("logs -json prints %s", got)
	}
}

func TestLogsOfWhatRuns(t *testing.T) {
	started, reasons := make(chan struct{}, 2), make(chan error, 2)
	_, addr := newAgent(t, either(sleeper(started, false, reasons)))
	run := submitMany(t, addr, 1, "-where", `name == "w1"`, "hold", "a\nhalf")[0]
	<-started
	// What it wrote is on its way still.
	deadline := time.After(10 * time.Second)
	for got := ""; got != "w1: a\nw1: half\n"; {
		c := newConsole("")
		if status := Run(&c.Env, []string{"logs", "-stream", "stdout", "-addr", addr, run}); status != 0 || c.err.String() != "" {
			t.Fatalf("logs = %d, %s", status, c.err.String())
		}
		got = c.out.String()
		select {
		case <-deadline:
			t.Fatalf("logs of what runs is %q; want its line and its half line", got)
		default:
		}
	}
	c := newConsole("")
	ended := make(chan int)
	go func() { ended <- Run(&c.Env, []string{"logs", "-f", "-addr", addr, run}) }()
	for c.out.String() == "" {
		select {
		case <-deadline:
			t.Fatal("logs -f prints nothing")
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case status := <-ended:
		t.Fatalf("logs -f ended with %d before the task", status)
	default:
	}
	newConsole("").want(t, []string{"cancel", "-q", "-addr", addr, run}, 0, "", "")
	<-reasons
	if status := <-ended; status != 0 || c.out.String() != "w1: a\nw1: half\n" || c.err.String() != "w1: e\n" {
		t.Errorf("logs -f = %d, %q, stderr %q", status, c.out.String(), c.err.String())
	}
}

// The output of a task from before a restart of its agent comes with its result.
func TestLogsOfWhatIsOnlyKept(t *testing.T) {
	text := "kept"
	c := newConsole("")
	s := newStreams(&c.Env)
	l := &logs{o: &logsOptions{stream: "both"}, labels: newLabels(&api.Submitted{}), out: s, printer: &rawPrinter{s}, wrote: map[int]bool{}}
	l.event(&api.StreamEvent{Type: api.StreamResult, Worker: "w1", Result: &api.TaskStatus{Stdout: &text, StdoutCutBytes: 7, StderrBase64: []byte{0xff}}})
	s.flush()
	if c.out.String() != "kept" || c.err.String() != "scagent: w1: 7 bytes of stdout were cut out of the middle\n\xff" {
		t.Errorf("stdout %q, stderr %q", c.out.String(), c.err.String())
	}
}

func TestClosedStdoutEndsLogsAndNotTheTask(t *testing.T) {
	started, reasons := make(chan struct{}, 1), make(chan error, 1)
	b, addr := newAgent(t, either(sleeper(started, false, reasons)))
	id := submitMany(t, addr, 1, "-on", "w1", "hold", "a\n")[0]
	<-started
	waitRunning(t, b, id)
	c := newConsole("")
	c.Stdout = closedPipe{}
	c.want(t, []string{"logs", "-f", "-stream", "stdout", "-addr", addr, id}, 141, "", "")
	task, _ := tasks.ParseID(id)
	if r, err := b.Task(task); err != nil || r.State != tasks.StateRunning {
		t.Errorf("the task is %v, %v; want it running", r.State, err)
	}
	newConsole("").want(t, []string{"cancel", "-q", "-addr", addr, id}, 0, "", "")
}
