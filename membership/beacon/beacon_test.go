package beacon_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/membership/beacon"
	"github.com/scagent/scagent/membership/beacon/beacontest"
)

// pool is what the nodes of a test know: all strangers heard by one of its
// nodes join it.
type pool struct {
	mu    sync.Mutex
	alive map[string]bool
	heard []beacon.Heard
}

func newPool() *pool { return &pool{alive: make(map[string]bool)} }

func (p *pool) known(n string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive[n]
}

func (p *pool) add(nodes ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range nodes {
		p.alive[n] = true
	}
}

func (p *pool) stranger(h beacon.Heard) {
	p.add(h.Node)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, h)
}

// reports returns the strangers that were reported.
func (p *pool) reports() []beacon.Heard {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

// config returns the configuration of node i, at an address of its own.
func config(n beacon.Network, p *pool, i int) beacon.Config {
	return beacon.Config{
		Cluster: "test", Node: fmt.Sprint("n", i), Boot: "1", Name: fmt.Sprint("host-", i),
		Addr:    netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 44201),
		Network: n, Known: p.known, OnStranger: p.stranger,
	}
}

func start(t *testing.T, cfg beacon.Config) *beacon.Beacon {
	t.Helper()
	b, err := beacon.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestANodeAnnouncesAtItsStartAndThenEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		start(t, config(net, newPool(), 1))
		begin := time.Now()
		for _, s := range []struct {
			at   time.Duration
			want int
		}{{0, 1}, {249 * time.Millisecond, 1}, {250 * time.Millisecond, 2}, {999 * time.Millisecond, 2}, {time.Second, 3}, {3 * time.Second, 3}} {
			time.Sleep(s.at - time.Since(begin))
			synctest.Wait()
			if got := net.Sent(); got != s.want {
				t.Errorf("%v after the start: %d announcements, want %d", s.at, got, s.want)
			}
		}
		before := net.Sent()
		time.Sleep(5 * time.Minute)
		if got := net.Sent() - before; got < 75 || got > 112 {
			t.Errorf("%d announcements in 5 minutes, want about one every 3 s", got)
		}
	})
}

func TestTwoNodesFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		p1, p2 := newPool(), newPool()
		start(t, config(net, p1, 1))
		time.Sleep(time.Minute)
		b2 := start(t, config(net, p2, 2))
		synctest.Wait()
		got := p1.reports()
		if len(got) != 1 {
			t.Fatalf("reported to the first node: %+v, want the second at once", got)
		}
		h := got[0]
		if h.Node != "n2" || h.Boot != "1" || h.Name != "host-2" || h.Addr.String() != "10.0.0.2:44201" || h.From.String() != "10.0.0.2" {
			t.Errorf("reported %+v, want what n2 announces", h)
		}
		time.Sleep(5 * time.Second)
		if got := p2.reports(); len(got) != 1 || got[0].Node != "n1" {
			t.Errorf("reported to the second node: %+v, want n1", got)
		}
		if s := b2.Stats(); s.Own != s.Sent || s.Sent == 0 || s.Strangers != 1 {
			t.Errorf("stats of the second node: %+v, want each announcement of its own ignored", s)
		}
	})
}

// Trickle, RFC 6206, section 4.2: whoever hears enough consistent messages
// suppresses its own, so that traffic does not grow with the number of nodes.
func TestTrafficDoesNotGrowWithThePool(t *testing.T) {
	for _, n := range []int{2, 50, 200} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net, p := beacontest.New(), newPool()
				for i := range n {
					p.add(fmt.Sprint("n", i))
				}
				for i := range n {
					start(t, config(net, p, i))
				}
				time.Sleep(10 * time.Second)
				before := net.Sent()
				time.Sleep(time.Minute)
				if got := net.Sent() - before; got < 14 || got > 23 {
					t.Errorf("%d announcements of %d nodes in a minute, want about one every 3 s", got, n)
				}
				if got := len(p.reports()); got != 0 {
					t.Errorf("%d strangers reported inside one pool", got)
				}
			})
		})
	}
}

func TestNodesThatStartTogetherBecomeOnePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes = 150
		net := beacontest.New()
		// Whoever joins another becomes one pool with all that are in its pool.
		var mu sync.Mutex
		root := make([]int, nodes)
		pools := nodes
		find := func(i int) int {
			for root[i] != i {
				i = root[i]
			}
			return i
		}
		index := func(node string) (i int) {
			fmt.Sscanf(node, "n%d", &i)
			return i
		}
		for i := range nodes {
			root[i] = i
		}
		for i := range nodes {
			cfg := config(net, newPool(), i)
			cfg.Known = func(n string) bool {
				mu.Lock()
				defer mu.Unlock()
				return find(i) == find(index(n))
			}
			cfg.OnStranger = func(h beacon.Heard) {
				mu.Lock()
				defer mu.Unlock()
				if a, b := find(i), find(index(h.Node)); a != b {
					root[a] = b
					pools--
				}
			}
			start(t, cfg)
		}
		time.Sleep(20 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if pools != 1 {
			t.Errorf("%d pools after 20 s, want 1", pools)
		}
	})
}

func TestOneOfTwoHalvesHearsTheOtherAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		pools := []*pool{newPool(), newPool()}
		side := func(ip netip.Addr) int { return int(ip.As4()[3]) % 2 }
		net.SetReach(func(from, to netip.Addr) bool { return side(from) == side(to) })
		for i := range 10 {
			pools[i%2].add(fmt.Sprint("n", i))
		}
		for i := range 10 {
			start(t, config(net, pools[i%2], i))
		}
		time.Sleep(time.Hour)
		for i, p := range pools {
			if len(p.reports()) != 0 {
				t.Fatalf("half %d heard %+v through the cut", i, p.reports())
			}
		}
		net.SetReach(nil)
		time.Sleep(5 * time.Second) // a pool is silent for 4.2 s at most
		// One report is enough, since it joins the two. A half that has heard the other
		// may say nothing more: it takes that one's announcements for its own pool's.
		if len(pools[0].reports())+len(pools[1].reports()) == 0 {
			t.Error("5 s after the cut's end neither half has heard the other")
		}
	})
}

func TestPoolsOfDifferentSecretsOrNamesDoNotMix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		var pools []*pool
		for i, c := range []struct{ cluster, key string }{
			{"a", ""}, {"b", ""}, {"a", strings.Repeat("k", 32)}, {"a", strings.Repeat("l", 32)},
		} {
			p := newPool()
			cfg := config(net, p, i)
			cfg.Cluster = c.cluster
			if c.key != "" {
				cfg.Keys = func() [][]byte { return [][]byte{[]byte(c.key)} }
			}
			pools = append(pools, p)
			start(t, cfg)
		}
		time.Sleep(time.Minute)
		for i, p := range pools {
			if len(p.reports()) != 0 {
				t.Errorf("node %d heard %+v, want nobody", i, p.reports())
			}
		}
	})
}

func TestANewAddressIsAnnouncedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		b := start(t, config(net, newPool(), 1))
		p := newPool()
		cfg := config(net, p, 2)
		cfg.Known = func(string) bool { return false }
		start(t, cfg)
		time.Sleep(10*time.Second + time.Nanosecond)
		before := net.Sent()
		if err := b.SetAddr(netip.MustParseAddrPort("[::ffff:10.0.9.9]:5")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := net.Sent() - before; got != 1 {
			t.Errorf("%d announcements at the change, want 1", got)
		}
		time.Sleep(time.Minute) // who is heard often is not reported each time
		heard := p.reports()
		if got := heard[len(heard)-1].Addr.String(); got != "10.0.9.9:5" {
			t.Errorf("heard %s after the change, want 10.0.9.9:5", got)
		}
		for _, a := range []string{"0.0.0.0:5", "10.0.0.1:0", "224.0.0.1:5"} {
			if err := b.SetAddr(netip.MustParseAddrPort(a)); err == nil {
				t.Errorf("SetAddr(%s) = nil, want an error", a)
			}
		}
		if err := b.SetAddr(netip.AddrPort{}); err == nil {
			t.Error("SetAddr(zero) = nil, want an error")
		}
	})
}

func TestABlockedCallerDoesNotStopTheBeacon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := beacontest.New()
		cfg := config(net, newPool(), 1)
		entered, release := make(chan struct{}, 100), make(chan struct{})
		cfg.OnStranger = func(beacon.Heard) { entered <- struct{}{}; <-release }
		b := start(t, cfg)
		start(t, config(net, newPool(), 2))
		<-entered
		before := b.Stats().Sent
		time.Sleep(time.Minute)
		if got := b.Stats(); got.Sent-before < 12 || got.Received < 24 {
			t.Errorf("stats while OnStranger blocks: %+v, want it to go on", got)
		}
		if len(entered) != 0 {
			t.Error("OnStranger was called while a call was under way")
		}
		closed := make(chan struct{})
		go func() { b.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close returned before OnStranger")
		default:
		}
		close(release)
		<-closed
	})
}

// downNet is a network on which nothing can be sent while down is set.
type downNet struct {
	beacon.Network
	mu   sync.Mutex
	down bool
}

func (n *downNet) set(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

func (n *downNet) Open(o beacon.Options) (beacon.Conn, error) {
	c, err := n.Network.Open(o)
	return downConn{c, n}, err
}

type downConn struct {
	beacon.Conn
	n *downNet
}

func (c downConn) Send(b []byte) error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if c.n.down {
		return errors.New("network is unreachable")
	}
	return c.Conn.Send(b)
}

func TestANetworkThatIsDownIsTriedAgainAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &downNet{Network: beacontest.New(), down: true}
		cfg := config(net, newPool(), 1)
		log := newLog()
		cfg.Logger = log.Logger
		b := start(t, cfg)
		time.Sleep(time.Minute)
		if s := b.Stats(); s.Sent != 0 || s.SendErrors < 12 {
			t.Errorf("stats of a minute without network: %+v, want errors only", s)
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "[WARN] beacon: not announced") {
			t.Errorf("logged %q, want one warning", got)
		}
		net.set(false)
		time.Sleep(5 * time.Second)
		if s := b.Stats(); s.Sent == 0 {
			t.Errorf("stats with network again: %+v, want announcements", s)
		}
	})
}

// A node that is killed and starts again at once is still a member in the eyes
// of the others: they do not report it, so it must hear of them.
func TestANodeThatStartsAgainHearsOfItsPoolAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, p := beacontest.New(), newPool()
		for i := range 100 {
			p.add(fmt.Sprint("n", i))
		}
		for i := range 99 {
			start(t, config(net, p, i))
		}
		time.Sleep(time.Minute)
		before := net.Sent()
		own := newPool()
		cfg := config(net, own, 99)
		cfg.Boot = "2"
		start(t, cfg)
		time.Sleep(100 * time.Millisecond)
		if len(own.reports()) == 0 {
			t.Error("the node has not heard of its pool within 100 ms")
		}
		time.Sleep(4 * time.Second)
		if got := net.Sent() - before; got > 10 {
			t.Errorf("%d announcements in 4 s, want the node's 3 or 4 and about as many answers", got)
		}
	})
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*beacon.Config)
		says   string
	}{
		{"no cluster", func(c *beacon.Config) { c.Cluster = "" }, "cluster is empty"},
		{"no node", func(c *beacon.Config) { c.Node = "" }, `node is ""`},
		{"no boot", func(c *beacon.Config) { c.Boot = "" }, `boot is ""`},
		{"long name", func(c *beacon.Config) { c.Name = strings.Repeat("x", 65) }, "at most 64 bytes"},
		{"no address", func(c *beacon.Config) { c.Addr = netip.AddrPort{} }, "addr is"},
		{"wildcard address", func(c *beacon.Config) { c.Addr = netip.MustParseAddrPort("0.0.0.0:1") }, "addr is 0.0.0.0:1"},
		{"no Known", func(c *beacon.Config) { c.Known = nil }, "Known is nil"},
		{"no OnStranger", func(c *beacon.Config) { c.OnStranger = nil }, "OnStranger is nil"},
		{"negative interval", func(c *beacon.Config) { c.Interval = -1 }, "Interval is -1ns"},
		{"short key", func(c *beacon.Config) { c.Keys = func() [][]byte { return [][]byte{[]byte("short")} } }, "keys[0] has 5 bytes"},
		{"empty interface", func(c *beacon.Config) { c.Interfaces = []string{""} }, "Interfaces has an empty name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(beacontest.New(), newPool(), 1)
			c.change(&cfg)
			if b, err := beacon.New(cfg); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("New() = %v, %v; want an error that says %q", b, err, c.says)
			}
		})
	}
}

func TestStartAndCloseInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(beacontest.New(), newPool(), 1)
		b, err := beacon.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.Start(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Start(ended) = %v, want context.Canceled", err)
		}
		if err := b.Start(t.Context()); err != nil {
			t.Errorf("Start() = %v, want nil", err)
		}
		if err := b.Start(t.Context()); err == nil {
			t.Error("second Start() = nil, want an error")
		}
		b.Close()
		b.Close()
		if err := b.Start(t.Context()); !errors.Is(err, beacon.ErrClosed) {
			t.Errorf("Start() after Close = %v, want ErrClosed", err)
		}
		b, err = beacon.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		if err := b.Start(t.Context()); !errors.Is(err, beacon.ErrClosed) {
			t.Errorf("Start() after an early Close = %v, want ErrClosed", err)
		}
	})
}

func TestAFailedStartCanBeRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &failing{Network: beacontest.New(), left: 1}
		b, err := beacon.New(config(net, newPool(), 1))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := b.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no sockets") {
			t.Errorf("Start() = %v, want the network's error", err)
		}
		if err := b.Start(t.Context()); err != nil {
			t.Errorf("Start() again = %v, want nil", err)
		}
	})
}

// failing is a network that cannot be opened the first times.
type failing struct {
	beacon.Network
	left int
}

func (f *failing) Open(o beacon.Options) (beacon.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, errors.New("no sockets")
	}
	return f.Network.Open(o)
}

func TestGarbageFromTheNetworkIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, p := beacontest.New(), newPool()
		b := start(t, config(net, p, 1))
		for i := range 200 {
			net.Inject(beacon.Packet{Data: binary.BigEndian.AppendUint64(nil, uint64(i)), From: netip.MustParseAddr("10.0.0.9"), TTL: 255})
		}
		net.Inject(beacon.Packet{TTL: 255}) // no source
		start(t, config(net, newPool(), 2))
		synctest.Wait()
		if s := b.Stats(); s.Malformed != 201 || len(p.reports()) != 1 {
			t.Errorf("stats %+v, heard %+v; want 201 malformed datagrams and n2", s, p.reports())
		}
	})
}
