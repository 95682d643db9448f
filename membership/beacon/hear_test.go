package beacon

import (
	"bytes"
	"fmt"
	"log"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// listener is an ear with what it hears from and reports to.
type listener struct {
	*ear
	codec *codec
	known map[string]bool
	link  netip.Prefix
	log   bytes.Buffer
}

// newListener returns the ear of node "me" at boot "5" on 10.0.0.0/24.
func newListener(t *testing.T, keys ...string) *listener {
	t.Helper()
	l := &listener{codec: testCodec(t, "default", keys...), known: map[string]bool{}, link: netip.MustParsePrefix("10.0.0.0/24")}
	cfg := Config{
		Cluster: "default", Node: "me", Boot: "5", Addr: netip.MustParseAddrPort("10.0.0.1:1"),
		Keys: l.codec.keys, Known: func(n string) bool { return l.known[n] }, OnStranger: func(Heard) {},
		Logger: log.New(&l.log, "", 0),
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.ear = newEar(b, func(ip netip.Addr) bool { return ip.IsLoopback() || l.link.Contains(ip) })
	return l
}

// says hands the ear an announcement of node at its address, from there.
func (l *listener) says(node, boot string, seq uint64) (pool bool) {
	return l.saysAt(node, boot, seq, "10.0.0.2:7", "10.0.0.2")
}

func (l *listener) saysAt(node, boot string, seq uint64, addr, from string) bool {
	a := announcement{node: node, boot: boot, seq: seq, addr: netip.MustParseAddrPort(addr)}
	ip := netip.MustParseAddr(from)
	return l.hear(Packet{Data: l.codec.encode(&a), From: ip, TTL: 255, Local: ip.IsLoopback()}) == pool
}

// told returns the strangers reported since it was last called.
func (l *listener) told() []Heard {
	var all []Heard
	for {
		select {
		case h := <-l.b.news:
			all = append(all, h)
		default:
			return all
		}
	}
}

func (l *listener) expect(t *testing.T, want Stats) {
	t.Helper()
	if got := l.b.Stats(); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
}

func TestAStrangerIsReportedAndAMemberIsNot(t *testing.T) {
	l := newListener(t)
	l.known["friend"] = true
	if l.says("stranger", "1", 1) || !l.says("friend", "1", 1) {
		t.Error("hear = true for a stranger or false for a member")
	}
	want := []Heard{{
		Node: "stranger", Boot: "1", Addr: netip.MustParseAddrPort("10.0.0.2:7"),
		Advertised: netip.MustParseAddrPort("10.0.0.2:7"), From: netip.MustParseAddr("10.0.0.2"),
	}}
	if got := l.told(); !reflect.DeepEqual(got, want) {
		t.Errorf("reported %+v, want %+v", got, want)
	}
	l.expect(t, Stats{Received: 2, Pool: 1, Strangers: 1})
}

func TestWhatPassedARouterIsDropped(t *testing.T) {
	for _, ttl := range []int{1, 64, 254} {
		l := newListener(t)
		l.hear(Packet{Data: l.codec.encode(&sample), From: netip.MustParseAddr("10.0.0.2"), TTL: ttl})
		l.expect(t, Stats{Received: 1, OffLink: 1})
	}
	l := newListener(t)
	l.saysAt("x", "1", 1, "8.8.8.8:1", "8.8.8.8") // a forged source
	l.expect(t, Stats{Received: 1, OffLink: 1})
	l.hear(Packet{Data: l.codec.encode(&sample), From: netip.MustParseAddr("10.0.0.2")}) // not known: counts as on the link
	if len(l.told()) != 1 {
		t.Error("a datagram without TTL was not taken")
	}
}

func TestDropsAreCountedByReason(t *testing.T) {
	l := newListener(t)
	from := netip.MustParseAddr("10.0.0.2")
	b := l.codec.encode(&sample)
	newer := bytes.Clone(b)
	newer[4] = 9
	for _, d := range [][]byte{nil, newer, testCodec(t, "other").encode(&sample), testCodec(t, "default", keyA).encode(&sample)} {
		l.hear(Packet{Data: d, From: from, TTL: 255})
	}
	l.expect(t, Stats{Received: 4, Malformed: 1, Version: 1, Foreign: 1, Unsigned: 1})
}

func TestOurOwnAnnouncementsAreIgnored(t *testing.T) {
	l := newListener(t)
	l.known["me"] = true
	if l.says("me", "5", 1) || l.says("me", "4", 9) {
		t.Error("hear = true for our own announcement")
	}
	l.expect(t, Stats{Received: 2, Own: 2})
	if l.log.Len() != 0 {
		t.Errorf("logged %q, want nothing", l.log.String())
	}
	l.says("me", "6", 1)
	l.says("me", "6", 2)
	l.expect(t, Stats{Received: 4, Own: 2, Conflicts: 2})
	if got := l.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "[WARN] beacon: another node announces our id") {
		t.Errorf("logged %q, want one warning", got)
	}
	if got := l.told(); got != nil {
		t.Errorf("reported %+v, want nothing", got)
	}
}

func TestReplaysAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(t)
		l.known["a"] = true
		for _, s := range []struct {
			boot string
			seq  uint64
			want bool
		}{
			{"2", 5, true},
			{"2", 5, false}, // a copy from another interface
			{"2", 4, false},
			{"1", 9, false}, // an older boot
			{"2", 6, true},
			{"3", 1, true},
			{"2", 7, false},
			{"10", 1, true},
		} {
			if got := l.says("a", s.boot, s.seq); got != s.want {
				t.Errorf("hear(boot %s, seq %d) = %v, want %v", s.boot, s.seq, got, s.want)
			}
		}
		time.Sleep(forgetAfter)
		if !l.says("a", "1", 1) {
			t.Error("an older boot was not heard although the newer one has been silent for a minute")
		}
	})
}

func TestAStrangerIsReportedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(t)
		for i := range 20 { // 2 s
			l.says("a", "1", uint64(i+1))
			time.Sleep(100 * time.Millisecond)
		}
		if got := l.told(); len(got) != 2 {
			t.Errorf("reported %d times in 2 s, want 2", len(got))
		}
	})
}

func TestAFloodOfStrangersIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(t)
		l.known["friend"] = true
		reported := 0
		for i := range 50_000 { // 10,000 a second
			l.says(fmt.Sprint("n", i), "1", 1)
			reported += len(l.told())
			time.Sleep(100 * time.Microsecond)
		}
		if reported > strangersPerSecond*6+1 || reported < strangersPerSecond*5 {
			t.Errorf("%d strangers reported in 5 s, want about %d", reported, strangersPerSecond*6)
		}
		if len(l.nodes) > reported {
			t.Errorf("%d nodes remembered, want no more than the %d reported", len(l.nodes), reported)
		}
		if !l.says("friend", "1", 1) {
			t.Error("a member was not heard through the flood")
		}
	})
}

func TestTheTableIsBoundedAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(t)
		l.b.cfg.Known = func(string) bool { return true }
		for i := range maxRemembered + 100 {
			if !l.says(fmt.Sprint("n", i), "1", 1) {
				t.Fatalf("member %d was not heard", i)
			}
		}
		if len(l.nodes) != maxRemembered {
			t.Errorf("%d nodes remembered, want %d", len(l.nodes), maxRemembered)
		}
		time.Sleep(forgetAfter)
		l.says("more", "1", 1)
		if len(l.nodes) != 1 {
			t.Errorf("%d nodes remembered a minute later, want 1", len(l.nodes))
		}
	})
}

func TestAddressesThatCannotBeReachedAreNotReported(t *testing.T) {
	for _, c := range []struct{ name, addr, from, want string }{
		{"its source", "10.0.0.2:7", "10.0.0.2", "10.0.0.2:7"},
		{"another of the link", "10.0.0.3:7", "10.0.0.2", "10.0.0.3:7"},
		{"elsewhere: its source instead", "8.8.8.8:7", "10.0.0.2", "10.0.0.2:7"},
		{"loopback from elsewhere", "127.0.0.1:7", "10.0.0.2", ""},
		{"loopback of this host", "127.0.0.1:7", "127.0.0.1", "127.0.0.1:7"},
		{"another loopback of this host", "127.0.0.2:7", "127.0.0.1", "127.0.0.2:7"},
		{"heard over IPv6 only", "10.0.0.3:7", "fe80::1%eth0", "10.0.0.3:7"},
		{"elsewhere, heard over IPv6 only", "8.8.8.8:7", "fe80::1%eth0", ""},
		{"link-local", "[fe80::1]:7", "fe80::1%eth0", "[fe80::1%eth0]:7"},
		{"another link-local: no zone", "[fe80::2]:7", "fe80::1%eth0", "[fe80::1%eth0]:7"},
		{"link-local, heard over IPv4", "[fe80::2]:7", "10.0.0.2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newListener(t)
			l.saysAt("a", "1", 1, c.addr, c.from)
			got := l.told()
			switch {
			case c.want == "":
				if len(got) != 0 {
					t.Errorf("reported %+v, want nothing", got)
				}
				l.expect(t, Stats{Received: 1, NoAddress: 1})
			case len(got) != 1 || got[0].Addr.String() != c.want || got[0].Advertised.String() != c.addr || got[0].From.String() != c.from:
				t.Errorf("reported %+v, want address %s", got, c.want)
			}
		})
	}
}

func TestASecretMakesAnyAddressBelievable(t *testing.T) {
	l := newListener(t, keyA)
	l.saysAt("a", "1", 1, "8.8.8.8:7", "100.64.0.9")
	if got := l.told(); len(got) != 1 || got[0].Addr.String() != "8.8.8.8:7" {
		t.Errorf("reported %+v, want 8.8.8.8:7", got)
	}
}

func TestALargePoolWaitsAndAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(t)
		l.b.cfg.Members = func() int { return 1 << 40 }
		for i := range 10 {
			l.says(fmt.Sprint("n", i), "1", 1)
		}
		l.says("n3", "1", 2)
		if got := l.told(); len(got) != 0 {
			t.Fatalf("reported %+v at once, want a delay", got)
		}
		for i := range 5 {
			l.known[fmt.Sprint("n", i)] = true // gossip was quicker
		}
		tell := time.NewTimer(time.Hour)
		for start := time.Now(); len(l.waiting) > 0; {
			l.arm(tell)
			<-tell.C
			l.tellDue()
			if took := time.Since(start); took > maxDelay {
				t.Fatalf("still waiting after %v, want at most %v", took, maxDelay)
			}
		}
		if got := l.told(); len(got) != 5 {
			t.Errorf("reported %d strangers, want the 5 that did not join", len(got))
		}
	})
}

func TestASlowCallerLosesStrangersBeyondItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(t)
		for i := range maxWaiting + 5 {
			l.says(fmt.Sprint("n", i), "1", 1)
			time.Sleep(time.Second / strangersPerSecond)
		}
		l.expect(t, Stats{Received: maxWaiting + 5, Strangers: maxWaiting, Limited: 5})
	})
}
