package command

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

func TestWaitEndsAsSubmitWouldHave(t *testing.T) {
	_, addr := newAgent(t, either(nil))
	one := func(args ...string) string {
		t.Helper()
		return submitMany(t, addr, 1, args...)[0]
	}
	good, bad, worse := one("-on", "w1", "echo"), one("-on", "w1", "exit", "3"), one("-on", "w2", "exit", "4")
	all := one("-all", "exit", "1")
	for _, c := range []struct {
		name   string
		args   []string
		status int
		stderr string
	}{
		{"one", []string{good}, 0, ""},
		{"one that failed", []string{bad}, 3, ""},
		{"in eight bits", []string{one("-on", "w1", "exit", "1000")}, 255, ""},
		{"a function that failed", []string{one("-on", "w1", "-func", "f")}, 1, "scagent: w1: failed: no arguments\n"},
		{"a run of several", []string{all}, 2, "scagent: w1: exit 1\nscagent: w2: exit 1\n"},
		{"a run of several, quietly", []string{"-q", all}, 2, ""},
		{"one of several by its flags", []string{one("-where", `name == "w2"`, "exit", "9")}, 1, "scagent: w2: exit 9\n"},
		{"several ids", []string{worse, good, bad}, 2, "scagent: " + worse + ": exit 4\nscagent: " + bad + ": exit 3\n"},
		{"the same twice", []string{bad, bad}, 3, ""},
		{"one that is not known", []string{good, "aaaaaaaaaaaaaaaaaaaaaaaaae"}, 125,
			"scagent: no task or run aaaaaaaaaaaaaaaaaaaaaaaaae is known to the agent of node aaaaaaaa, which forgets the oldest\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			newConsole("").want(t, append([]string{"wait", "-addr", addr}, c.args...), c.status, "", c.stderr)
		})
	}

	var run []string // a run and its tasks count once
	c := newConsole("")
	Run(&c.Env, []string{"tasks", "-json", "-addr", addr})
	var list []api.TaskStatus
	if err := json.Unmarshal([]byte(c.out.String()), &list); err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		if k.Run.String() == all {
			run = append(run, k.ID.String())
		}
	}
	newConsole("").want(t, append([]string{"wait", "-q", "-addr", addr, all}, run...), 2, "", "")

	c = newConsole("")
	if status := Run(&c.Env, []string{"wait", "-json", "-q", "-addr", addr, all, bad}); status != 3 {
		t.Errorf("status %d, want 3: %s", status, c.err.String())
	}
	lines := strings.Split(strings.TrimSpace(c.out.String()), "\n")
	for _, line := range lines {
		var s api.TaskStatus
		if err := json.Unmarshal([]byte(line), &s); err != nil || s.State != tasks.StateFailed || s.Stdout == nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d lines, want 3", len(lines))
	}
	c = newConsole("")
	c.Stdout = closedPipe{}
	c.want(t, []string{"wait", "-json", "-addr", addr, bad}, 141, "", "")
}

func TestWaitingThatEndsEarly(t *testing.T) {
	started, reasons := make(chan struct{}, 1), make(chan error, 1)
	b, addr := newAgent(t, either(sleeper(started, false, reasons)))
	id := submitMany(t, addr, 1, "-on", "w1", "sleep")[0]
	<-started
	waitRunning(t, b, id)
	newConsole("").want(t, []string{"wait", "-timeout", "50ms", "-addr", addr, id}, 125, "", "scagent: not ended after 50ms; what has not goes on\n")

	c := newConsole("")
	c.signals <- os.Interrupt
	c.want(t, []string{"wait", "-addr", addr, id}, 130, "", "")
	task, _ := tasks.ParseID(id)
	if r, err := b.Task(task); err != nil || r.State != tasks.StateRunning {
		t.Errorf("the task is %v, %v; want that it goes on", r.State, err)
	}

	ended := make(chan int)
	c = newConsole("")
	go func() { ended <- Run(&c.Env, []string{"wait", "-addr", addr, id}) }()
	newConsole("").want(t, []string{"cancel", "-q", "-addr", addr, id}, 0, "", "")
	<-reasons
	if status := <-ended; status != 130 || c.err.String() != "scagent: w1: cancelled\n" {
		t.Errorf("wait for what is cancelled = %d, %q; want 130", status, c.err.String())
	}
}

// More ids than are waited for at once.
func TestWaitForMany(t *testing.T) {
	_, addr := newAgent(t, either(nil))
	ids := submitMany(t, addr, maxWaits+20, "exit", "5")
	newConsole("").want(t, append([]string{"wait", "-q", "-addr", addr}, ids...), maxWaits+20, "", "")
	more := submitMany(t, addr, 30, "exit", "5")
	newConsole("").want(t, append([]string{"wait", "-q", "-addr", addr}, append(ids, more...)...), 101, "", "")
}

// hangUp answers the first request about a run with the head of its stream and hangs
// up, and later ones with an error.
func hangUp(t *testing.T, code string) (addr, id string) {
	t.Helper()
	run := tasks.ID{1, 2, 3}
	asked := false
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked {
			w.WriteHeader(http.StatusServiceUnavailable)
			json.NewEncoder(w).Encode(api.ErrorBody{Error: &api.Error{Code: code, Message: "the owner is away"}})
			return
		}
		asked = true
		json.NewEncoder(w).Encode(api.StreamEvent{Type: api.StreamSubmitted, Submitted: &api.Submitted{Run: run, Tasks: []api.SubmittedTask{{ID: run.Follow()}}}})
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})), run.String()
}

func TestStreamsThatBreakSayWhy(t *testing.T) {
	for _, c := range []struct {
		command []string
		status  int
	}{{[]string{"wait"}, 125}, {[]string{"logs", "-f"}, 1}, {[]string{"logs"}, 1}} {
		addr, id := hangUp(t, api.CodeOwnerAway)
		newConsole("").want(t, append(c.command, "-addr", addr, id), c.status, "", "scagent: the owner is away\n")
		addr, id = hangUp(t, api.CodeClosing)
		newConsole("").want(t, append(c.command, "-addr", addr, id), c.status, "",
			"scagent: the agent at "+addr+" hung up: unexpected EOF; run "+id+" may go on, see: scagent status "+id+"\n")
	}
}
