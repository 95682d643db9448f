package command

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

func TestTasksTable(t *testing.T) {
	at := func(s int) *api.Time { return &api.Time{Time: time.Date(2026, 1, 2, 3, 4, s, 0, time.UTC)} }
	now := at(59).Time
	for _, c := range []struct {
		name string
		task api.TaskStatus
		want string // without its id and kind
	}{
		{"queued", api.TaskStatus{State: tasks.StateQueued, QueuedAt: at(1)}, "queued - 2026-01-02T03:04:01Z - -"},
		{"running", api.TaskStatus{State: tasks.StateRunning, Worker: "n1", QueuedAt: at(1), StartedAt: at(2)}, "running n1 2026-01-02T03:04:01Z 57s -"},
		{"running by a clock that is ahead", api.TaskStatus{State: tasks.StateRunning, Worker: "n1", StartedAt: &api.Time{Time: now.Add(time.Hour)}}, "running n1 - 0s -"},
		{"done", api.TaskStatus{State: tasks.StateDone, Worker: "n1", QueuedAt: at(1), StartedAt: at(2), FinishedAt: at(5)}, "done n1 2026-01-02T03:04:01Z 3s exit 0"},
		{"long", api.TaskStatus{State: tasks.StateDone, Worker: "n1", StartedAt: at(0), FinishedAt: &api.Time{Time: at(0).Add(2*time.Hour + 300*time.Millisecond)}}, "done n1 - 2h exit 0"},
		{"failed", api.TaskStatus{State: tasks.StateFailed, Reason: tasks.Exit, ExitCode: 3, Worker: "n\x1b1", StartedAt: at(2), FinishedAt: at(3)}, `failed n\x1b1 - 1s exit 3`},
		{"never started", api.TaskStatus{State: tasks.StateCancelled}, "cancelled - - - cancelled"},
	} {
		c.task.Kind = tasks.Command
		lines := strings.Split(formatTasks([]api.TaskStatus{c.task}, now), "\n")
		if got := strings.Join(strings.Fields(lines[1])[2:], " "); got != c.want || !strings.HasPrefix(lines[0], "TASK ") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// submitMany submits n tasks, one after the other, and returns their ids.
func submitMany(t *testing.T, addr string, n int, args ...string) (ids []string) {
	t.Helper()
	for range n {
		c := newConsole("")
		if status := Run(&c.Env, append([]string{"submit", "-addr", addr, "-detach"}, args...)); status != 0 {
			t.Fatal(c.err.String())
		}
		ids = append(ids, strings.TrimSpace(c.out.String()))
	}
	return ids
}

func TestTasksAreListedNewestLast(t *testing.T) {
	started, reasons := make(chan struct{}, 9), make(chan error, 9)
	sleep := sleeper(started, false, reasons)
	_, addr := newAgent(t, either(sleep))
	open := submitMany(t, addr, 2, "-on", "w1", "sleep")
	<-started
	<-started
	ended := submitMany(t, addr, 5, "-on", "w2", "echo")
	failed := submitMany(t, addr, 1, "-on", "w2", "exit", "3")
	newConsole("").want(t, append([]string{"wait", "-q", "-addr", addr}, append(ended, failed...)...), 1, "", "")

	list := func(args ...string) (ids []string) {
		t.Helper()
		c := newConsole("")
		if status := Run(&c.Env, append([]string{"tasks", "-addr", addr}, args...)); status != 0 {
			t.Fatal(c.err.String())
		}
		for i, line := range strings.Split(strings.TrimSpace(c.out.String()), "\n") {
			if i > 0 {
				ids = append(ids, strings.Fields(line)[0])
			}
		}
		return ids
	}
	all := append(append(append([]string{}, open...), ended...), failed...)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, all},
		{[]string{"-limit", "4"}, append(append([]string{}, open...), ended[4], failed[0])},
		{[]string{"-limit", "1"}, open[1:]},
		{[]string{"-state", "running,queued"}, open},
		{[]string{"-state", "failed", "-state", "done", "-limit", "2"}, []string{ended[4], failed[0]}},
		{[]string{"-after", open[1], "-limit", "2"}, ended[:2]},
		{[]string{"-after", failed[0]}, nil},
		{[]string{"-state", "lost"}, nil},
	} {
		if got := list(c.args...); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("tasks %q = %v\nwant %v", c.args, got, c.want)
		}
	}
	c := newConsole("")
	var array []api.TaskStatus
	if status := Run(&c.Env, []string{"ps", "-json", "-addr", addr}); status != 0 || json.Unmarshal([]byte(c.out.String()), &array) != nil || len(array) != len(all) {
		t.Errorf("ps -json = %d %s, want an array of %d", status, c.out.String(), len(all))
	}
	newConsole("").want(t, []string{"tasks", "-json", "-addr", addr, "-state", "lost"}, 0, "[]\n", "")
	newConsole("").want(t, append([]string{"cancel", "-q", "-addr", addr}, open...), 0, "", "")
}

func TestCommandsThatReturnToTasksRefuse(t *testing.T) {
	const id = "aaaaaaaaaaaaaaaaaaaaaaaaae"
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"tasks x", 2, `scagent tasks: unexpected argument "x"; want none (see: scagent tasks -h)`},
		{"ps x", 2, `scagent tasks: unexpected argument "x"; want none (see: scagent tasks -h)`},
		{"tasks -state open", 2, `scagent tasks: -state is "open"; want some of queued, running, done, failed, cancelled, lost (see: scagent tasks -h)`},
		{"tasks -limit 0", 2, `scagent tasks: -limit is 0; want 1 to 10000 (see: scagent tasks -h)`},
		{"tasks -limit 10001", 2, `scagent tasks: -limit is 10001; want 1 to 10000 (see: scagent tasks -h)`},
		{"tasks -after x", 2, `scagent tasks: -after is "x"; not an id: "x"; want the 26 letters and digits that submit printed (see: scagent tasks -h)`},
		{"logs", 2, `scagent logs: want one id of a task or a run (see: scagent logs -h)`},
		{"logs " + id + " " + id, 2, `scagent logs: want one id of a task or a run (see: scagent logs -h)`},
		{"logs x", 2, `scagent logs: not an id: "x"; want the 26 letters and digits that submit printed (see: scagent logs -h)`},
		{"logs -stream all " + id, 2, `scagent logs: -stream is "all"; want one of stdout, stderr, both (see: scagent logs -h)`},
		{"wait", 125, `scagent wait: want at least one id of a task or a run (see: scagent wait -h)`},
		{"wait " + id + " x", 125, `scagent wait: not an id: "x"; want the 26 letters and digits that submit printed (see: scagent wait -h)`},
		{"wait -timeout soon " + id, 125, `scagent wait: -timeout is "soon"; want a duration such as 500ms, 10s, 5m or 24h (see: scagent wait -h)`},
		{"status", 2, `scagent status: want at least one id of a task or a run (see: scagent status -h)`},
		{"cancel", 2, `scagent cancel: want at least one id of a task or a run (see: scagent cancel -h)`},
		{"cancel " + id[1:], 2, `scagent cancel: not an id: "` + id[1:] + `"; want the 26 letters and digits that submit printed (see: scagent cancel -h)`},
	} {
		newConsole("").want(t, strings.Fields(c.args), c.status, "", c.want+"\n")
	}
}

func TestIDsThatAreNotKnownAreOneLineEach(t *testing.T) {
	_, addr := newAgent(t, script)
	known := submitMany(t, addr, 1, "-on", "w1", "echo")[0]
	newConsole("").want(t, []string{"wait", "-addr", addr, known}, 0, "", "")
	a, b := "aaaaaaaaaaaaaaaaaaaaaaaaae", "baaaaaaaaaaaaaaaaaaaaaaaae"
	line := func(id string) string {
		return "scagent: no task or run " + id + " is known to the agent of node " + id[:8] + ", which forgets the oldest\n"
	}
	newConsole("").want(t, []string{"cancel", "-addr", addr, a, known, b}, 1, "", line(a)+line(b))
	newConsole("").want(t, []string{"logs", "-f", "-addr", addr, a}, 1, "", line(a))
	newConsole("").want(t, []string{"wait", "-addr", addr, a}, 125, "", line(a))
	c := newConsole("")
	if status := Run(&c.Env, []string{"status", "-json", "-addr", addr, a, known}); status != 1 || c.err.String() != line(a) || !strings.HasPrefix(c.out.String(), `{"id":"`+known) || strings.Count(c.out.String(), "\n") != 1 {
		t.Errorf("status = %d, %s%s", status, c.out.String(), c.err.String())
	}
	c = newConsole("")
	if status := Run(&c.Env, []string{"status", "-addr", addr, known, known, known}); status != 0 || strings.Count(c.out.String(), "Task:") != 1 {
		t.Errorf("status of an id three times = %d, %s", status, c.out.String())
	}
}

func TestStatusSaysWhichAttempt(t *testing.T) {
	for n, want := range map[uint32]string{0: "none has started", 1: "1", 3: "3, after 2 that did not count"} {
		if got := attempt(&api.TaskStatus{Attempt: n}); got != want {
			t.Errorf("attempt %d is %q, want %q", n, got, want)
		}
	}
}
