//go:build linux

package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
)

// lose has a host lose so many percent of the packets that come to it.
func (h *host) lose(percent int) {
	h.lab.t.Helper()
	need(h.lab.t, "nft")
	h.nft(fmt.Sprintf("table inet lossy {\n chain in {\n  type filter hook input priority -300\n  iifname lo accept\n  numgen random mod 100 < %d drop\n }\n}\n", percent))
}

// TestEventsOverANetworkThatLosesPackets sends events between hosts, to all and in
// requests, while each loses a tenth of what comes to it, UDP and TCP alike.
func TestEventsOverANetworkThatLosesPackets(t *testing.T) {
	l := newLab(t)
	const events = 40
	var agents []*agent
	var monitors []*process
	for i, h := range l.hosts(6) {
		agents = append(agents, h.launch("-name", fmt.Sprint("n", i)))
	}
	for _, a := range agents {
		a.up()
	}
	assemble(t, patience, agents...)
	for _, a := range agents {
		monitors = append(monitors, a.begin("monitor", "-json", "probe", "tick"))
	}
	eventually(t, patience, "all monitors print", func() (bool, any) {
		agents[0].call("event", "probe").ok(t)
		for _, m := range monitors {
			if m.out.String() == "" {
				return false, nil
			}
		}
		return true, nil
	})
	for _, a := range agents {
		a.host.lose(10)
	}
	var want []string
	for i := range events {
		want = append(want, fmt.Sprint(i))
		agents[1].call("event", "tick", fmt.Sprint(i)).ok(t)
	}
	for n, m := range monitors {
		m.out.await(t, "tick", fmt.Sprintf(`"data":%d}`, events-1))
		var got []string
		for line := range strings.Lines(m.out.String()) {
			if e := decode[api.Event](t, line); e.Event == "tick" {
				b, err := e.Data.MarshalJSON()
				if err != nil || e.From != "n1" {
					t.Errorf("n%d got %s: %v", n, line, err)
				}
				got = append(got, string(b))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("n%d printed %v; want each of %d once and in order", n, got, events)
		}
	}
	for range 5 {
		// Nothing answers, but that comes from each.
		r := agents[2].call("event", "-request", "-timeout", "20s", "who")
		if n := strings.Count(r.stderr, "nothing there answers such requests"); n != len(agents) || r.status != 1 {
			t.Errorf("a request to all ended with %d, stderr:\n%s\nwant a line for each", r.status, r.stderr)
		}
	}
}
