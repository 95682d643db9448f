package membership

import (
	"bytes"
	"compress/lzw"
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// Attacks on a pool without a secret, by a machine that can reach it. Those that
// are known by number are listed with what they did to memberlist alone.

// name returns the node's name in gossip.
func (n *node) name() string { return n.roster.self }

// undisturbed checks that all nodes see all for a while, except for blips of the
// time that a node needs to answer an accusation.
func undisturbed(t *testing.T, nodes []*node, d, blip time.Duration) {
	t.Helper()
	var since time.Time
	for began := time.Now(); time.Since(began) < d; time.Sleep(10 * time.Millisecond) {
		switch {
		case allSee(nodes, len(nodes)):
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > blip:
			t.Fatalf("members are missing for more than %v, %v after the attack", blip, time.Since(began))
		}
	}
}

func TestForgedDeaths(t *testing.T) {
	for _, c := range []struct {
		name        string
		incarnation uint32
		leave       bool // Node == From
	}{
		{"A1: wraps the incarnation", math.MaxUint32, false},
		{"A1: at the limit", maxAccusedIncarnation, false},
		{"A2: a farewell", 1000, true},
		{"A2: a farewell at the end", math.MaxUint32, true},
		{"A2: a farewell at the limit", maxAccusedIncarnation, true},
		{"A3: an accusation", 1000, false},
	} {
		for _, way := range []string{"packet", "stream"} {
			t.Run(c.name+" by "+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLab(t)
					nodes := l.pool(5, nil)
					s := l.stranger()
					a := wireAccusation{c.incarnation, nodes[3].name(), gossipName(testID(77), "1")}
					state := wireState{Name: a.Node, Addr: []byte{10, 0, 0, 4}, Port: DefaultPort, Meta: []byte("x"),
						Incarnation: c.incarnation, State: stateDead, Vsn: goodVsn}
					if c.leave {
						a.From, state.State = a.Node, stateLeft
					}
					for range 3 {
						if way == "packet" {
							s.send(nodes[0], labelled(wire(kindDead, a)))
						} else {
							s.dial(nodes[0]).Write(labelled(pushPull(nil, state)))
						}
						undisturbed(t, nodes, 20*time.Second, time.Second)
					}
					// The victim can still say something new, and die.
					nodes[3].SetBusy(2)
					within(t, 3*time.Second, "its news arrive", func() bool { m, _ := nodes[1].Member(testID(3)); return m.Busy == 2 })
					nodes[3].host.Kill()
					nodes[3].Close()
					within(t, time.Minute, "its death is noticed", func() bool { return allSee(nodes[:3], 4) })
				})
			})
		}
	}
}

// A forged farewell of our own kind makes a later failure look like a leave, and
// nothing else.
func TestForgedFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(4, nil)
		bye := letter{kind: mailFarewell, from: nodes[3].name(), id: mailID{1}, payload: []byte(nodes[3].name())}
		l.stranger().send(nodes[0], labelled(append([]byte{byte(kindUser)}, bye.encode()...)))
		during(t, 30*time.Second, "it stays alive", func() bool { return allSee(nodes, 4) && nodes[0].status(testID(3)) == Alive })
	})
}

// A4: 31 KB that unpack to 39 MiB kept the only packet goroutine busy.
func TestCompressedPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, nil)
		s := l.stranger()
		bomb := func(n int) []byte {
			var packed bytes.Buffer
			w := lzw.NewWriter(&packed, lzw.LSB, 8)
			w.Write(make([]byte, n))
			w.Close()
			return wire(kindCompress, wireCompress{0, packed.Bytes()})
		}
		large, small := bomb(39<<20), bomb(1000)
		for range 5 {
			s.send(nodes[0], labelled(large))
			s.send(nodes[0], labelled(small))
			s.send(nodes[0], labelled(compound(small)))
		}
		c := s.dial(nodes[0])
		c.Write(labelled(bomb(1 << 20)))
		if b, err := io.ReadAll(c); len(b) > 300 {
			t.Errorf("a compressed stream is answered with %d bytes, %v", len(b), err)
		}
		synctest.Wait()
		r := nodes[0].Stats().Refused
		if r["packet_size"] != 5 || r["packet_type"] != 11 {
			t.Errorf("refused %v, want 5 packet_size and 11 packet_type", r)
		}
		undisturbed(t, nodes, 10*time.Second, 0)
	})
}

// A5, A6, A10: a few bytes made memberlist allocate 20 to 112 MiB.
func TestStreamsThatPromiseMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, nil)
		s := l.stranger()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 10 {
			for _, b := range [][]byte{
				wire(kindPushPull, wireHeader{Nodes: 1 << 20}),
				wire(kindPushPull, wireHeader{UserStateLen: 20 << 20}),
				wire(kindUser, wireUserHeader{20 << 20}),
				{byte(kindEncrypt), 0x01, 0x3f, 0xff, 0xff},
			} {
				c := s.dial(nodes[0])
				c.Write(labelled(b))
				io.ReadAll(c) // until it is closed
				c.Close()
			}
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 20<<20 {
			t.Errorf("40 streams cost %d MiB", got>>20)
		}
		if r := nodes[0].Stats().Refused; r["stream_limits"] != 20 || r["packet_type"] != 20 {
			t.Errorf("refused %v, want 20 stream_limits and 20 packet_type", r)
		}
		undisturbed(t, nodes, 5*time.Second, 0)
	})
}

// A stranger cannot have all streams, nor keep one for long.
func TestSlowStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, nil)
		s := l.stranger()
		var open []net.Conn
		for range 100 {
			c := s.dial(nodes[0])
			c.Write(labelled(nil)) // and then nothing
			open = append(open, c)
		}
		time.Sleep(100 * time.Millisecond)
		if n := nodes[0].Stats().Streams; n > maxUnreadPerSource+2 {
			t.Errorf("%d streams of one stranger", n)
		}
		if _, err := nodes[1].Join(t.Context(), testIP(0)); err != nil {
			t.Errorf("Join meanwhile: %v", err)
		}
		time.Sleep(streamHeaderTimeout)
		for i, c := range open {
			c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("stream %d is still open: %v", i, err)
			}
		}
		// One that begins well, and then sends a byte a second.
		c := s.dial(nodes[0])
		c.Write(labelled(wire(kindPushPull, wireHeader{Nodes: 100})))
		began := time.Now()
		var err error
		for _, b := range bytes.Repeat(msgpack(goodState()), 3) {
			if _, err = c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(began); err == nil || took > 7*time.Second {
			t.Errorf("a slow stream lives for %v, %v", took, err)
		}
		time.Sleep(time.Second)
		if n := nodes[0].Stats().Streams; n > 1 {
			t.Errorf("%d streams are still counted", n)
		}
		undisturbed(t, nodes, 10*time.Second, 0)
	})
}

// A7: a member with odd versions or too much metadata made every join fail.
func TestPoisonedMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, nil)
		s := l.stranger()
		evil := wireAlive{1, gossipName(testID(66), "1"), []byte{10, 9, 9, 9}, DefaultPort, goldenMetas()["digest.hex"].encode(), goodVsn}
		for _, edit := range []func(*wireAlive){
			func(a *wireAlive) { a.Vsn = []byte{1, 5, 2, 200, 250, 200} },
			func(a *wireAlive) { a.Vsn = []byte{1} },
			func(a *wireAlive) { a.Meta = make([]byte, 1000) },
			func(a *wireAlive) { a.Meta = []byte("nonsense") },
			func(a *wireAlive) { a.Addr = []byte{0, 0, 0, 0} },
			func(a *wireAlive) { a.Addr = []byte{255, 255, 255, 255} },
			func(a *wireAlive) { a.Addr = []byte{224, 0, 0, 1} },
			func(a *wireAlive) { a.Addr = []byte{127, 0, 0, 1} },
			func(a *wireAlive) { a.Addr = []byte{1, 2, 3} },
			func(a *wireAlive) { a.Port = 0 },
			func(a *wireAlive) { a.Node = "evil" },
		} {
			bad := edited(evil, edit)
			s.send(nodes[0], labelled(wire(kindAlive, bad)))
			c := s.dial(nodes[0])
			c.Write(labelled(pushPull(nil, wireState{Name: bad.Node, Addr: bad.Addr, Port: bad.Port, Meta: bad.Meta,
				Incarnation: 1, State: stateAlive, Vsn: bad.Vsn})))
			io.Copy(io.Discard, c)
		}
		time.Sleep(3 * time.Second)
		late := l.start(2, func(c *Config) { c.Seeds = []string{testIP(0)} })
		within(t, 3*time.Second, "one more can join", func() bool { return allSee(append(nodes, late), 3) })
		during(t, 10*time.Second, "nobody else is there", func() bool { return allSee(append(nodes, late), 3) })
		for r, least := range map[string]uint64{"protocol_version": 4, "metadata": 3, "address": 8, "name": 2} {
			if got := nodes[0].Stats().Refused[r]; got < least {
				t.Errorf("refused for %s: %d, want at least %d", r, got, least)
			}
		}
	})
}

// Config.Allow decides about addresses that members announce.
func TestAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, nil)
		picky := l.start(2, func(c *Config) {
			c.Seeds = []string{testIP(0)}
			c.Allow = allowOnly(testIP(0))
		})
		time.Sleep(10 * time.Second)
		if n := picky.present(); n != 2 {
			t.Errorf("it sees %d members, want itself and the one allowed", n)
		}
		if got := picky.Stats().Refused["address"]; got == 0 {
			t.Error("nothing was counted")
		}
		_ = nodes
	})
}

// A11: whoever asked was answered wherever it liked.
func TestNodesSendNothingToThirdParties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, nil)
		listener, victim, err := l.net.Host("10.8.8.8").Listen(t.Context(), "10.8.8.8:44201")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		defer victim.Close()
		s := l.stranger()
		at := []byte{10, 8, 8, 8}
		me := gossipName(testID(66), "1")
		s.send(nodes[0], labelled(wire(kindPing, wirePing{1, nodes[0].name(), at, DefaultPort, me})))
		s.send(nodes[0], labelled(wire(kindPing, wirePing{1, nodes[0].name(), at, DefaultPort, nodes[1].name()})))
		s.send(nodes[0], labelled(wire(kindIndirectPing, wireIndirectPing{1, at, DefaultPort, me, true, nil, 0, me})))
		s.send(nodes[0], labelled(wire(kindIndirectPing, wireIndirectPing{1, at, DefaultPort, nodes[1].name(), true, nil, 0, me})))
		s.send(nodes[0], labelled(wire(kindIndirectPing, wireIndirectPing{1, []byte{10, 0, 0, 2}, DefaultPort, nodes[1].name(), true, at, DefaultPort, me})))
		victim.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, from, err := victim.ReadFrom(make([]byte, 2000)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the third party got %d bytes from %v, %v", n, from, err)
		}
		if r := nodes[0].Stats().Refused; r["ping_source"] != 3 || r["ping_target"] != 2 {
			t.Errorf("refused %v, want 3 ping_source and 2 ping_target", r)
		}
	})
}

// User messages are ours to read, memberlist only hands them on: one whose sender
// had a name of 254 bytes or more ended the process of whoever got it.
func TestMessagesThatAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, nil)
		s := l.stranger()
		sent := uint64(0)
		for _, k := range []mailType{0, mailDirect, mailBroadcast, mailFarewell, mailLatest, 5, 255} {
			for n := range 256 {
				for _, b := range [][]byte{bytes.Repeat([]byte{'a'}, n), make([]byte, 400)} {
					s.send(nodes[0], labelled(append([]byte{byte(kindUser), byte(k), byte(n)}, b...)))
					sent++
				}
			}
			time.Sleep(10 * time.Second) // of the bubble: no more than the limit on packets
		}
		if got := nodes[0].Stats().Refused["message_form"]; got != sent {
			t.Errorf("%d of %d messages are refused", got, sent)
		}
		undisturbed(t, nodes, 5*time.Second, 0)
	})
}

// Random bytes do nothing but count.
func TestNoise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, nil)
		s := l.stranger()
		r := rand.New(rand.NewPCG(1, 2))
		noise := func() []byte {
			b := make([]byte, r.IntN(1600))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			if r.IntN(2) == 0 {
				b = labelled(b)
			}
			return b
		}
		for i := range 2000 {
			s.send(nodes[0], noise())
			if i%50 == 0 {
				c := s.dial(nodes[0])
				c.Write(noise())
				c.Close()
				time.Sleep(200 * time.Millisecond)
			}
		}
		if !allSee(nodes, 3) {
			t.Error("noise changed who is there")
		}
		undisturbed(t, nodes, 20*time.Second, 0)
	})
}

// A flood from one source costs the others nothing.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(4, nil)
		s := l.stranger()
		junk := labelled(wire(kindAck, wireAck{SeqNo: 1}))
		for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(10 * time.Millisecond) {
			for range 50 { // 5000 a second
				s.send(nodes[0], junk)
			}
			if !allSee(nodes, 4) {
				t.Fatal("a member is missing")
			}
		}
		if got := nodes[0].Stats().Refused["packet_rate"]; got < 80000 {
			t.Errorf("%d packets refused, want most of 100000", got)
		}
	})
}

// A copied state directory is noticed, and hides nobody else.
func TestTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, nil)
		l.start(5, func(c *Config) { c.ID, c.Boot, c.Seeds = testID(1), "2", []string{testIP(0)} })
		time.Sleep(time.Minute)
		if !nodes[1].Stats().Twin || nodes[0].Stats().Twin {
			t.Errorf("Twin = %v at the node and %v elsewhere, want true and false", nodes[1].Stats().Twin, nodes[0].Stats().Twin)
		}
		if m, _ := nodes[0].Member(testID(1)); m.Boot != "2" || nodes[0].present() != 3 {
			t.Errorf("the others see boot %s and %d members, want the newest and 3", m.Boot, nodes[0].present())
		}
		if !nodes[1].Self().Self || nodes[1].Self().Boot != "1" {
			t.Error("the node does not see itself any more")
		}
	})
}

// What a dialled node answers is guarded as well.
func TestLyingSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		n := l.start(0, nil)
		for _, answer := range [][]byte{
			wire(kindPushPull, wireHeader{Nodes: 1 << 20}),
			wire(kindCompress, wireCompress{0, make([]byte, 1000)}),
			pushPull(nil, edited(goodState(), func(s *wireState) { s.Vsn = []byte{1, 5, 2, 200, 250, 200} })),
			wire(kindErr, struct{ Error string }{"\x1b[2J"}),
			nil,
		} {
			listener, packets, err := l.net.Host("10.7.7.7").Listen(t.Context(), "10.7.7.7:44201")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := listener.Accept()
				if err != nil {
					return
				}
				c.Write(answer)
				io.Copy(io.Discard, c)
				c.Close()
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			if got, err := n.Join(ctx, "10.7.7.7"); got != 0 || err == nil {
				t.Errorf("Join at a liar = %d, %v", got, err)
			}
			cancel()
			listener.Close()
			packets.Close()
			<-done
		}
		if n.present() != 1 {
			t.Errorf("%d members", n.present())
		}
	})
}

// An announcement in another's name with the highest number that is believed cannot
// be outdone by its victim: what is told of it stays forged until it starts anew. But
// its streams, in which it says more than is believed, must not be refused for that.
func TestTheHighestAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, nil)
		s := l.stranger()
		forged := wireAlive{maxAnnouncedIncarnation, nodes[1].name(), []byte{10, 0, 0, 2}, DefaultPort, goldenMetas()["digest.hex"].encode(), goodVsn}
		s.send(nodes[0], labelled(wire(kindAlive, forged)))
		time.Sleep(10 * time.Second)
		late := l.start(3, func(c *Config) { c.Seeds = []string{testIP(1)} })
		within(t, 10*time.Second, "one more can join at the victim", func() bool { return late.present() == 4 })
	})
}
