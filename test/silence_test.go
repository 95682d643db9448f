//go:build linux

package test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// silence has nothing come to or from a host any more, and nobody is told, as when a
// cable is pulled; heard ends that.
func (h *host) silence() {
	h.lab.t.Helper()
	need(h.lab.t, "nft")
	h.nft("table inet silent {\n chain in {\n  type filter hook input priority -300\n  iifname != lo drop\n }\n" +
		" chain out {\n  type filter hook output priority -300\n  oifname != lo drop\n }\n}\n")
}

func (h *host) heard() { h.nft("delete table inet silent\n") }

func (h *host) nft(rules string) {
	h.lab.t.Helper()
	cmd := h.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.lab.t.Fatalf("nft: %v\n%s", err, out)
	}
}

// TestATaskOfASilentWorkerRunsElsewhere cuts off the host that runs a task, without a
// word to the master. SCAGENT_TEST_LONG does it a hundred times.
func TestATaskOfASilentWorkerRunsElsewhere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	rounds := 2
	if os.Getenv("SCAGENT_TEST_LONG") != "" {
		rounds = 100
	}
	hosts := l.hosts(4)
	master := hosts[0].agent("-name", "m", "-role", "master")
	workers := map[string]*agent{}
	all := []*agent{master}
	for i, h := range hosts[1:] {
		a := h.launch("-name", "w"+string(rune('1'+i)))
		workers[a.up().name] = a
		all = append(all, a)
	}
	assemble(t, patience, all...)
	var took []time.Duration
	for range rounds {
		p := master.begin("submit", "-q", "-dir", l.dir, "-shell", noteStart+`test $SCAGENT_ATTEMPT = 1 && sleep 60; true`)
		first := l.starts(t, 1)[0]
		silent := time.Now()
		workers[first.worker].host.silence()
		again := l.starts(t, 2)[1]
		if took = append(took, again.at.Sub(silent)); again.worker == first.worker || again.number != "2" {
			t.Errorf("the task started as %v and then %v; want it on another worker", first, again)
		}
		p.await().want(t, 0, "")
		workers[first.worker].host.heard()
		assemble(t, reunion, all...)
		l.remove("starts")
	}
	slices.Sort(took)
	t.Logf("after %s at the soonest, %s in the middle", took[0], took[len(took)/2])
	within(t, "a task of a silent worker runs again", took[len(took)-1], 20*time.Second)
}
