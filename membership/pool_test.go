package membership

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNodesSeeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, func(i int, c *Config) {
			if i == 2 {
				c.Roles = []Role{RoleTracker, RoleMaster}
			}
			c.Document = Document{Data: []byte(fmt.Sprintf(`{"i":%d}`, i)), Kinds: []string{"command"}}
		})
		for _, n := range nodes {
			all := n.Members()
			if !slices.IsSortedFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) }) {
				t.Errorf("Members() = %v, want sorted by name", all)
			}
			for i, m := range all {
				if m.ID != testID(i) || m.Boot != "1" || m.Slots != 4 || m.Version != "v1.2.3" || m.Status != Alive ||
					m.AddrPort != nodes[i].config.Advertise || m.Self != (m.ID == n.config.ID) || !m.DocumentKnown ||
					string(m.Document.Data) != fmt.Sprintf(`{"i":%d}`, i) || !slices.Equal(m.Document.Kinds, []string{"command"}) {
					t.Errorf("%s sees %+v as member %d", n.Self().Name, m, i)
				}
			}
			if got := all[2].Roles; !slices.Equal(got, []Role{RoleMaster, RoleTracker}) {
				t.Errorf("roles of the tracker = %v", got)
			}
		}
	})
}

// Pools of 64 nodes that all join one seed at the same moment, as a pool
// that is switched on does.
func TestManyNodesJoinAtOnce(t *testing.T) {
	const count, rounds = 64, 2
	var worst time.Duration
	for range rounds {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			l.net.SetDelay(200 * time.Microsecond)
			nodes := make([]*node, count)
			for i := range nodes {
				nodes[i] = l.prepare(i, func(c *Config) {
					if i > 0 {
						c.Seeds = []string{testIP(0)}
					}
				})
			}
			for _, n := range nodes {
				n.start(t)
			}
			took := within(t, 3*time.Second, "64 nodes see 64", func() bool { return allSee(nodes, count) })
			worst = max(worst, took)
		})
	}
	t.Logf("slowest of %d: %v", rounds, worst)
}

func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(5, nil)
		gone := nodes[4]
		if err := gone.Leave(t.Context()); err != nil {
			t.Fatalf("Leave: %v", err)
		}
		if err := gone.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		within(t, time.Second, "it is seen as left", func() bool {
			return !slices.ContainsFunc(nodes[:4], func(n *node) bool { return n.status(testID(4)) != Left })
		})
		if s := gone.Self().Status; s != Left {
			t.Errorf("own status after Leave = %s, want left", s)
		}
		during(t, 50*time.Second, "left stays listed", func() bool { return nodes[0].status(testID(4)) == Left })
		within(t, 15*time.Second, "left is forgotten", func() bool { return nodes[0].status(testID(4)) == "unknown" })

		want := []string{"workerUnavailable n004", "masterUnavailable n004"}
		for _, n := range nodes[:4] {
			got := slices.DeleteFunc(n.seen(), func(s string) bool {
				return !strings.HasSuffix(s, "n004") || strings.HasPrefix(s, "update")
			})
			if len(got) != 4 || !slices.Equal(got[2:], want) {
				t.Errorf("%s saw %v, want %v after two of coming", n.Self().Name, got, want)
			}
		}
	})
}

func TestLeaveAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		n := l.start(0, nil)
		began := time.Now()
		if err := n.Leave(t.Context()); err != nil || time.Since(began) > 100*time.Millisecond {
			t.Errorf("Leave = %v after %v, want nil at once", err, time.Since(began))
		}
	})
}

func TestCrashIsSuspectThenFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(5, func(_ int, c *Config) { c.FailedTTL = 10 * time.Minute })
		nodes[4].host.Vanish()
		was := func(s Status) func() bool {
			return func() bool {
				return !slices.ContainsFunc(nodes[:4], func(n *node) bool { return n.status(testID(4)) != s })
			}
		}
		within(t, 8*time.Second, "it is suspect", was(Suspect))
		if nodes[0].present() != 5 {
			t.Error("a suspect does not count as present")
		}
		within(t, 30*time.Second, "it failed", was(Failed))
		during(t, 5*time.Minute, "failed stays listed", was(Failed))
		within(t, 6*time.Minute, "failed is forgotten", was("unknown"))
		nodes[4].Close()
	})
}

func TestSuspicionEndsWhenTheNodeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(4, nil)
		for i := range 3 {
			l.net.Cut(testIP(i), testIP(3))
		}
		within(t, 8*time.Second, "it is suspect", func() bool { return nodes[0].status(testID(3)) == Suspect })
		l.net.HealAll()
		within(t, 5*time.Second, "it is alive", func() bool { return nodes[0].status(testID(3)) == Alive })
		during(t, time.Minute, "it stays alive", func() bool { return nodes[0].status(testID(3)) == Alive })
	})
}

func TestRestartFoldsIntoTheNewestBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(4, func(_ int, c *Config) { c.Boot = "z9" })
		nodes[3].host.Kill()
		nodes[3].Close()
		again := l.start(3, func(c *Config) { c.Boot, c.Seeds = "100", []string{testIP(1)} }) // "100" > "z9" in base 36
		within(t, 3*time.Second, "the new boot is seen", func() bool {
			return !slices.ContainsFunc(nodes[:3], func(n *node) bool {
				m, _ := n.Member(testID(3))
				return m.Boot != "100" || m.Status != Alive
			})
		})
		// The old boot dies in gossip meanwhile.
		during(t, time.Minute, "the new boot is undisturbed", func() bool {
			m, _ := nodes[0].Member(testID(3))
			return m.Boot == "100" && m.Status.Present() && nodes[0].present() == 4 && again.present() == 4
		})
		var got []string
		nodes[0].mu.Lock()
		defer nodes[0].mu.Unlock()
		for _, e := range nodes[0].events {
			if e.Member.ID == testID(3) && e.Type != MemberUpdate {
				got = append(got, fmt.Sprintf("%s %s", e.Type, e.Member.Boot))
			}
		}
		want := []string{"workerAvailable z9", "masterAvailable z9", "workerUnavailable z9", "masterUnavailable z9",
			"workerAvailable 100", "masterAvailable 100"}
		if !slices.Equal(got, want) {
			t.Errorf("events = %v, want %v", got, want)
		}
	})
}

func TestEqualNamesAreTwoMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, func(_ int, c *Config) { c.Name = "box" })
		all := nodes[1].Members()
		for i, m := range all {
			if m.Name != "box" || m.ID != testID(i) {
				t.Errorf("member %d = %q %s", i, m.Name, m.ID)
			}
		}
	})
}

func TestClustersDoNotMix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a := l.start(0, nil)
		b := l.start(1, func(c *Config) { c.Cluster = "other" })
		n, err := b.Join(t.Context(), testIP(0))
		if n != 0 || err == nil || !strings.Contains(err.Error(), `cluster "other"`) {
			t.Errorf("Join = %d, %v; want an error that names the cluster", n, err)
		}
		during(t, 10*time.Second, "they stay apart", func() bool { return a.present() == 1 && b.present() == 1 })
		if a.Stats().Refused["packet_label"] == 0 {
			t.Errorf("Refused = %v, want packet_label counted", a.Stats().Refused)
		}
	})
}

func TestCloseBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		n := l.prepare(0, nil)
		if err := n.Leave(t.Context()); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Leave before Start = %v, want ErrNotRunning", err)
		}
		if m := n.Members(); len(m) != 1 || !m[0].Self {
			t.Errorf("Members before Start = %v, want this node", m)
		}
		if _, err := n.Join(t.Context(), "10.0.0.2"); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Join before Start = %v, want ErrNotRunning", err)
		}
		for range 2 {
			if err := n.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
		}
		if err := n.Start(t.Context()); err == nil {
			t.Error("Start after Close = nil, want an error")
		}
	})
}

func TestLeaveAndCloseTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		n := l.start(1, nil)
		if err := n.Start(t.Context()); err == nil {
			t.Error("second Start = nil, want an error")
		}
		for range 2 {
			if err := n.Leave(t.Context()); err != nil {
				t.Errorf("Leave = %v", err)
			}
		}
		if err := n.Broadcast(nil); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Broadcast after Leave = %v, want ErrNotRunning", err)
		}
		for range 2 {
			if err := n.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
		}
		if err := n.Leave(t.Context()); err != nil {
			t.Errorf("Leave after Close = %v", err)
		}
		if err := n.SetDocument(Document{}); err != nil {
			t.Errorf("SetDocument after Close = %v", err)
		}
	})
}

func TestCloseWhileLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a := l.pool(2, nil)[0]
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Leave(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Leave with a dead context = %v", err)
		}
		if err := a.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
}

func TestForceLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(4, nil)
		if err := nodes[0].ForceLeave("n003"); err == nil || !strings.Contains(err.Error(), "stop it instead") {
			t.Errorf("ForceLeave of a member that is alive = %v", err)
		}
		if err := nodes[0].ForceLeave("nobody"); !errors.Is(err, ErrUnknownMember) {
			t.Errorf("ForceLeave of nobody = %v, want ErrUnknownMember", err)
		}
		nodes[3].host.Kill()
		nodes[3].Close()
		within(t, 30*time.Second, "it failed", func() bool { return nodes[1].status(testID(3)) == Failed && nodes[0].status(testID(3)) == Failed })
		if err := nodes[0].ForceLeave("n003"); err != nil {
			t.Fatalf("ForceLeave: %v", err)
		}
		within(t, 3*time.Second, "all see it as left", func() bool {
			return !slices.ContainsFunc(nodes[:3], func(n *node) bool { return n.status(testID(3)) != Left })
		})
	})
}

func TestConfigErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		good := l.prepare(0, nil).config
		for _, c := range []struct {
			name, want string
			edit       func(*Config)
		}{
			{"id", "ID is", func(c *Config) { c.ID = "ABC" }},
			{"boot", "Boot is", func(c *Config) { c.Boot = "0123456789a" }},
			{"no name", "Name is empty", func(c *Config) { c.Name = "" }},
			{"long name", "Name is 65 bytes", func(c *Config) { c.Name = strings.Repeat("x", 65) }},
			{"control characters", "printable", func(c *Config) { c.Name = "a\x1b[2J" }},
			{"no UTF-8", "UTF-8", func(c *Config) { c.Name = "\xff" }},
			{"cluster", "Cluster is 65", func(c *Config) { c.Cluster = strings.Repeat("x", 65) }},
			{"version", "Version is 33", func(c *Config) { c.Version = strings.Repeat("x", 33) }},
			{"no role", "Roles is empty", func(c *Config) { c.Roles = nil }},
			{"unknown role", `"boss"`, func(c *Config) { c.Roles = []Role{"boss"} }},
			{"slots", "Slots is -1", func(c *Config) { c.Slots = -1 }},
			{"no listener", "Listener", func(c *Config) { c.Listener = nil }},
			{"no address", "Advertise is", func(c *Config) { c.Advertise = addrPort(nil, 1) }},
			{"any address", "Advertise is", func(c *Config) { c.Advertise = addrPort(make([]byte, 4), 1) }},
			{"no port", "port 0", func(c *Config) { c.Advertise = addrPort([]byte{10, 0, 0, 1}, 0) }},
			{"seed", `seed "a b"`, func(c *Config) { c.Seeds = []string{"a b"} }},
			{"tracker without Hosts", "Hosts is missing", func(c *Config) { c.Seeds = []string{"http://x:1"} }},
			{"profile", `Profile is "x"`, func(c *Config) { c.Profile = "x" }},
			{"document", "must be JSON", func(c *Config) { c.Document.Data = []byte("{") }},
			{"large document", "262", func(c *Config) { c.Document.Data = fmt.Appendf(nil, "%q", strings.Repeat("x", MaxDocumentBytes)) }},
		} {
			conf := good
			c.edit(&conf)
			if _, err := New(conf); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: New = %v, want an error with %q", c.name, err, c.want)
			}
		}
	})
}

// A probe that is under way goes on after Close, and has nothing to say any more: a logger
// may end with the Pool.
func TestNothingIsLoggedAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said, late atomic.Int64
		l := newLab(t)
		for i := range 20 {
			var closed atomic.Bool
			n := l.start(2*i, func(c *Config) {
				c.Logger = log.New(lineFunc(func() {
					said.Add(1)
					if closed.Load() {
						late.Add(1)
					}
				}), "", 0)
			})
			other := l.start(2*i+1, func(c *Config) { c.Seeds = []string{testIP(2 * i)} })
			within(t, time.Second, "joined", func() bool { return n.present() == 2 })
			other.host.Kill()
			time.Sleep(time.Duration(i) * 100 * time.Millisecond) // at some moment of a probe
			n.Close()
			closed.Store(true)
		}
		time.Sleep(afterShutdown)
		if late.Load() > 0 || said.Load() == 0 {
			t.Errorf("of %d lines %d came after Close", said.Load(), late.Load())
		}
	})
}

// lineFunc is called for each line of a log.
type lineFunc func()

func (f lineFunc) Write(b []byte) (int, error) { f(); return len(b), nil }
