package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
)

// working fails the test unless a and b have one link to each other, over which
// both can reach the other.
func (b *bed) working(t *testing.T, one, two string) {
	t.Helper()
	synctest.Wait()
	l1, l2 := b.hubs[one].Get(two), b.hubs[two].Get(one)
	if l1 == nil || l2 == nil {
		t.Errorf("links: %v at %s, %v at %s; want one each", l1 != nil, one, l2 != nil, two)
		return
	}
	if l1.Conn().LocalAddr().String() != l2.RemoteAddr().String() {
		t.Errorf("%s and %s use two connections", one, two)
	}
	b.recs[one].take()
	b.recs[two].take()
	l1.SendGrant(testKey(1))
	l2.SendGrant(testKey(2))
	time.Sleep(time.Second)
	b.expect(two, "grant 1/1")
	b.expect(one, "grant 2/1")
}

func TestNodesThatDialEachOtherGetOneLink(t *testing.T) {
	// The second dial begins at every step of the first one's handshake.
	const delay = 10 * time.Millisecond
	for late := -50 * time.Millisecond; late <= 50*time.Millisecond; late += 5 * time.Millisecond {
		inBed(t, func(t *testing.T, b *bed) {
			b.net.SetDelay(delay)
			h1, h2 := b.add("n1", nil), b.add("n2", nil)
			var wg sync.WaitGroup
			connect := func(h *Hub, to string, after time.Duration) {
				wg.Go(func() {
					time.Sleep(after)
					l, err := h.Connect(t.Context(), to)
					if err != nil {
						t.Errorf("n2 %v late: Connect(%s): %v", late, to, err)
					} else if l.Peer().Node != to || l.Err() != nil {
						t.Errorf("n2 %v late: Connect(%s) = link to %s, %v", late, to, l.Peer().Node, l.Err())
					}
				})
			}
			connect(h1, "n2", max(-late, 0))
			connect(h2, "n1", max(late, 0))
			wg.Wait()
			time.Sleep(time.Second)
			b.expect("n1", "up n2") // and never down
			b.expect("n2", "up n1")
			b.working(t, "n1", "n2")
		})
	}
}

func TestNodesThatDialEachOtherOverTCPGetOneLink(t *testing.T) {
	for range 20 {
		var hubs [2]*Hub
		var lns [2]net.Listener
		names := [2]string{"a", "b"}
		for i := range hubs {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			lns[i] = ln
		}
		var downs atomic.Int32
		for i := range hubs {
			h, err := NewHub(Config{Self: Hello{"c", names[i], "1", ""}, Listener: lns[i], Events: downCounter{&downs},
				Dial: func(ctx context.Context, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", lns[1-i].Addr().String())
				}})
			if err != nil {
				t.Fatal(err)
			}
			h.Start()
			hubs[i] = h
		}
		var wg sync.WaitGroup
		for i := range hubs {
			for range 4 {
				wg.Go(func() {
					if _, err := hubs[i].Connect(t.Context(), names[1-i]); err != nil {
						t.Errorf("Connect: %v", err)
					}
				})
			}
		}
		wg.Wait()
		if n := downs.Load(); n != 0 {
			t.Errorf("%d links went down", n)
		}
		a, b := hubs[0].Get("b"), hubs[1].Get("a")
		if a == nil || b == nil {
			t.Errorf("links: %v and %v, want both", a, b)
		} else if a.conn.LocalAddr().String() != b.conn.RemoteAddr().String() {
			t.Error("the two nodes use two connections")
		}
		hubs[0].Close()
		hubs[1].Close()
	}
}

type downCounter struct{ n *atomic.Int32 }

func (downCounter) Up(*Link)            {}
func (c downCounter) Down(*Link, error) { c.n.Add(1) }
func (downCounter) Load(*Link, Load)    {}

func TestALinkFromTheOtherSideEndsADialThatDoesNotGetThrough(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		h1 := b.add("n1", func(c *Config) {
			c.Dial = func(ctx context.Context, _ string) (net.Conn, error) { // a firewall that drops
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		h2 := b.add("n2", nil)
		got := make(chan error, 1)
		go func() {
			_, err := h1.Connect(t.Context(), "n2")
			got <- err
		}()
		synctest.Wait()
		if _, err := h2.Connect(t.Context(), "n1"); err != nil {
			t.Fatalf("Connect to a node whose own dial hangs: %v", err)
		}
		if err := <-got; err != nil {
			t.Errorf("Connect whose dial hangs, when the other side's link came: %v", err)
		}
		b.working(t, "n1", "n2")
	})
}

func TestCollisionWithALinkThatNeverComes(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		// n9 refuses with a collision, and never dials.
		ln, packets, err := b.net.Host(ip("n9")).Listen(t.Context(), ip("n9")+":1")
		if err != nil {
			t.Fatal(err)
		}
		defer packets.Close()
		defer ln.Close()
		go func() {
			conn, err := ln.Accept()
			if err == nil {
				conn.Read(make([]byte, MaxHelloBytes)) // or the hello meets a closed connection
				conn.Write(appendClose(nil, ErrCollision))
				conn.Close()
			}
		}()
		start := time.Now()
		_, err = b.add("n1", nil).Connect(t.Context(), "n9")
		if took := time.Since(start); !errors.Is(err, ErrCollision) || took != handshakeTimeout {
			t.Errorf("Connect = %v after %v, want ErrCollision after %v", err, took, handshakeTimeout)
		}
	})
}

func TestANewLinkReplacesTheOld(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		b.add("n1", nil)
		first := testHello("n9")
		first.serial = 5
		old := b.rawLink("n1", first)
		b.expect("n1", "up n9")

		late := testHello("n9")
		late.serial = 4 // sent before the link that is there
		if _, err := greet(b.raw("n1"), late, "n1"); !errors.Is(err, ErrCollision) {
			t.Errorf("a hello older than the link: %v, want ErrCollision", err)
		}
		b.expect("n1")

		again := testHello("n9")
		again.serial = 6
		b.rawLink("n1", again)
		b.expect("n1", "down n9", "up n9")
		if err := b.recs["n1"].lastErr(); !errors.Is(err, ErrReplaced) {
			t.Errorf("the old link's error is %v, want ErrReplaced", err)
		}
		if _, err := io.Copy(io.Discard, old); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the old connection: %v, want its end", err)
		}

		reboot := testHello("n9")
		reboot.Boot = "2" // and serials begin anew
		b.rawLink("n1", reboot)
		b.expect("n1", "down n9", "up n9")
		if l := b.hubs["n1"].Get("n9"); l == nil || l.Peer().Boot != "2" {
			t.Errorf("Get = %v, want the link to the new boot", l)
		}
		if n := b.hubs["n1"].Stats().Links; n != 1 {
			t.Errorf("%d links, want 1", n)
		}
	})
}

func TestANodeThatNoticedABreakFirstLinksAgain(t *testing.T) {
	for _, dialer := range []string{"n1", "n2"} {
		inBed(t, func(t *testing.T, b *bed) {
			one, two := b.pair()
			ends := map[string]*Link{"n1": one, "n2": two}
			other := map[string]string{"n1": "n2", "n2": "n1"}[dialer]
			b.net.Cut(ip("n1"), ip("n2"))
			ends[dialer].fail(errors.New("noticed"))
			synctest.Wait()
			b.net.Heal(ip("n1"), ip("n2")) // the end of the old and the new dial arrive together
			if _, err := b.hubs[dialer].Connect(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			b.expect("n1", "down n2", "up n2")
			b.expect("n2", "down n1", "up n1")
			b.working(t, "n1", "n2")
		})
	}
}

func TestSilenceEndsALinkAfterTheLease(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		one, two := b.pair()
		time.Sleep(time.Minute) // idle is not silent
		if one.Err() != nil || two.Err() != nil {
			t.Fatalf("an idle link went down: %v, %v", one.Err(), two.Err())
		}
		b.net.Cut(ip("n1"), ip("n2"))
		start := time.Now()
		var wg sync.WaitGroup
		defer wg.Wait()
		check := func(l *Link) {
			<-l.Down()
			if took := time.Since(start); !errors.Is(l.Err(), ErrSilent) || took < 2*time.Second || took > 3250*time.Millisecond {
				t.Errorf("down with %v after %v, want ErrSilent after about 3s", l.Err(), took)
			}
			if d := time.Since(l.LastHeard()); d < 3*time.Second || d > 3500*time.Millisecond {
				t.Errorf("last heard %v ago, want about 3s", d)
			}
		}
		wg.Go(func() { check(one) })
		wg.Go(func() { check(two) })
	})
}

func TestTimeInWhichTheProcessStoodStillIsNotSilence(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		one, _ := b.pair()
		// What keep does after an hour of not running: one long step.
		now := one.hub.now()
		for range 3 {
			one.tick(now+time.Hour, 500*time.Millisecond)
		}
		if err := one.Err(); err != nil {
			t.Errorf("the link went down: %v", err)
		}
	})
}

func TestBothSidesKnowTheRoundTrip(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		b.net.SetDelay(20 * time.Millisecond)
		h1, h2 := b.add("n1", nil), b.add("n2", nil)
		one, err := h1.Connect(t.Context(), "n2")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // the first pings do not wait for KeepAlive
		before := one.Stats().Writes
		for i := range 2 {
			for _, l := range []*Link{one, h2.Get("n1")} {
				if rtt := l.RTT(); rtt != 40*time.Millisecond {
					t.Errorf("round %d: RTT at %s = %v, want 40ms", i, l.hub.cfg.Self.Node, rtt)
				}
			}
			time.Sleep(10 * time.Second)
		}
		if n := one.Stats().Writes - before; n < 19 || n > 21 {
			t.Errorf("%d writes in 20 s of idling, want one a second", n)
		}
	})
}

// loads records the loads that a node hears.
type loads struct {
	recorder
	mu  sync.Mutex
	all []Load
}

func (r *loads) Load(_ *Link, ld Load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, ld)
}

func (r *loads) take() []Load {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.all
	r.all = nil
	return l
}

func TestLoadTravelsWithPingsAndAtOnce(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		var busy atomic.Uint32
		heard := &loads{}
		h1 := b.add("n1", func(c *Config) {
			c.Load = func() Load { return Load{Slots: 8, Busy: busy.Load(), Queued: 3, Draining: true} }
		})
		b.add("n2", func(c *Config) { c.Events = heard })
		l, err := h1.Connect(t.Context(), "n2")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := heard.take(); len(got) == 0 || got[0] != (Load{8, 0, 3, true}) {
			t.Errorf("as the link came up: %v, want the load", got)
		}
		busy.Store(5)
		for range 1000 {
			l.SendLoad()
		}
		synctest.Wait()
		got := heard.take()
		if n := len(got); n == 0 || n > 500 || got[n-1].Busy != 5 {
			t.Errorf("1000 SendLoad sent %d loads, the last %v; want fewer, the last busy 5", n, got[max(n-1, 0):])
		}
		time.Sleep(10 * time.Second)
		if n := len(heard.take()); n < 9 || n > 11 {
			t.Errorf("%d loads in 10 s, want 10", n)
		}
	})
}

func TestAHandshakeThatCannotBeIsATypedErrorOnBothSides(t *testing.T) {
	edit := func(f func(*hello)) *hello {
		h := testHello("n9")
		f(h)
		return h
	}
	for _, c := range []struct {
		name string
		self *hello
		want error
	}{
		{"other cluster", edit(func(h *hello) { h.Cluster = "d" }), ErrOtherCluster},
		{"newer version", edit(func(h *hello) { h.min, h.max = 2, 3 }), ErrVersion},
		{"own id", testHello("n1"), ErrSelf},
		{"control characters", edit(func(h *hello) { h.Name = "\x1b[2J" }), ErrMalformed},
		{"no boot", edit(func(h *hello) { h.Boot = "" }), ErrMalformed},
		{"forbidden", testHello("n8"), ErrForbidden},
		{"one more", testHello("n7"), ErrTooManyLinks},
	} {
		inBed(t, func(t *testing.T, b *bed) {
			b.add("n1", func(cfg *Config) {
				cfg.MaxLinks = 1
				cfg.Check = func(_ net.Conn, h Hello) (Rights, error) {
					if h.Node == "n8" {
						return 0, errors.New("a certificate of another node")
					}
					return AllRights, nil
				}
			})
			if c.want == ErrTooManyLinks {
				b.rawLink("n1", testHello("n9"))
				b.expect("n1", "up n9")
			}
			// The dialer would notice some of it by itself; here it must be told.
			conn := b.raw("n1")
			conn.Write(appendHello([]byte(Preamble), c.self))
			_, err := readHello(conn)
			if !errors.Is(err, c.want) {
				t.Errorf("%s: refused with %v, want %v", c.name, err, c.want)
			}
			if n := b.hubs["n1"].Stats().Refused; n != 1 {
				t.Errorf("%s: %d refused, want 1", c.name, n)
			}
			b.expect("n1")
		})
	}
}

func TestConnectErrorsSayWhy(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(net.Conn)
		want   error
		after  time.Duration
	}{
		{"another node", helloAnswer(testHello("n7")), ErrWrongNode, 0},
		{"itself", helloAnswer(testHello("n1")), ErrSelf, 0},
		{"other cluster", helloAnswer(&hello{Hello: Hello{"d", "n9", "1", ""}, min: 1, max: 1}), ErrOtherCluster, 0},
		{"older version", helloAnswer(&hello{Hello: Hello{"c", "n9", "1", ""}}), ErrVersion, 0},
		{"refused", func(c net.Conn) { c.Write(appendClose(nil, ErrTooManyLinks)) }, ErrTooManyLinks, 0},
		{"a later version's refusal", func(c net.Conn) { c.Write([]byte{0, 0, 0, 2, 2, 200, 'x'}) }, ErrPeerClosed, 0},
		{"not a link", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, ErrNotALink, 0},
		{"hangs up", func(net.Conn) {}, ErrNotALink, 0},
		{"hello too long", func(c net.Conn) { c.Write([]byte{0, 0, 0x10, 0x01, 1}) }, ErrNotALink, 0},
		{"says nothing", func(c net.Conn) { io.Copy(io.Discard, c) }, os.ErrDeadlineExceeded, handshakeTimeout},
		{"trickles", func(c net.Conn) {
			for _, v := range appendHello(nil, testHello("n9")) {
				time.Sleep(time.Second)
				if _, err := c.Write([]byte{v}); err != nil {
					return
				}
			}
		}, os.ErrDeadlineExceeded, handshakeTimeout},
	} {
		inBed(t, func(t *testing.T, b *bed) {
			ln, packets, err := b.net.Host(ip("n9")).Listen(t.Context(), ip("n9")+":1")
			if err != nil {
				t.Fatal(err)
			}
			packets.Close()
			var wg sync.WaitGroup
			defer wg.Wait()
			defer ln.Close()
			wg.Go(func() {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				readPreamble(conn)
				readHello(conn)
				c.answer(conn)
				conn.Close()
			})
			start := time.Now()
			_, err = b.add("n1", nil).Connect(t.Context(), "n9")
			ok := errors.Is(err, c.want)
			if took := time.Since(start); !ok || took != c.after {
				t.Errorf("%s: Connect = %v after %v, want %v after %v", c.name, err, took, c.want, c.after)
			}
			b.expect("n1")
		})
	}
}

func helloAnswer(h *hello) func(net.Conn) {
	return func(c net.Conn) { c.Write(appendHello(nil, h)) }
}

func TestConnectKeepsTheDialersError(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		b.net.Host(ip("n9"))
		h := b.add("n1", nil)
		if _, err := h.Connect(t.Context(), "n9"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Connect to a closed port = %v, want ECONNREFUSED", err)
		}
	})
}

func TestConnectDialsOnceForAllCallersAndStopsWhenAllGaveUp(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		var dials, ended atomic.Int32
		h := b.add("n1", func(c *Config) {
			c.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
				dials.Add(1)
				<-ctx.Done()
				ended.Add(1)
				return nil, ctx.Err()
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				ctx := ctx
				if i > 0 {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, time.Second)
					defer stop()
				}
				if _, err := h.Connect(ctx, "n9"); err == nil || ctx.Err() == nil {
					t.Errorf("Connect = %v, want its context's error", err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		if d, e := dials.Load(), ended.Load(); d != 1 || e != 0 {
			t.Errorf("%d dials, %d ended while a caller waits; want 1, 0", d, e)
		}
		cancel()
		wg.Wait()
		synctest.Wait()
		if e := ended.Load(); e != 1 {
			t.Error("the dial goes on with nobody waiting")
		}
		start := time.Now()
		if _, err := h.Connect(t.Context(), "n9"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != dialTimeout {
			t.Errorf("Connect without a deadline = %v after %v, want a timeout after %v", err, time.Since(start), dialTimeout)
		}
	})
}

func TestStrangersAreHungUpOn(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		h := b.add("n1", nil)
		for name, first := range map[string]string{
			"other protocol": "GET / HTTP/1.1\r\n", "magic only": "\x5c", "nothing": "", "hello of 5 KiB": Preamble + "\x00\x00\x14\x00\x01",
			"hello of 4 GiB": Preamble + "\xff\xff\xff\xff\x01", "a frame first": Preamble + "\x00\x00\x00\x14\x11",
		} {
			conn := b.raw("n1")
			io.WriteString(conn, first)
			start := time.Now()
			got, err := io.ReadAll(conn)
			if len(got) > 0 || time.Since(start) > handshakeTimeout {
				t.Errorf("%s: got %q, %v after %v; want to be hung up on", name, got, err, time.Since(start))
			}
		}
		if n := h.Stats().Refused; n != 6 {
			t.Errorf("%d refused, want 6", n)
		}
		for range maxHandshakes {
			b.raw("n1")
		}
		synctest.Wait()
		if n, err := b.raw("n1").Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("one more than %d strangers: read %d, %v; want to be hung up on", maxHandshakes, n, err)
		}
	})
}

func TestBadFramesEndTheLinkAndBothSidesKnow(t *testing.T) {
	for _, c := range []struct {
		name string
		send []byte
		want error
	}{
		{"too large", []byte{0, 0x10, 0, 1, 16}, ErrFrameTooLarge},
		{"as large as it gets", []byte{0xff, 0xff, 0xff, 0xff, 16}, ErrFrameTooLarge},
		{"hello again", appendHello(nil, testHello("n9")), ErrMalformed},
		{"short key", []byte{0, 0, 0, 3, 17, 1, 2, 3}, ErrMalformed},
		{"offer of no bytes", []byte{0, 0, 0, 0, 16}, ErrMalformed},
		{"result of no bytes", []byte{0, 0, 0, 0, 36}, ErrMalformed},
		{"list without an end", bytes.Repeat(appendPatched(appendKeys(nil, typeRecall, make([]Key, listItems)), headerBytes, 1), MaxListKeys/listItems+1), ErrMalformed},
		{"list within another", append(appendPatched(appendKeys(nil, typeRecall, nil), headerBytes, 1), appendHeld(nil, nil)...), ErrMalformed},
		{"ping of a byte", []byte{0, 0, 0, 1, 3, 0}, ErrMalformed},
	} {
		inBed(t, func(t *testing.T, b *bed) {
			h := b.add("n1", nil)
			conn := b.rawLink("n1", testHello("n9"))
			b.expect("n1", "up n9")
			conn.Write(c.send)
			b.expect("n1", "down n9")
			if err := b.recs["n1"].lastErr(); !errors.Is(err, c.want) {
				t.Errorf("%s: down with %v, want %v", c.name, err, c.want)
			}
			got, _ := io.ReadAll(conn)
			if i := bytes.LastIndex(got, []byte(c.want.Error())); i < 6 || got[i-2] != byte(typeClose) {
				t.Errorf("%s: the other side was sent %q, want a close at the end", c.name, got)
			}
			if n := h.Stats().Malformed; n != 1 {
				t.Errorf("%s: %d malformed, want 1", c.name, n)
			}
		})
	}
}

func TestUnknownFramesAreSkipped(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		h := b.add("n1", nil)
		conn := b.rawLink("n1", testHello("n9"))
		b.expect("n1", "up n9")
		for _, typ := range []byte{0, 4, 15, 23, 31, 39, 255} {
			conn.Write([]byte{0, 0, 0, 1, typ, 9})
		}
		conn.Write(appendKeyFrame(nil, typeGrant, testKey(1)))
		b.expect("n1", "grant 1/1")
		if n := h.Get("n9").Stats().Skipped; n != 7 {
			t.Errorf("%d skipped, want 7", n)
		}
	})
}

func TestAPeerThatDoesNotReadIsGivenUp(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		h := b.add("n1", nil)
		for name, flood := range map[string]func(*Link) time.Duration{
			"too much pending": func(l *Link) time.Duration {
				l.SendOffer(&Offer{Spec: make([]byte, 512<<10)}) // the writer is stuck with it
				synctest.Wait()
				l.mu.Lock()
				l.control = make([]byte, maxControlBytes-600<<10) // as many small frames as that
				l.mu.Unlock()
				for range 100<<10/(headerBytes+keyBytes) + 1 {
					l.SendGrant(testKey(1))
				}
				return 0
			},
			"no progress": func(l *Link) time.Duration {
				l.SendOffer(&Offer{Spec: make([]byte, 512<<10)})
				return writeTimeout
			},
		} {
			conn := b.rawLink("n1", testHello("n9"))
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { // it is alive, and only does not read
				for stamp := uint64(1); ; stamp++ {
					if _, err := conn.Write(appendPing(nil, &ping{stamp: stamp})); err != nil {
						return
					}
					select {
					case <-stop:
						return
					case <-time.After(time.Second):
					}
				}
			})
			synctest.Wait()
			l := h.Get("n9")
			start := time.Now()
			after := flood(l)
			<-l.Down()
			if took := time.Since(start); !errors.Is(l.Err(), ErrSlowPeer) || took != after {
				t.Errorf("%s: down with %v after %v, want ErrSlowPeer after %v", name, l.Err(), took, after)
			}
			if err := l.SendGrant(testKey(1)); !errors.Is(err, ErrSlowPeer) {
				t.Errorf("%s: SendGrant = %v, want ErrSlowPeer", name, err)
			}
			if s := l.Stats(); s.PendingControl > 0 || s.PendingBulk > 0 {
				t.Errorf("%s: %+v is kept of a link that is down", name, s)
			}
			close(stop)
			wg.Wait()
		}
	})
}

func TestFramesAboveTheLimitAreRefusedAndTheLinkStays(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		one, two := b.pair()
		fits := make([]byte, MaxFrameBytes-offerBytes)
		if err := one.SendOffer(&Offer{Spec: append(fits, 1)}); !errors.Is(err, ErrFrameTooLarge) {
			t.Errorf("SendOffer of a byte too many = %v, want ErrFrameTooLarge", err)
		}
		if err := sendResult(two, testKey(1), &tasks.Outcome{Value: make([]byte, MaxFrameBytes)}); !errors.Is(err, ErrFrameTooLarge) {
			t.Errorf("SendResult of a byte too many = %v, want ErrFrameTooLarge", err)
		}
		if err := one.SendOffer(&Offer{Spec: fits}); err != nil {
			t.Errorf("SendOffer of as much as fits = %v", err)
		}
		two.SendReject(testKey(1), tasks.Busy, strings.Repeat("x", 1<<20))
		b.expect("n2", "offer 0/0")
		b.expect("n1", fmt.Sprintf("reject 1/1 busy %q", strings.Repeat("x", MaxTextBytes)))
		if n := len(b.recs["n2"].offers[0].Spec); n != len(fits) {
			t.Errorf("a spec of %d bytes arrived with %d", len(fits), n)
		}
	})
}

func TestAKilledNodeIsNoticedAtOnce(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		one, _ := b.pair()
		start := time.Now()
		b.net.Host(ip("n2")).Kill()
		b.net.Reset(ip("n1"), ip("n2"))
		<-one.Down()
		if took := time.Since(start); took != 0 {
			t.Errorf("noticed after %v, want at once", took)
		}
		b.expect("n1", "down n2")
		if err := b.recs["n1"].lastErr(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			t.Errorf("down with %v, want what the connection said", err)
		}
	})
}

func TestNewHubNamesTheFieldThatIsWrong(t *testing.T) {
	good := Hello{"c", "n", "1", ""}
	for want, cfg := range map[string]Config{
		"node":      {Self: Hello{Cluster: "c", Boot: "1"}},
		"cluster":   {Self: Hello{Cluster: strings.Repeat("x", 1001), Node: "n", Boot: "1"}},
		"KeepAlive": {Self: good, KeepAlive: -1},
		"Lease":     {Self: good, KeepAlive: time.Second, Lease: time.Second},
		"MaxLinks":  {Self: good, MaxLinks: -1},
	} {
		if _, err := NewHub(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewHub = %v, want an error about %s", err, want)
		}
	}
}

func TestCloseMayComeFirstAndTwice(t *testing.T) {
	h, err := NewHub(Config{Self: Hello{"c", "n", "1", ""}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	h.Start()
	if _, err := h.Connect(t.Context(), "m"); !errors.Is(err, ErrClosed) {
		t.Errorf("Connect = %v, want ErrClosed", err)
	}
}
