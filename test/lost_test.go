//go:build linux

package test

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The starts file of a task has a line for each attempt: who, when, which.
const noteStart = `echo $SCAGENT_NODE $(date +%s.%N) $SCAGENT_ATTEMPT >> starts; `

// attempt is a line of the starts file.
type attempt struct {
	worker string
	at     time.Time
	number string
}

// starts waits for n attempts and returns all that there are.
func (l *lab) starts(t testing.TB, n int) []attempt {
	t.Helper()
	var lines []string
	eventually(t, patience, "the task starts", func() (bool, any) {
		lines = l.read("starts")
		return len(lines) >= n, lines
	})
	var as []attempt
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("a line of the starts is %q", line)
		}
		sec, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		as = append(as, attempt{f[0], time.UnixMicro(int64(sec * 1e6)), f[2]})
	}
	return as
}

// TestATaskOfAKilledWorkerRunsElsewhere kills the agent that runs a task, on one
// host and on a network. The lease is long: that the connection broke is what tells.
func TestATaskOfAKilledWorkerRunsElsewhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		hosts func(*lab) []*host
	}{
		{"on one host", func(l *lab) []*host { h := l.host(); return []*host{h, h, h} }},
		{"on a network", func(l *lab) []*host { return l.hosts(3) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			hosts := c.hosts(l)
			const lease = "10m"
			master := hosts[0].agent("-name", "m", "-role", "master", "-lease", lease)
			workers := map[string]*agent{"w1": hosts[1].launch("-name", "w1", "-lease", lease), "w2": hosts[2].launch("-name", "w2", "-lease", lease)}
			assemble(t, patience, master, workers["w1"].up(), workers["w2"].up())

			// The first attempt prints nothing and hangs; another ends well.
			p := master.begin("submit", "-dir", l.dir, "-shell", noteStart+`test $SCAGENT_ATTEMPT = 1 && sleep 60; echo done by $SCAGENT_ATTEMPT`)
			first := l.starts(t, 1)[0]
			killed := time.Now()
			workers[first.worker].signal(syscall.SIGKILL)
			again := l.starts(t, 2)
			if len(again) != 2 || again[1].worker == first.worker || again[1].number != "2" {
				t.Errorf("the task started as %v; want once more, on the other worker", again)
			}
			r := p.await().want(t, 0, "done by 2\n")
			t.Logf("a task of a killed worker runs again after %s", again[1].at.Sub(killed).Round(time.Millisecond))
			if r.stderr != "" {
				t.Errorf("%s\nwant nothing on stderr: the first attempt had printed nothing", r)
			}
		})
	}
}

func TestATaskThatHadPrintedSaysThatItStartsAnew(t *testing.T) {
	t.Parallel()
	master, ws := workers(t, 2)
	l := master.host.lab
	p := master.begin("submit", "-dir", l.dir, "-shell", `echo out by $SCAGENT_ATTEMPT; `+noteStart+`test $SCAGENT_ATTEMPT = 1 && sleep 60; true`)
	p.out.await(t, "out by 1")
	first := l.starts(t, 1)[0]
	for _, w := range ws {
		if w.name == first.worker {
			w.signal(syscall.SIGKILL)
		}
	}
	r := p.await().want(t, 0, "out by 1\nout by 2\n")
	if !strings.Contains(r.stderr, "starts anew") {
		t.Errorf("%s\nwant a word on stderr that it started anew", r)
	}
}

func TestAtMostOnceIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	master, ws := workers(t, 2)
	l := master.host.lab
	p := master.begin("submit", "-attempts", "1", "-dir", l.dir, "-shell", noteStart+`sleep 60`)
	first := l.starts(t, 1)[0]
	for _, w := range ws {
		if w.name == first.worker {
			w.signal(syscall.SIGKILL)
		}
	}
	p.await().complains(t, 125, first.worker, "lost while running")
	if n := len(l.read("starts")); n != 1 {
		t.Errorf("the task was started %d times, want once", n)
	}
}

// TestATaskSurvivesABrokenConnection destroys the connections between master and
// worker, of which both are told by a reset, while a task runs.
func TestATaskSurvivesABrokenConnection(t *testing.T) {
	t.Parallel()
	need(t, "ss")
	l := newLab(t)
	hosts := l.hosts(2)
	master, worker := hosts[0].agent("-name", "m", "-role", "master"), hosts[1].agent("-name", "w")
	assemble(t, patience, master, worker)
	p := master.begin("submit", "-dir", l.dir, "-shell", noteStart+`for i in 1 2 3; do echo $i; until test -e go$i; do sleep 0.05; done; done; exit 3`)
	for i, side := range []*host{hosts[0], hosts[1]} {
		p.out.await(t, strconv.Itoa(i+1)) // so there is a connection
		out := side.sh("ss -K -tn state established").ok(t)
		if !strings.Contains(out, "10.77.0.") {
			t.Fatalf("no connection was there to destroy: %s", out)
		}
		for _, a := range []*agent{master, worker} {
			eventually(t, patience, a.name+" has lost its link", func() (bool, any) {
				n := strings.Count(a.err.String(), "link down")
				return n > i, n
			})
		}
		l.file(fmt.Sprintf("go%d", i+1), "")
	}
	p.out.await(t, "3")
	l.file("go3", "")
	r := p.await().want(t, 3, "1\n2\n3\n")
	if r.stderr != "" {
		t.Errorf("%s\nwant nothing on stderr", r)
	}
	if n := len(l.starts(t, 1)); n != 1 {
		t.Errorf("the task was started %d times, want once", n)
	}
}

func TestASubmittersAgentThatIsKilledIsAClearError(t *testing.T) {
	t.Parallel()
	h := newLab(t).host()
	m, w, other := h.launch("-name", "m", "-role", "master"), h.launch("-name", "w"), h.launch("-name", "other", "-role", "master")
	assemble(t, patience, m.up(), w.up(), other.up())
	p := m.begin("submit", "-shell", "echo started; sleep 60")
	p.out.await(t, "started")
	killed := time.Now()
	m.signal(syscall.SIGKILL)
	r := p.await()
	if r.status != 125 || !strings.HasPrefix(r.stderr, "scagent: ") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("%s\nwant status 125 and one line", r)
	}
	t.Logf("the submitter says so after %s", p.ended.Sub(killed).Round(time.Millisecond)) // and not when the task ends
	took := eventually(t, patience, "the others know", func() (bool, any) {
		m := other.member("m")
		return m.Status == "failed", m
	})
	t.Logf("the others say failed after %s", took.Round(time.Millisecond))
	other.call("submit", "--", "echo", "on").want(t, 0, "on\n")
}

func TestATerminatedAgentDrainsAndLeaves(t *testing.T) {
	t.Parallel()
	master, ws := workers(t, 2, "-drain-timeout", "10m")
	l := master.host.lab
	p := master.begin("submit", "-on", "w1", "-dir", l.dir, "-shell", noteStart+"while ! test -e go; do sleep 0.05; done; echo done")
	l.starts(t, 1)
	ws[0].signal(syscall.SIGTERM)
	took := eventually(t, patience, "new tasks go elsewhere", func() (bool, any) {
		r := master.call("submit", "-dry-run", "-all", "true")
		return !strings.Contains(r.stdout, "w1    yes") && strings.Contains(r.stdout, "w2    yes"), r
	})
	t.Logf("new tasks go elsewhere after %s", took.Round(time.Millisecond))
	begin := time.Now()
	l.file("go", "")
	p.await().want(t, 0, "done\n")
	if r := ws[0].await(); r.status != 0 {
		t.Errorf("%s\nwant status 0", r)
	}
	t.Logf("it ends %s after its task may", ws[0].ended.Sub(begin).Round(time.Millisecond))
	for _, other := range []*agent{master, ws[1]} {
		eventually(t, patience, other.name+" says left", func() (bool, any) {
			m := other.member("w1")
			return m.Status == "left", m
		})
	}
	if out := fmt.Sprint(alive(master.members())); strings.Contains(out, "w1") {
		t.Errorf("w1 is among the living: %s", out)
	}
}

func TestASecondSignalEndsAnAgentAtOnce(t *testing.T) {
	t.Parallel()
	h := newLab(t).host()
	a := h.agent("-log-level", "DEBUG", "-drain-timeout", "10m")
	p := a.begin("submit", "-shell", "echo started; sleep 600")
	p.out.await(t, "started")
	a.signal(syscall.SIGINT)
	eventually(t, patience, "it drains", func() (bool, any) {
		r := a.call("info", "-json")
		return strings.Contains(r.stdout, `"draining":true`), r
	})
	begin := time.Now()
	a.signal(syscall.SIGTERM)
	if r := a.await(); r.status != 0 {
		t.Errorf("%s\nwant status 0", r)
	}
	t.Logf("it ends %s after the second signal", a.ended.Sub(begin).Round(time.Millisecond))
	if r := p.await(); r.status == 0 {
		t.Errorf("%s\nwant another status", r)
	}
}
