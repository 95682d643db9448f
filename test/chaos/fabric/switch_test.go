package fabric

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// nic is a device in memory: what is sent to in is read by the switch, and what
// the switch writes is kept with its time.
type nic struct {
	in   chan []byte
	done chan struct{}

	mu  sync.Mutex // for two that write; whoever reads waits until the bubble is idle
	got []arrival
}

type arrival struct {
	frame []byte
	at    time.Time
}

func newNIC() *nic { return &nic{in: make(chan []byte), done: make(chan struct{})} }

func (n *nic) Read(b []byte) (int, error) {
	select {
	case f := <-n.in:
		return copy(b, f), nil
	case <-n.done:
		return 0, io.EOF
	}
}

func (n *nic) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, arrival{bytes.Clone(b), time.Now()})
	return len(b), nil
}

func (n *nic) Close() error { close(n.done); return nil }

// network runs a test with three ports, a, b and c, on a switch of a seed.
func network(t *testing.T, seed uint64, test func(t *testing.T, s *Switch, a, b, c *nic)) {
	synctest.Test(t, func(t *testing.T) {
		s, a, b, c := New(seed), newNIC(), newNIC(), newNIC()
		s.Add("a", a)
		s.Add("b", b)
		s.Add("c", c)
		defer s.Close()
		for i, n := range []*nic{a, b, c} { // each says where it is
			n.send(frame(protocolUDP, byte(i+1), 0xff, 0))
		}
		settle()
		a.got, b.got, c.got = nil, nil, nil
		test(t, s, a, b, c)
	})
}

func (n *nic) send(f []byte) {
	n.in <- f
	synctest.Wait()
}

// frame returns an IPv4 packet from one host to another, 0xff for all, with a number.
func frame(protocol, from, to byte, number uint32) []byte {
	f := make([]byte, headerBytes+64)
	f[5], f[11] = to, from
	if to == 0xff {
		copy(f, "\xff\xff\xff\xff\xff\xff")
	}
	f[12], f[headerBytes+9] = 8, protocol
	binary.BigEndian.PutUint32(f[len(f)-4:], number)
	return f
}

// numbers returns those of the frames that arrived.
func (n *nic) numbers() (ns []uint32) {
	for _, a := range n.got {
		ns = append(ns, binary.BigEndian.Uint32(a.frame[len(a.frame)-4:]))
	}
	return ns
}

// burst sends n frames from a to b, one every gap.
func burst(a *nic, n int, gap time.Duration) {
	for i := range n {
		a.send(frame(protocolTCP, 1, 2, uint32(i)))
		time.Sleep(gap)
	}
	settle()
}

// settle waits until everything has arrived.
func settle() {
	time.Sleep(time.Hour)
	synctest.Wait()
}

func TestSwitchLearnsAndFloods(t *testing.T) {
	network(t, 1, func(t *testing.T, s *Switch, a, b, c *nic) {
		a.send(frame(protocolTCP, 1, 2, 7))
		if !slices.Equal(b.numbers(), []uint32{7}) || len(c.got) != 0 || len(a.got) != 0 {
			t.Errorf("a frame for b arrived %d times at a, %v at b, %d times at c", len(a.got), b.numbers(), len(c.got))
		}
		a.send(frame(protocolUDP, 1, 0xff, 8))
		if len(b.got) != 2 || len(c.got) != 1 || len(a.got) != 0 {
			t.Errorf("a frame for all arrived %d times at a, %d at b, %d at c; want 0, 1 and 1", len(a.got), len(b.got)-1, len(c.got))
		}
		c.send(frame(protocolTCP, 1, 3, 9)) // the host a has moved to the port of c
		b.send(frame(protocolTCP, 2, 1, 10))
		if !slices.Equal(c.numbers(), []uint32{8, 10}) {
			t.Errorf("at c arrived %v, want 8, and 10 for the host that moved there", c.numbers())
		}
	})
}

func TestChancesAreThoseOfThePolicy(t *testing.T) {
	const n = 20_000
	network(t, 1, func(t *testing.T, s *Switch, a, b, c *nic) {
		s.Set("a", "b", Policy{LossPercent: 10, DuplicatePercent: 5, CorruptPercent: 1})
		before := s.Stats("a", "b").Passed
		burst(a, n, 0)
		st := s.Stats("a", "b")
		// Bounds are five standard deviations.
		for _, c := range []struct {
			what        string
			got         uint64
			want, bound float64
		}{
			{"lost", st.Lost, n * 0.1, 212},
			{"duplicated", st.Duplicated, 0.9 * n * 0.05, 147},
			{"corrupted", st.Corrupted, 0.9 * n * 0.01, 67},
		} {
			if d := float64(c.got) - c.want; d > c.bound || d < -c.bound {
				t.Errorf("%d of %d were %s, want %.0f ± %.0f", c.got, n, c.what, c.want, c.bound)
			}
		}
		if uint64(len(b.got)) != n-st.Lost+st.Duplicated || st.Passed-before != n-st.Lost {
			t.Errorf("%d arrived; %+v", len(b.got), st)
		}
		broken := map[uint32]bool{}
		for _, g := range b.got {
			i := binary.BigEndian.Uint32(g.frame[len(g.frame)-4:])
			if want := frame(protocolTCP, 1, 2, i); !bytes.Equal(g.frame, want) {
				broken[i] = true
				if !bytes.Equal(g.frame[:headerBytes], want[:headerBytes]) {
					t.Fatalf("an Ethernet header was changed: %x", g.frame)
				}
			}
		}
		// A flipped bit of the number makes it another's, which counts as well.
		if uint64(len(broken)) > st.Corrupted || len(broken) == 0 {
			t.Errorf("%d frames differ, %d were corrupted", len(broken), st.Corrupted)
		}
		if other := s.Stats("b", "a"); other.Lost != 0 {
			t.Errorf("on the way back %d were lost: the policy is for one direction", other.Lost)
		}
	})
}

// TestLuckIsTheSeeds has the same packets lost with the same seed, whatever happens
// to other ports meanwhile, and others with another.
func TestLuckIsTheSeeds(t *testing.T) {
	run := func(seed uint64, noise bool) (got []uint32) {
		network(t, seed, func(t *testing.T, s *Switch, a, b, c *nic) {
			s.Set("a", "b", Policy{LossPercent: 30, Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, ReorderPercent: 10})
			s.Set("c", "b", Policy{LossPercent: 50})
			for i := range 200 {
				a.send(frame(protocolTCP, 1, 2, uint32(i)))
				if noise {
					c.send(frame(protocolTCP, 3, 2, 1<<20))
				}
				time.Sleep(time.Millisecond)
			}
			settle()
			got = slices.DeleteFunc(b.numbers(), func(n uint32) bool { return n == 1<<20 })
		})
		return got
	}
	first := run(1, false)
	if again := run(1, true); !slices.Equal(first, again) {
		t.Errorf("the same seed let arrive\n%v, then\n%v", first, again)
	}
	if other := run(2, false); slices.Equal(first, other) {
		t.Errorf("two seeds had the same luck: %v", first)
	}
}

func TestDelayKeepsOrder(t *testing.T) {
	network(t, 1, func(t *testing.T, s *Switch, a, b, c *nic) {
		const delay, jitter = 50 * time.Millisecond, 25 * time.Millisecond
		s.Set("a", "b", Policy{Delay: delay, Jitter: jitter})
		begin := time.Now()
		burst(a, 1000, time.Millisecond)
		if !slices.IsSorted(b.numbers()) || len(b.got) != 1000 {
			t.Fatalf("%d arrived, in order: %t", len(b.got), slices.IsSorted(b.numbers()))
		}
		var least, most time.Duration = time.Hour, 0
		for i, g := range b.got {
			took := g.at.Sub(begin) - time.Duration(i)*time.Millisecond
			least, most = min(least, took), max(most, took)
		}
		if least < delay-jitter || most > delay+jitter || most-least < jitter {
			t.Errorf("frames took %s to %s, want all between %s and %s", least, most, delay-jitter, delay+jitter)
		}
	})
}

func TestReorderedFramesAreOvertaken(t *testing.T) {
	network(t, 1, func(t *testing.T, s *Switch, a, b, c *nic) {
		s.Set("a", "b", Policy{ReorderPercent: 25})
		burst(a, 1000, time.Millisecond)
		ns, late := b.numbers(), 0
		for i := range ns[1:] {
			if ns[i+1] < ns[i] {
				late++
			}
		}
		if st := s.Stats("a", "b"); len(ns) != 1000 || st.Reordered < 180 || st.Reordered > 320 || late < 100 {
			t.Errorf("%d arrived, %d of them after a later one; %+v", len(ns), late, st)
		}
		slices.Sort(ns)
		if len(slices.Compact(ns)) != 1000 {
			t.Error("some arrived twice")
		}
	})
}

func TestDropsAndCuts(t *testing.T) {
	for _, c := range []struct {
		name                string
		p                   Policy
		tcp, udp, broadcast int // how many arrive at b
	}{
		{"open", Policy{}, 1, 1, 1},
		{"cut", Policy{Cut: true}, 0, 0, 0},
		{"no UDP", Policy{DropUDP: true}, 1, 0, 0},
		{"no TCP", Policy{DropTCP: true}, 0, 1, 1},
		{"no multicast", Policy{DropMulticast: true}, 1, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			network(t, 1, func(t *testing.T, s *Switch, a, b, other *nic) {
				s.Set("a", "b", c.p)
				for _, f := range []struct {
					protocol, to byte
					want         int
				}{{protocolTCP, 2, c.tcp}, {protocolUDP, 2, c.udp}, {protocolUDP, 0xff, c.broadcast}} {
					b.got = nil
					a.send(frame(f.protocol, 1, f.to, 0))
					if len(b.got) != f.want {
						t.Errorf("protocol %d for %d arrived %d times at b, want %d", f.protocol, f.to, len(b.got), f.want)
					}
				}
				if len(other.got) != 1 {
					t.Errorf("%d frames arrived at c, want the one for all", len(other.got))
				}
				b.send(frame(protocolTCP, 2, 1, 0))
				if len(a.got) != 1 {
					t.Errorf("nothing passes from b to a: the policy is for one direction")
				}
				s.Set("a", "b", Policy{})
				b.got = nil
				a.send(frame(protocolTCP, 1, 2, 0))
				if len(b.got) != 1 {
					t.Errorf("nothing passes after the policy was lifted")
				}
			})
		})
	}
}

func TestWhatIsOnItsWayIsBounded(t *testing.T) {
	network(t, 1, func(t *testing.T, s *Switch, a, b, c *nic) {
		s.Set("a", "b", Policy{Delay: time.Minute})
		big := make([]byte, 32<<10)
		copy(big, frame(protocolTCP, 1, 2, 0))
		const fit = maxQueuedBytes / (32 << 10)
		for range fit + 10 {
			a.in <- big
		}
		settle()
		if st := s.Stats("a", "b"); st.Overflowed != 10 || len(b.got) != fit {
			t.Errorf("%d arrived, want %d; %+v", len(b.got), fit, st)
		}
	})
}
