//go:build linux

package test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	h := newLab(t).host()
	if out := h.scagent("version").ok(t); !regexp.MustCompile(`^scagent \S+ \(go\S+, linux/\w+\)\n$`).MatchString(out) {
		t.Errorf("version prints %q", out)
	}
	if v := decode[map[string]string](t, h.scagent("version", "-json").ok(t)); v["version"] == "" || v["os"] != "linux" {
		t.Errorf("version -json prints %v", v)
	}
	commands := regexp.MustCompile(`(?m)^  ([a-z]+) `).FindAllStringSubmatch(h.scagent("help").ok(t), -1)
	if len(commands) < 10 {
		t.Errorf("help names %d commands, want them all", len(commands))
	}
	for _, c := range commands {
		if out := h.scagent(c[1], "-h").ok(t); !strings.Contains(out, "scagent "+c[1]) {
			t.Errorf("%s -h prints %.100q", c[1], out)
		}
	}
}

// status is what `status -json` prints of a task.
type status struct {
	task
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
}

func TestDetachedTasksAreFollowedByTheirID(t *testing.T) {
	t.Parallel()
	master, _ := workers(t, 2)
	l := master.host.lab
	state := func(id string) status { return decode[status](t, master.call("status", "-json", id).ok(t)) }

	id := strings.TrimSuffix(master.call("submit", "-detach", "-dir", l.dir, "-shell", noteStart+"echo out; echo err >&2; while ! test -e go; do sleep 0.05; done; exit 5").ok(t), "\n")
	l.starts(t, 1)
	eventually(t, patience, "the task is said to run", func() (bool, any) { s := state(id); return s.State == "running", s })
	l.file("go", "")
	eventually(t, patience, "the task ends", func() (bool, any) { s := state(id); return s.State == "failed", s })
	if s := state(id); s.ID != id || s.ExitCode != 5 || s.Stdout != "out\n" || s.Stderr != "err\n" || s.Attempt != 1 || s.StartedAt == nil || s.FinishedAt.Before(*s.StartedAt) {
		t.Errorf("status is %+v", s)
	}
	if out := master.call("status", id).ok(t); !containsAll(out, []string{id, "failed", "5"}) {
		t.Errorf("status prints %s", out)
	}

	run := strings.TrimSuffix(master.call("submit", "-detach", "-all", "sleep", "60").ok(t), "\n")
	both := func(state string) func() (bool, any) {
		return func() (bool, any) {
			r := decode[struct{ Tasks []status }](t, master.call("status", "-json", run).ok(t))
			return len(r.Tasks) == 2 && r.Tasks[0].State == state && r.Tasks[1].State == state, r
		}
	}
	eventually(t, patience, "both tasks run", both("running"))
	r := master.call("cancel", run)
	if r.want(t, 0, ""); !strings.Contains(r.stderr, "2") {
		t.Errorf("%s\nwant it to say that 2 were cancelled", r)
	}
	eventually(t, patience, "both are cancelled", both("cancelled"))
	master.call("status", "nonsense").complains(t, 2, "nonsense")
	unknown := "a" + id[1:]
	if unknown == id {
		unknown = "b" + id[1:]
	}
	master.call("status", unknown).complains(t, 1, unknown)
	master.call("cancel", unknown).complains(t, 1, unknown)
}

func TestAWorkerOutOfUseIsReachedByForceAlone(t *testing.T) {
	t.Parallel()
	master, ws := workers(t, 2)
	ws[0].call("available", "off").want(t, 0, "")
	eventually(t, patience, "the master knows", func() (bool, any) { m := master.member("w1"); return !m.Available, m })
	master.call("submit", "-all", "--", "echo", "hi").want(t, 0, "w2: hi\n")
	master.call("submit", "-on", "w1", "-wait-workers", "100ms", "true").complains(t, 125, "w1", "unavailable")
	master.call("submit", "-on", "w1", "-force", "--", "echo", "hi").want(t, 0, "hi\n")
	ws[0].call("available", "on").want(t, 0, "")
	master.call("submit", "-on", "w1", "--", "echo", "hi").want(t, 0, "hi\n") // waits until the master knows
	ws[0].call("available", "maybe").complains(t, 2, "on or off")
}

func TestADrainedWorkerEndsItsTasksAndTakesNoOthers(t *testing.T) {
	t.Parallel()
	master, ws := workers(t, 2)
	enough := master.host.lab.dir + "/enough"
	task := master.begin("submit", "-on", "w1", "-shell", "echo up; while [ ! -e "+enough+" ]; do sleep 0.05; done; echo end")
	task.out.await(t, "up")
	drain := ws[0].begin("drain")
	eventually(t, patience, "the master knows", func() (bool, any) { m := master.member("w1"); return !m.Available, m })
	master.call("submit", "-all", "--", "echo", "hi").want(t, 0, "w2: hi\n")
	master.call("submit", "-on", "w1", "-force", "true").complains(t, 125, "w1", "draining")
	select {
	case <-drain.done:
		t.Errorf("a task still runs, and drain has ended: %s", drain.await())
	default:
	}
	master.host.sh("touch " + enough).ok(t)
	drain.await().want(t, 0, "")
	task.await().want(t, 0, "up\nend\n")
	ws[0].call("available", "on").complains(t, 1, "draining")
	ws[0].call("drain").want(t, 0, "")
	if m := master.member("w1"); m.Status != "alive" || m.Available {
		t.Errorf("the drained worker is seen as %+v; want it alive and unavailable", m)
	}
	ws[0].call("submit", "-on", "w2", "--", "echo", "hi").want(t, 0, "hi\n")
}

func TestJoinInfoMonitorAndLeave(t *testing.T) {
	t.Parallel()
	hosts := newLab(t).hosts(2)
	a, b := hosts[0].agent("-name", "a", "-no-multicast"), hosts[1].agent("-name", "b", "-no-multicast", "-role", "worker", "-slots", "3")
	monitor := a.begin("monitor")
	events := a.begin("monitor", "-json")
	eventually(t, patience, "both monitors print", func() (bool, any) {
		a.call("event", "probe").ok(t)
		return monitor.out.String() != "" && events.out.String() != "", nil
	})
	if live := alive(a.members()); len(live) != 1 {
		t.Fatalf("without multicast, a sees %v", live)
	}
	b.call("join", "10.77.0.9").complains(t, 1, "10.77.0.9")
	if r := b.call("join", "10.77.0.1"); r.want(t, 0, "").stderr == "" {
		t.Errorf("%s\nwant a word", r)
	}
	assemble(t, patience, a, b)
	monitor.out.await(t, "workerAvailable", " b ")
	if m := a.member("b"); m.Slots != 3 || !m.Available || !slices.Equal(m.Roles, []string{"worker"}) {
		t.Errorf("a sees b as %+v", m)
	}

	info := decode[struct {
		Name, Addr, Posture, Socket, Version, Trust string
		Roles                                       []string
		Slots, Pid                                  int
		Counters                                    map[string]uint64
	}](t, b.call("info", "-json").ok(t))
	if info.Name != "b" || info.Addr != "10.77.0.2:44201" || info.Posture != "open" || info.Socket != b.socket || info.Slots != 3 ||
		info.Pid != b.pid() || info.Version == "" || info.Trust == "" || len(info.Counters) == 0 {
		t.Errorf("info is %+v", info)
	}
	if out := b.call("info").ok(t); !containsAll(out, []string{"10.77.0.2:44201", b.socket}) {
		t.Errorf("info prints %s", out)
	}

	a.call("submit", "-on", "b", "true").want(t, 0, "")
	monitor.out.await(t, "task", "command", "done", "on b")
	b.call("leave").want(t, 0, "")
	if r := b.await(); r.status != 0 {
		t.Errorf("an agent that was told to leave: %s", r)
	}
	monitor.out.await(t, "workerUnavailable", " b ", "left")
	line := events.out.await(t, `"workerUnavailable"`)
	ev := decode[struct {
		Event  string
		Time   time.Time
		Member member
		Task   json.RawMessage
	}](t, line)
	if ev.Event != "workerUnavailable" || ev.Member.Name != "b" || ev.Member.Status != "left" || ev.Time.IsZero() {
		t.Errorf("monitor -json prints %s", line)
	}
	if m := a.member("b"); m.Status != "left" {
		t.Errorf("a says of b: %v", m)
	}
	for _, p := range []*process{monitor, events} {
		p.signal(syscall.SIGINT)
		if r := p.await(); r.status != 0 || r.stderr != "" {
			t.Errorf("%s\nwant status 0 after ^C", r)
		}
	}
}
