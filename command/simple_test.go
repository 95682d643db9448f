package command

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

func TestSimpleCommands(t *testing.T) {
	b, addr := newAgent(t, script)
	b.Pool[0].Data = json.RawMessage(`{"a":1}`)
	b.Pool[0].Addr, b.Pool[0].Port = "10.0.0.1", 44201
	run := func(args ...string) []string { return append(args, "-addr", addr) }

	newConsole("").want(t, run("available", "off"), 0, "", "")
	if b.Available() {
		t.Error("available off did nothing")
	}
	newConsole("").want(t, run("available", "on"), 0, "", "")
	if !b.Available() {
		t.Error("available on did nothing")
	}
	newConsole("").want(t, run("data"), 0, `{"a":1}`+"\n", "")
	newConsole("").want(t, run("data", "b=x", "a=2"), 0, "", "")
	if got := string(b.Data()); got != `{"a":2,"b":"x"}` {
		t.Errorf("data is %s", got)
	}
	newConsole("").want(t, run("data", `[1]`), 0, "", "")
	if got := string(b.Data()); got != `[1]` {
		t.Errorf("data is %s", got)
	}
	newConsole("").want(t, run("join", "10.0.0.5", "10.0.0.6"), 0, "", "scagent: joined at 2 of 2 addresses\n")
	newConsole("").want(t, run("join", "-q", "10.0.0.7"), 0, "", "")
	newConsole("").want(t, run("join", "-json", "10.0.0.8"), 0, "{\"joined\":1}\n", "")
	if got := strings.Join(b.Joined(), " "); got != "10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8" {
		t.Errorf("joined at %s", got)
	}
	newConsole("").want(t, run("members", "-role", "master"), 0,
		"NAME  ADDRESS         ROLES   STATUS  SLOTS  AVAILABLE  DATA\nm     10.0.0.1:44201  master  alive   -      -          {\"a\":1}\n", "")
	newConsole("").want(t, run("members", "-json", "-role", "worker"), 0, "[]\n", "")
	newConsole("").want(t, run("drain"), 0, "", "")
	if !b.Drained() {
		t.Error("drain did nothing")
	}
	newConsole("").want(t, run("leave"), 0, "", "")
	if !b.Left() {
		t.Error("leave did nothing")
	}

	b.Fail = errors.New("no\x1b[2J")
	for _, args := range [][]string{{"available", "on"}, {"data", "a=1"}, {"join", "x"}, {"drain"}, {"leave"}} {
		c := newConsole("")
		if status := Run(&c.Env, run(args...)); status != 1 || c.out.String() != "" || strings.Count(c.err.String(), "\n") != 1 || strings.Contains(c.err.String(), "\x1b") {
			t.Errorf("%v = %d, stderr %q; want 1 and one clean line", args, status, c.err.String())
		}
	}
}

func TestInfo(t *testing.T) {
	b, addr := newAgent(t, script)
	b.Self = api.Info{Name: "n1", ID: "abc", Roles: []string{"worker", "master"}, Kinds: []tasks.Kind{tasks.Command}, Slots: 2, Available: true,
		Trust: "everyone\nmay", Pid: 7, Socket: "/run/1.sock", SocketMode: "0660", SocketGroup: "ops", HTTP: "http://127.0.0.1:1", TokenFile: "/t", Limits: map[string]int64{"b": 2, "a": 1}, Counters: map[string]uint64{"x": 3}}
	newConsole("").want(t, []string{"info", "-addr", addr}, 0, `Name:        n1
Id:          abc
Roles:       worker, master
Trust:       everyone\nmay
Kinds:       command
Policy:      {}
Slots:       0 busy of 2
Available:   yes
Pid:         7
Socket:      /run/1.sock, mode 0660, group ops
HTTP:        http://127.0.0.1:1, token in /t
Goroutines:  0
Limit a:     1
Limit b:     2
Counter x:   3
`, "")
	c := newConsole("")
	var info api.Info
	if status := Run(&c.Env, []string{"info", "-json", "-addr", addr}); status != 0 || json.Unmarshal([]byte(c.out.String()), &info) != nil || info.Pid != 7 {
		t.Errorf("info -json = %d, %s", status, c.out.String())
	}
}

func TestInfoSaysWhoMayUseTheSocket(t *testing.T) {
	for _, c := range []struct {
		info api.Info
		want string
	}{
		{api.Info{Socket: "/s", SocketMode: "0600"}, "Socket:      /s, mode 0600\n"},
		{api.Info{Socket: "/s"}, "Socket:      /s\n"}, // of an agent that does not say
	} {
		if got := formatInfo(&c.info); !strings.Contains(got, c.want) || strings.Contains(got, "HTTP") {
			t.Errorf("info of %+v is %s; want %q, and no HTTP", c.info, got, c.want)
		}
	}
}

func TestStatusAndCancel(t *testing.T) {
	started, reasons := make(chan struct{}, 2), make(chan error, 2)
	b, addr := newAgent(t, sleeper(started, false, reasons))
	c := newConsole("")
	if status := Run(&c.Env, []string{"submit", "-addr", addr, "-all", "-detach", "x"}); status != 0 {
		t.Fatal(c.err.String())
	}
	run := strings.TrimSpace(c.out.String())
	<-started
	<-started
	task := b.Tasks(tasks.ID{}, nil, 1)[0].ID.String()
	waitRunning(t, b, task)

	status := func(id string, want ...string) {
		t.Helper()
		c := newConsole("")
		if got := Run(&c.Env, []string{"status", "-addr", addr, id}); got != 0 {
			t.Errorf("status %s = %d: %s", id, got, c.err.String())
		}
		for _, w := range want {
			if !strings.Contains(c.out.String(), w) {
				t.Errorf("status %s lacks %q:\n%s", id, w, c.out.String())
			}
		}
	}
	status(run, "TASK", "w1", "w2", "running")
	status(task, "Task:     "+task, "Run:      "+run, "State:    running")
	newConsole("").want(t, []string{"cancel", "-addr", addr, task}, 0, "", "scagent: cancelled 1 task\n")
	<-reasons
	// One that is being stopped is among those that have not ended, and is counted again.
	if c := newConsole(""); Run(&c.Env, []string{"wait", "-addr", addr, task}) != 130 {
		t.Errorf("wait for the cancelled task: %s", c.err.String())
	}
	newConsole("").want(t, []string{"cancel", "-json", "-addr", addr, run}, 0, "{\"stopped\":1}\n", "")
	<-reasons
	id, _ := tasks.ParseID(run)
	r, err := b.Run(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	status(task, "State:       cancelled", "Ended with:  cancelled")
	newConsole("").want(t, []string{"cancel", "-addr", addr, run}, 0, "", "scagent: cancelled 0 tasks\n")

	const nobody = "aaaaaaaaaaaaaaaaaaaaaaaaae"
	for _, command := range []string{"status", "cancel"} {
		c := newConsole("")
		if got := Run(&c.Env, []string{command, "-addr", addr, nobody}); got != 1 || !strings.Contains(c.err.String(), nobody) {
			t.Errorf("%s of an unknown id = %d, %q", command, got, c.err.String())
		}
	}
}

func TestMonitorPrintsUntilInterrupted(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		b, addr := newAgent(t, script)
		c := newConsole("")
		args := []string{"monitor", "-addr", addr}
		if format == "json" {
			args = append(args, "-json")
		}
		ended := make(chan int)
		go func() { ended <- Run(&c.Env, args) }()
		// Until the monitor has seen one, events may be from before it was there.
		deadline := time.After(10 * time.Second)
		for c.out.String() == "" {
			b.Feed().Append(api.Event{Event: "workerAvailable", Member: &api.Member{Name: "n\x1b1", Status: "alive", Roles: []string{"worker"}, Data: json.RawMessage(`{"a":1}`)}})
			select {
			case <-deadline:
				t.Fatal("the monitor prints nothing")
			case <-time.After(5 * time.Millisecond):
			}
		}
		c.signals <- os.Interrupt
		if status := <-ended; status != 0 || c.err.String() != "" {
			t.Errorf("monitor = %d, stderr %q; want 0 and nothing", status, c.err.String())
		}
		line, _, _ := strings.Cut(c.out.String(), "\n")
		var e api.Event
		if format == "json" {
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Member == nil || e.Member.Name != "n\x1b1" {
				t.Errorf("line %s: %v", line, err)
			}
		} else if !strings.HasSuffix(line, ` workerAvailable n\x1b1 alive worker {"a":1}`) {
			t.Errorf("line %q", line)
		}
	}
}

func TestMembersWatchPrintsChanges(t *testing.T) {
	_, addr := newAgent(t, script)
	c := newConsole("")
	ended := make(chan int)
	go func() { ended <- Run(&c.Env, []string{"members", "-watch", "-addr", addr}) }()
	deadline := time.After(10 * time.Second)
	for c.out.String() == "" {
		select {
		case <-deadline:
			t.Fatal("members -watch prints nothing")
		case <-time.After(5 * time.Millisecond):
		}
	}
	c.signals <- os.Interrupt
	if status := <-ended; status != 0 || c.err.String() != "" || strings.Count(c.out.String(), "NAME") != 1 {
		t.Errorf("members -watch = %d, %q, stderr %q; want the list once", status, c.out.String(), c.err.String())
	}
}

func TestClosedStdoutEndsOtherCommandsQuietly(t *testing.T) {
	_, addr := newAgent(t, script)
	for _, args := range [][]string{{"members", "-addr", addr}, {"info", "-addr", addr}, {"help"}, {"version", "-json"}} {
		c := newConsole("")
		c.Stdout = closedPipe{}
		c.want(t, args, 141, "", "")
	}
}
