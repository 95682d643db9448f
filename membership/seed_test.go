package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseSeed(t *testing.T) {
	for _, c := range []struct {
		in   string
		want seed // text is in
	}{
		{"10.0.0.7", seed{host: "10.0.0.7", port: 44201}},
		{"10.0.0.7:99", seed{host: "10.0.0.7", port: 99}},
		{"::1", seed{host: "::1", port: 44201}},
		{"[::1]", seed{host: "::1", port: 44201}},
		{"[2001:db8::7]:80", seed{host: "2001:db8::7", port: 80}},
		{"tracker.example", seed{host: "tracker.example", port: 44201}},
		{"tracker:1", seed{host: "tracker", port: 1}},
		{"srv:_scagent._tcp.example.com", seed{kind: seedSRV, host: "_scagent._tcp.example.com", port: 44201}},
		{"http://tracker:80/x", seed{kind: seedURL, port: 44201}},
		{"https://tracker", seed{kind: seedURL, port: 44201}},
	} {
		c.want.text = c.in
		if got, err := parseSeed(c.in); err != nil || got != c.want {
			t.Errorf("parseSeed(%q) = %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"", " ", ":1", "a:", "a:0", "a:65536", "a:-1", "a:b", "a b", "a/b", "srv:", "srv:a/b", "ftp://x", "http://",
		"fe80::1%eth0", "[fe80::1%eth0]:1", "1:2:3", "user@host", "a\nb"} {
		if got, err := parseSeed(in); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("seed %q", in)) {
			t.Errorf("parseSeed(%q) = %+v, %v; want an error that quotes it", in, got, err)
		}
	}
}

// zone is a Resolver.
type zone struct {
	hosts  map[string][]netip.Addr
	srv    map[string][]*net.SRV
	asked  atomic.Int32
	silent atomic.Bool
}

var errNoHost = errors.New("no such host")

func (z *zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	z.asked.Add(1)
	if a := z.hosts[host]; a != nil && !z.silent.Load() {
		return a, nil
	}
	return nil, errNoHost
}

func (z *zone) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	if r := z.srv[name]; r != nil {
		return name, r, nil
	}
	return "", nil, errNoHost
}

func TestSeedForms(t *testing.T) {
	z := &zone{
		hosts: map[string][]netip.Addr{
			"one.example":  {netip.MustParseAddr(testIP(0))},
			"many.example": {netip.MustParseAddr("10.0.99.1"), netip.MustParseAddr(testIP(0)), netip.MustParseAddr("10.0.99.2")},
		},
		srv: map[string][]*net.SRV{"_scagent._tcp.example": {{Target: "one.example.", Port: DefaultPort}}},
	}
	for _, s := range []string{"one.example", "many.example:44201", "srv:_scagent._tcp.example", "http://tracker.example", testIP(0) + ":44201"} {
		t.Run(s, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.start(0, nil)
				n := l.start(1, func(c *Config) {
					c.Seeds, c.Resolver = []string{s}, z
					c.Hosts = func(_ context.Context, url string) ([]string, error) {
						if url != s {
							t.Errorf("asked for %q", url)
						}
						return []string{"one.example", "srv:never", "::bad::"}, nil
					}
				})
				within(t, time.Second, "joined", func() bool { return n.present() == 2 })
			})
		})
	}
}

func TestSeedThatStartsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		z := &zone{hosts: map[string][]netip.Addr{"late.example": {netip.MustParseAddr(testIP(0))}}}
		z.silent.Store(true)
		n := l.start(1, func(c *Config) { c.Seeds, c.Resolver = []string{"late.example"}, z })
		time.Sleep(time.Hour)
		if got := z.asked.Load(); got < 100 || got > 300 {
			t.Errorf("%d attempts in an hour, want one in 15s to 30s", got)
		}
		z.silent.Store(false)
		l.start(0, nil)
		within(t, 31*time.Second, "joined", func() bool { return n.present() == 2 })
		before := z.asked.Load()
		time.Sleep(10 * time.Minute)
		if after := z.asked.Load(); after != before {
			t.Errorf("%d attempts after the seed had answered", after-before)
		}
	})
}

// Who answers and tells of nobody that may be in is not asked every second.
func TestSeedWhoseMembersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		z := &zone{hosts: map[string][]netip.Addr{"strange.example": {netip.MustParseAddr(testIP(0))}}}
		l.start(0, nil)
		n := l.start(1, func(c *Config) {
			c.Seeds, c.Resolver, c.Allow = []string{"strange.example"}, z, allowOnly(testIP(1))
		})
		time.Sleep(time.Hour)
		if got := z.asked.Load(); got < 100 || got > 300 || n.present() != 1 {
			t.Errorf("%d attempts in an hour, and %d members; want one in 15s to 30s, and none but itself", got, n.present())
		}
	})
}

func TestSeedsAreTriedAgainWhenAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a := l.start(0, nil)
		// FailedTTL is short, so that rejoining cannot be what brings it back.
		n := l.start(1, func(c *Config) { c.Seeds, c.FailedTTL = []string{testIP(0)}, time.Second })
		within(t, time.Second, "joined", func() bool { return n.present() == 2 })
		a.host.Kill()
		a.Close()
		within(t, time.Minute, "alone", func() bool { return n.present() == 1 })
		time.Sleep(5 * time.Minute)
		l.start(0, func(c *Config) { c.Boot = "2" })
		within(t, 31*time.Second, "joined again", func() bool { return n.present() == 2 })
	})
}

func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.start(0, nil), l.start(1, nil)
		began := time.Now()
		l.net.Cut(testIP(0), testIP(7)) // there is one, but it does not answer
		l.net.Host(testIP(7))
		n, err := a.Join(t.Context(), testIP(7), testIP(1), testIP(0))
		if n != 1 || err != nil || time.Since(began) > 5500*time.Millisecond {
			t.Errorf("Join = %d, %v after %v; want 1 within 5s", n, err, time.Since(began))
		}
		within(t, time.Second, "joined", func() bool { return b.present() == 2 })
		if n, err := a.Join(t.Context(), testIP(7)); n != 0 || err == nil {
			t.Errorf("Join of nobody = %d, %v", n, err)
		}
		if _, err := a.Join(t.Context(), "a b"); err == nil {
			t.Error("Join of nonsense = nil")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := a.Join(ctx, testIP(7)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("Join until ctx ends = %v after %v", err, time.Since(began))
		}
	})
}

// Two halves cut apart for an hour are one within 30 s of the cut's end.
func TestHalvesBecomeOneAgain(t *testing.T) {
	for _, cut := range []time.Duration{20 * time.Second, time.Hour} {
		t.Run(cut.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				const count = 6
				nodes := l.pool(count, nil)
				for i := range count / 2 {
					for j := count / 2; j < count; j++ {
						l.net.Cut(testIP(i), testIP(j))
					}
				}
				time.Sleep(cut)
				if cut > time.Minute && !allSee(nodes, count/2) {
					t.Fatal("the halves do not see themselves alone")
				}
				l.net.HealAll()
				took := within(t, 30*time.Second, "one pool", func() bool { return allSee(nodes, count) })
				t.Logf("took %v", took)
				during(t, time.Minute, "it stays one", func() bool { return allSee(nodes, count) })
			})
		})
	}
}

func TestPeersFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers.json")
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(4, func(i int, c *Config) {
			if i == 3 {
				c.PeersFile = file
			}
		})
		time.Sleep(5 * time.Second)
		text, err := os.ReadFile(file)
		if err != nil || strings.Count(string(text), `"id"`) != 3 {
			t.Fatalf("peers file = %s, %v; want 3 peers", text, err)
		}
		nodes[1].Leave(t.Context())
		nodes[1].Close()
		time.Sleep(5 * time.Second)
		if text, _ := os.ReadFile(file); strings.Contains(string(text), testID(1)) {
			t.Errorf("peers file has the member that left: %s", text)
		}
		nodes[3].host.Kill()
		nodes[3].Close()
		again := l.start(3, func(c *Config) { c.Boot, c.PeersFile = "2", file }) // no seeds
		within(t, 2*time.Second, "found its pool", func() bool { return again.present() == 3 })
	})
}

// A pool in which nothing changed for longer than absent members are looked for, and
// which a power cut ends, is found again.
func TestPeersFileOfAQuietPool(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers.json")
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, func(i int, c *Config) {
			if c.FailedTTL = 10 * time.Minute; i == 1 {
				c.PeersFile = file
			}
		})
		time.Sleep(time.Hour)
		text, err := os.ReadFile(file) // Close writes it once more, a power cut does not
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			n.host.Kill()
			n.Close()
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		l.start(0, func(c *Config) { c.Boot = "2" })
		again := l.start(1, func(c *Config) { c.Boot, c.PeersFile, c.FailedTTL = "2", file, 10*time.Minute })
		within(t, 30*time.Second, "found its pool", func() bool { return again.present() == 2 })
	})
}

func TestPeersFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty":   "",
		"no json": "{{{",
		"version": `{"version":9}`,
		"entries": `{"version":1,"peers":[{"id":"x","addr":"10.0.0.1:1"},{"id":"` + testID(5) + `","addr":"0.0.0.0:0"}]}`,
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		ps := newPeers(&Config{ID: testID(1), PeersFile: file, FailedTTL: time.Hour})
		if err := ps.load(); (err == nil) != (name == "entries") {
			t.Errorf("%s: load = %v", name, err)
		}
		if len(ps.byID) != 0 {
			t.Errorf("%s: peers = %v, want none", name, ps.byID)
		}
		if err := ps.save(); err != nil {
			t.Errorf("%s: save = %v", name, err)
		}
	}
}

// Whatever the back-off of single peers, some absent one is tried each time; and
// the dead are forgotten in the end.
func TestAbsentPeers(t *testing.T) {
	ps := newPeers(&Config{FailedTTL: 72 * time.Hour})
	now := time.Now()
	for i := range 5 {
		ps.byID[testID(i)] = &peer{addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:1", i+1)), seen: now}
	}
	tries := make(map[netip.AddrPort]int)
	for d := time.Duration(0); d < 71*time.Hour; d += rejoinInterval {
		addrs := ps.absent(rejoinAtOnce, nil, now.Add(d))
		if len(addrs) == 0 || len(addrs) > rejoinAtOnce {
			t.Fatalf("after %v: %v to try", d, addrs)
		}
		for _, a := range addrs {
			tries[a]++
		}
	}
	if len(tries) != 5 {
		t.Errorf("tried %v, want all five", tries)
	}
	here := map[netip.AddrPort]struct{}{netip.MustParseAddrPort("10.0.0.1:1"): {}}
	for range 100 {
		for _, a := range ps.absent(5, here, now.Add(71*time.Hour)) {
			if a.String() == "10.0.0.1:1" {
				t.Fatal("tried an address that is a member's")
			}
		}
	}
	if got := ps.absent(5, nil, now.Add(73*time.Hour)); got != nil || len(ps.byID) != 0 {
		t.Errorf("after 73h: %v to try, %v kept", got, ps.byID)
	}
}
