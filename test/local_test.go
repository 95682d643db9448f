//go:build linux

package test

import (
	"slices"
	"testing"
)

// TestWithoutAnAgentACommandIsAMasterForAMoment has workers on two hosts of a
// network, and commands on a third that has no agent.
func TestWithoutAnAgentACommandIsAMasterForAMoment(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hosts := l.hosts(3)
	w1, w2 := hosts[0].launch("-name", "w1"), hosts[1].launch("-name", "w2")
	assemble(t, patience, w1.up(), w2.up())
	h := hosts[2]

	// First: a pool goes on talking for a while to an address that has left it.
	l.run(t, "by an address where nobody is", func(t *testing.T) {
		h.scagent("submit", "-no-multicast", "-join", "10.77.0.9", "-wait-workers", "300ms", "true").complains(t, 125, "10.77.0.9")
	})
	l.run(t, "by multicast", func(t *testing.T) {
		r := h.scagent("submit", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
		if r.want(t, 7, "out\n"); r.stderr != "err\n" {
			t.Errorf("%s\nwant stderr %q", r, "err\n")
		}
		t.Logf("one task took %s", r.took)
	})
	l.run(t, "on all", func(t *testing.T) {
		r := h.scagent("submit", "-all", "--", "echo", "hi")
		if got := sortLines(r.ok(t)); got != "w1: hi\nw2: hi\n" {
			t.Error(r)
		}
		t.Logf("a task on all took %s", r.took)
	})
	l.run(t, "by an address", func(t *testing.T) {
		h.scagent("submit", "-no-multicast", "-join", "10.77.0.1", "-on", "w2", "--", "echo", "hi").want(t, 0, "hi\n")
	})
	l.run(t, "files", func(t *testing.T) {
		large := noise(1 << 20)
		l.file("in", large)
		h.scagent("submit", "-in", l.dir+"/in", "-out", "out", "-out-dir", l.dir+"/back", "--", "cp", "in", "out").want(t, 0, "")
		wantFiles(t, l.dir+"/back", map[string]string{"out": large})
	})
	l.run(t, "what must outlive the command is refused", func(t *testing.T) {
		h.scagent("submit", "-detach", "true").complains(t, 125, "-detach", "scagent agent -role master")
	})
	l.run(t, "members", func(t *testing.T) {
		eventually(t, patience, "members are two workers and itself", func() (bool, any) {
			live := alive(decode[[]member](t, h.scagent("members", "-json").ok(t)))
			names := map[string]bool{}
			for _, m := range live {
				names[m.Name] = true
			}
			return names["w1"] && names["w2"] && len(live) <= 3, live // those of the commands before may be leaving
		})
	})
	l.run(t, "a command that needs an agent", func(t *testing.T) {
		h.scagent("info").complains(t, 1, "scagent agent")
	})
	l.run(t, "it has left", func(t *testing.T) {
		eventually(t, patience, "the commands have left", func() (bool, any) {
			ms := w1.members()
			return len(alive(ms)) == 2 && !slices.ContainsFunc(ms, func(m member) bool { return m.Status == "failed" || m.Status == "suspect" }), ms
		})
	})
}
