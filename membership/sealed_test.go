package membership

import (
	"encoding/binary"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/membership/seal"
)

func gossipKey(n byte) seal.Key { return seal.Key{Tag: [4]byte{n}, Secret: [32]byte{n, n}} }

func sealedWith(keys ...seal.Key) func(int, *Config) {
	return func(_ int, c *Config) { c.GossipKeys = func() []seal.Key { return keys } }
}

// insider is a seal with the right key.
func insider(session uint64) *seal.Sealer {
	return seal.New(testID(77), session, func() []seal.Key { return []seal.Key{gossipKey(1)} })
}

func TestSealedPoolLivesAndDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(5, sealedWith(gossipKey(1)))
		nodes[3].SetBusy(2)
		within(t, 3*time.Second, "its news arrive", func() bool { m, _ := nodes[1].Member(testID(3)); return m.Busy == 2 })
		if err := nodes[0].Broadcast([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		within(t, 3*time.Second, "a message arrives", func() bool { return slices.Contains(nodes[4].heard(), "n000: hello") || len(nodes[4].heard()) > 0 })
		nodes[3].host.Kill()
		nodes[3].Close()
		within(t, time.Minute, "its death is noticed", func() bool { return allSee(nodes[:3], 4) })
		for _, n := range nodes[:3] {
			for r, k := range n.Stats().Refused {
				if strings.HasPrefix(r, "packet_") && k > 0 {
					t.Errorf("%s refused %d packets of its pool: %s", n.config.Name, k, r)
				}
			}
		}
	})
}

// Pools with different keys on one network never mix, even when told to join.
func TestPoolsOfDifferentKeysStayApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a := l.pool(2, sealedWith(gossipKey(1)))
		b := l.start(50, func(c *Config) { sealedWith(gossipKey(2))(50, c) })
		// The lab's streams are plain, so that this shows what the seal does alone.
		a[0].send(b, []byte("x"))
		during(t, 20*time.Second, "the pool is as it was", func() bool { return allSee(a, 2) })
		if a[0].Stats().Refused[RefusedUnknownKey] > 0 {
			t.Error("nobody sent anything, and something was refused")
		}
		b.send(a[0], []byte("x"))
		time.Sleep(time.Second)
		if got := a[0].Stats().Refused["packet_unsealed"]; got != 1 {
			t.Errorf("%d packets are refused as not sealed, want 1", got)
		}
	})
}

// send writes a packet past all of the pool's own doing.
func (n *node) send(to *node, b []byte) {
	_, _ = n.config.Packets.WriteTo(b, net.UDPAddrFromAddrPort(to.config.Advertise))
}

// A1 to A4, A7, A11 and A14 in a pool with a key: a stranger's packets are dropped
// before they are parsed, whatever is in them.
func TestStrangersAtASealedPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(5, sealedWith(gossipKey(1)))
		s := l.stranger()
		wrong := seal.New(testID(77), 1, func() []seal.Key { return []seal.Key{gossipKey(2)} })
		forged := seal.New(testID(77), 1, func() []seal.Key { return []seal.Key{{Tag: gossipKey(1).Tag, Secret: [32]byte{9}}} })
		dead := wireAccusation{1000, nodes[3].name(), gossipName(testID(77), "1")}
		leave := wireAccusation{1<<32 - 1, nodes[3].name(), nodes[3].name()}
		alive := wireAlive{1, "evil\n\x1b[2J", []byte{10, 9, 9, 9}, 44201, make([]byte, 4000)[:1000], []byte{1, 5, 2, 200, 250, 200}}
		sent := 0
		for _, b := range [][]byte{
			wire(kindDead, dead), wire(kindDead, leave), wire(kindSuspect, dead), wire(kindAlive, alive),
			wire(kindPing, wirePing{1, nodes[0].name(), []byte{10, 0, 0, 9}, 22, nodes[1].name()}),
			wire(kindIndirectPing, wireIndirectPing{1, []byte{10, 0, 0, 9}, 22, nodes[1].name(), true, nil, 0, nodes[1].name()}),
			compound(wire(kindDead, dead)), append([]byte{byte(kindCompress)}, make([]byte, 1200)...), {0}, {byte(kindEncrypt), 1, 2, 3},
		} {
			b = labelled(b)
			if len(b) > 1300 {
				b = b[:1300]
			}
			for _, p := range [][]byte{b, wrong.Seal(nil, b, nodes[0].config.Advertise), forged.Seal(nil, b, nodes[0].config.Advertise)} {
				s.send(nodes[0], p)
				sent++
			}
		}
		undisturbed(t, nodes, 20*time.Second, 0)
		refused := nodes[0].Stats().Refused
		if got := refused["packet_unsealed"] + refused[RefusedUnknownKey] + refused["packet_forged"]; got != uint64(sent) {
			t.Errorf("of %d packets %v were refused by the seal", sent, refused)
		}
		if k := []string{"packet_unsealed", RefusedUnknownKey, "packet_forged"}; refused[k[0]] == 0 || refused[k[1]] == 0 || refused[k[2]] == 0 {
			t.Errorf("Refused = %v; want all of %v", refused, k)
		}
	})
}

// A12: who has the key cannot crash a node either: the guard reads what memberlist
// would, and memberlist's own encryption is off.
func TestInsidersCannotCrashNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, sealedWith(gossipKey(1)))
		s, in := l.stranger(), insider(1)
		for _, body := range [][]byte{
			{byte(kindEncrypt)}, {byte(kindEncrypt), 0, 0, 0, 0}, append([]byte{byte(kindEncrypt), 0, 0, 0, 45, 1}, make([]byte, 44)...),
			append([]byte{byte(kindEncrypt), 0, 0, 0, 45, 0}, make([]byte, 44)...), {byte(kindCompound), 255}, {byte(kindCompress)}, {},
			wire(kindAlive, wireAlive{1, nodes[1].name(), nil, 0, nil, []byte{1, 5}}), wire(kindDead, wireAccusation{1<<32 - 1, nodes[1].name(), nodes[2].name()}),
		} {
			s.send(nodes[0], in.Seal(nil, labelled(body), nodes[0].config.Advertise))
			s.send(nodes[0], in.Seal(nil, body, nodes[0].config.Advertise))
			c := s.dial(nodes[0])
			c.Write(labelled(body))
			c.Close()
		}
		undisturbed(t, nodes, 20*time.Second, time.Second)
		if got := nodes[0].Stats().Refused; got["packet_type"] == 0 || got["packet_form"] == 0 {
			t.Errorf("Refused = %v; want the guard to have refused types and forms", got)
		}
	})
}

// A13: a captured farewell, sent again when the node is back.
func TestReplayedFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, sealedWith(gossipKey(1)))
		old := insider(1)
		captured := old.Seal(nil, labelled(wire(kindDead, wireAccusation{1, nodes[2].name(), nodes[2].name()})), nodes[0].config.Advertise)
		s := l.stranger()
		s.send(nodes[0], captured)
		s.send(nodes[0], captured)
		time.Sleep(time.Second)
		if got := nodes[0].Stats().Refused["packet_replayed"]; got != 1 {
			t.Errorf("%d packets are refused as replayed, want 1", got)
		}
		s.send(nodes[0], insider(2).Seal(nil, labelled(wire(kindAck, wireAck{SeqNo: 1})), nodes[0].config.Advertise))
		time.Sleep(time.Second)
		s.send(nodes[0], old.Seal(nil, labelled(wire(kindDead, wireAccusation{1, nodes[2].name(), nodes[2].name()})), nodes[0].config.Advertise))
		undisturbed(t, nodes, 20*time.Second, time.Second)
		if got := nodes[0].Stats().Refused["packet_replayed"]; got != 2 {
			t.Errorf("%d packets are refused as replayed, want 2: an older session's too", got)
		}
	})
}

// A packet that was overheard on its way to one member says nothing to another: an
// answer to the one's probe would be taken for one to the other's.
func TestPacketSentOnToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, sealedWith(gossipKey(1)))
		captured := insider(1).Seal(nil, labelled(wire(kindAck, wireAck{SeqNo: 1})), nodes[0].config.Advertise)
		s := l.stranger()
		for _, n := range nodes {
			s.send(n, captured)
		}
		time.Sleep(time.Second)
		for i, want := range []uint64{0, 1, 1} {
			if got := nodes[i].Stats().Refused["packet_forged"]; got != want {
				t.Errorf("node %d refused %d packets as forged, want %d", i, got, want)
			}
		}
	})
}

// A flood by a stranger who has not the key costs no memory.
func TestFloodOfStrangersTakesNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, sealedWith(gossipKey(1)))
		s := l.stranger()
		noise := make([]byte, 1400)
		noise[0] = 1
		copy(noise[1:], []byte{1, 0, 0, 0}) // the right tag
		before := heapInUse()
		for i := range 20000 {
			binary.BigEndian.PutUint64(noise[5:], uint64(i)) // each of another sender
			s.send(nodes[0], noise)
			if i%100 == 0 {
				time.Sleep(20 * time.Millisecond)
			}
		}
		synctest.Wait() // for the last of them
		if !allSee(nodes, 3) {
			t.Error("the flood evicted a member")
		}
		if grown := heapInUse() - before; grown > 32<<20 {
			t.Errorf("the flood took %d MiB, want at most 32", grown>>20)
		}
		if r := nodes[0].Stats().Refused; r["packet_forged"] != 20000 {
			t.Errorf("Refused = %v; want 20000 forged packets", r)
		}
	})
}

// A flood without the key uses up nothing of what members may send: neither in all,
// nor from the address of one.
func TestFloodOfStrangersLeavesMembersTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, sealedWith(gossipKey(1)))
		noise := append([]byte{1, 1, 0, 0, 0}, make([]byte, 100)...)
		for i := range 20000 { // the other member's own socket: its address
			nodes[1].send(nodes[0], noise)
			if i%100 == 0 {
				time.Sleep(5 * time.Millisecond) // 20,000 a second
			}
		}
		for i := range 300 {
			if err := nodes[1].Send(testID(0), []byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		within(t, time.Second, "300 messages arrive", func() bool { return len(nodes[0].heard()) == 300 })
		if r := nodes[0].Stats().Refused; r["packet_forged"] != 20000 || r["packet_rate"]+r["packet_total_rate"] > 0 {
			t.Errorf("Refused = %v; want 20000 forged packets, and none for its rate", r)
		}
	})
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// A key is replaced while the pool runs: both orders, and one that learns late.
func TestKeysAreReplacedUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		keys := make([]atomic.Pointer[[]seal.Key], 6)
		for i := range keys {
			keys[i].Store(&[]seal.Key{gossipKey(1)})
		}
		at := 0
		nodes := l.pool(5, func(i int, c *Config) {
			own := at
			at++
			c.GossipKeys = func() []seal.Key { return *keys[own].Load() }
		})
		for _, step := range [][]seal.Key{{gossipKey(1), gossipKey(2)}, {gossipKey(2), gossipKey(1)}, {gossipKey(2)}} {
			for i := range nodes {
				keys[i].Store(&step)
				during(t, 2*time.Second, "all see all", func() bool { return allSee(nodes, 5) })
			}
		}
		during(t, 30*time.Second, "all see all at the end", func() bool { return allSee(nodes, 5) })
	})
}
