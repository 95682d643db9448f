//go:build !race

package membership

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Built with the race detector, this test ended with a SIGSEGV in one run of three: with
// Go 1.26 runtime.(*timer).maybeRunChan crashes there now and then, in bubbles where
// many tickers are waited for. The code that it runs is in other tests too.

// On a bad network nodes suspect each other now and then. No suspicion outlives
// its cause.
func TestNoSuspicionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(16, nil)
		l.net.SetLoss(0.5, 1)
		for i := range 8 {
			l.net.CutOneWay(testIP(i), testIP(15-i))
		}
		suspects := 0
		for range 60 {
			time.Sleep(time.Second)
			suspects += nodes[0].Stats().Members[Suspect]
		}
		if suspects == 0 {
			t.Error("nobody was ever suspected")
		}
		l.net.SetLoss(0, 1)
		l.net.HealAll()
		allAlive := func() bool {
			return !slices.ContainsFunc(nodes, func(n *node) bool { return n.Stats().Members[Alive] != len(nodes) })
		}
		time.Sleep(30 * time.Second)
		during(t, 10*time.Second, "all are alive", allAlive)
	})
}
