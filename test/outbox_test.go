//go:build linux

package test

import (
	"syscall"
	"testing"
)

// TestAnOutcomeSurvivesTheAgents kills both agents of a task after it has ended and
// before its master has heard of it. It may run once only, and is done.
func TestAnOutcomeSurvivesTheAgents(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	l := newLab(t)
	hosts := l.hosts(2)
	master := func() *agent {
		return hosts[0].agent("-name", "m", "-role", "master", "-state-dir", "/var/lib/scagent/m")
	}
	worker := func() *agent { return hosts[1].agent("-name", "w", "-state-dir", "/var/lib/scagent/w") }
	m, w := master(), worker()
	assemble(t, patience, m, w)
	p := m.begin("submit", "-attempts", "1", "-dir", l.dir, "-shell",
		`echo $SCAGENT_TASK_ID > id; `+noteStart+`until test -e go; do sleep 0.05; done; echo out`)
	l.starts(t, 1)
	m.signal(syscall.SIGKILL)
	m.await()
	p.await()

	size := func() string {
		return hosts[1].sh("cat /var/lib/scagent/w/journal/*/*.log | wc -c").ok(t)
	}
	before := size()
	l.file("go", "")
	eventually(t, patience, "the outcome is on the worker's disk", func() (bool, any) { return size() != before, before })
	w.signal(syscall.SIGKILL)
	w.await()
	worker()
	m = master()
	id := l.read("id")[0]
	var got task
	eventually(t, patience, "the task has ended", func() (bool, any) {
		r := hosts[0].sh("curl -sS -f --unix-socket " + m.socket + " http://agent/v1/tasks/" + id)
		if r.status != 0 {
			return false, r
		}
		got = decode[task](t, r.stdout)
		return got.State != "queued" && got.State != "running", r
	})
	if got.State != "done" || got.Worker != "w" || got.Stdout != "out\n" {
		t.Errorf("the task is %+v, want it done by w with its output", got)
	}
	if n := len(l.read("starts")); n != 1 {
		t.Errorf("the task was started %d times, want once", n)
	}
}
