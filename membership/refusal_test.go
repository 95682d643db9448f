package membership

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestKilledProcessFailsSoon(t *testing.T) {
	// How soon it is probed is chance: not within 3 s, once in 20. A suspicion alone
	// takes 5 s more.
	var took []time.Duration
	for range 15 {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			const count = 20
			nodes := l.pool(count, nil)
			time.Sleep(5 * time.Second)
			nodes[7].host.Kill()
			nodes[7].Close()
			others := append(nodes[:7:7], nodes[8:]...)
			took = append(took, within(t, time.Minute, "all others say that it failed", func() bool { return allSee(others, count-1) }))
			if s := others[0].status(testID(7)); s != Failed {
				t.Errorf("it is listed as %s, want failed", s)
			}
		})
	}
	slices.Sort(took)
	t.Logf("all others say so after %v", took)
	if m := took[len(took)/2]; m > 4*time.Second {
		t.Errorf("all others say that it failed after %v in the median of %d, want at most 4s", m, len(took))
	}
}

// Silence has its time: the host may be up, and its network not.
func TestCutOffNodeIsSuspectedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		const count = 20
		nodes := l.pool(count, nil)
		time.Sleep(5 * time.Second)
		others := append(nodes[:7:7], nodes[8:]...)
		for _, n := range others {
			l.net.Cut(n.ip, nodes[7].ip)
		}
		during(t, 4*time.Second, "nobody says that it failed", func() bool { return allSee(others, count) })
		l.net.HealAll()
		time.Sleep(time.Minute)
		within(t, time.Minute, "all see all", func() bool { return allSee(nodes, count) })
	})
}

// Who takes packets lives, whether somebody listens for streams or not.
func TestRefusalAloneProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, nil)
		nodes[2].config.Listener.Close()
		during(t, time.Minute, "it is present", func() bool { return allSee(nodes, 3) && nodes[0].status(testID(2)) == Alive })
	})
}

// A process that was buried and lives says so.
func TestBuriedAliveComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(5, nil)
		time.Sleep(5 * time.Second)
		nodes[0].bury(gossipName(testID(3), "1"), 1)
		within(t, time.Second, "it is dead", func() bool { return nodes[0].status(testID(3)) == Failed })
		within(t, 5*time.Second, "it is back everywhere", func() bool { return allSee(nodes, 5) })
	})
}
