package beacon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// DefaultInterval is how often a pool announces itself.
const DefaultInterval = 3 * time.Second

// ErrClosed is returned by Start after Close.
var ErrClosed = errors.New("beacon: closed")

// Config says what a Beacon announces and whom it tells. New copies it.
type Config struct {
	// Cluster is the name of the cluster. Announcements of others are ignored.
	Cluster string
	// Node is this node's id: 1 to 64 letters, digits and any of "-_.".
	Node string
	// Boot differs at each start of the node and grows: a number in base 36 of
	// at most 16 digits, lower case, without leading zeros.
	Boot string
	// Name is for people, at most 64 bytes of UTF-8 without control characters.
	Name string
	// Addr is where others reach this node's gossip; see SetAddr.
	Addr netip.AddrPort

	// Keys returns the keys of a cluster with a secret, at least one, of at least
	// 16 bytes each: the first seals announcements, any opens them, so that a key
	// can be replaced while the beacon runs. It is called for each datagram. nil:
	// nothing is sealed, and announcements that are belong to another pool.
	Keys func() [][]byte

	// Known reports whether the node is an alive member of this node's pool.
	// It is called from the goroutine that receives and must be quick.
	Known func(node string) bool
	// OnStranger is told of a node of the cluster that is not Known. Calls come
	// from one goroutine, one at a time. While a call lasts up to 64 others
	// wait; beyond that they are dropped, to be heard again at their next
	// announcement. Close waits for the call, so it must not call Close.
	OnStranger func(Heard)
	// Members returns the size of the pool, which spreads the reactions to a
	// newcomer: each member waits up to 20 ms for each other member, at most
	// 2 s, before it reports. It is called as Known is. nil: no delay.
	Members func() int

	// Services returns what this node shows of itself to hosts that speak only
	// sc-discovery, while there are any; see the package comment. It is called
	// as Known is; what it returns is not changed. nil: the node does not show
	// itself. With Keys it is not called.
	Services func() []Service
	// OnExternals is told when something has changed in Externals, which is its
	// argument. Calls come from one goroutine, not OnStranger's, one at a time,
	// ten a second at most. Close waits for the call, so it must not call Close.
	// nil: nobody is told.
	OnExternals func([]External)

	// Network is where announcements travel. nil: Multicast().
	Network Network
	// Interfaces are the only ones to use, by name. None: all.
	Interfaces []string
	// Interval is how often a pool announces itself, at least 10 ms.
	// Default: 3 s.
	Interval time.Duration
	// Logger gets what heals by itself. nil: nothing is logged.
	Logger *log.Logger
}

// Heard is a node that announced itself and is not in the pool.
type Heard struct {
	Node, Boot, Name string
	// Addr is where to join it: the advertised address if that is on the link
	// (or the cluster has Keys), else the one that the announcement came from.
	Addr netip.AddrPort
	// Advertised is where the node says it can be reached.
	Advertised netip.AddrPort
	// From is what the announcement came from; link-local with its zone.
	From netip.Addr
}

// Stats count since Start. A datagram is dropped for one reason, the first that
// holds in the order of the fields.
type Stats struct {
	Sent       uint64 // announcements, each on all interfaces
	SendErrors uint64 // announcements and maps that went out on no interface
	Received   uint64 // datagrams, copies from several interfaces included
	OffLink    uint64 // dropped: passed a router, or came from an address that is not on the link
	Malformed  uint64 // dropped: not an announcement, or one with impossible fields
	Version    uint64 // dropped: of a version that is not known here
	Foreign    uint64 // dropped: of another cluster
	Unsigned   uint64 // dropped: not sealed with one of Keys, or sealed where there are none
	Own        uint64 // dropped: our own, of this boot or an older one
	Conflicts  uint64 // dropped: another node with our id
	NoAddress  uint64 // dropped: says nowhere to reach the node from here
	Replayed   uint64 // dropped: sequence number heard already, or an older boot
	Pool       uint64 // of members of the pool
	Limited    uint64 // dropped: too many strangers, maps or externals, or OnStranger too slow
	Strangers  uint64 // reported to OnStranger
	Maps       uint64 // maps of services that were read, ours included
	MapsSent   uint64 // maps of services, each on all interfaces
}

// Beacon announces a node and hears others. Its methods may be called from any
// goroutine.
type Beacon struct {
	cfg   Config         // constant
	codec codec          // constant
	done  chan struct{}  // closed by Close
	wg    sync.WaitGroup // run, report and reportExternals
	news  chan Heard     // from run to report; full: dropped and counted
	moved chan struct{}  // cap 1, full: run knows already that addr changed

	externals externals

	// mu guards the fields below. It is not held over I/O or callbacks.
	mu      sync.Mutex
	started bool
	closed  bool
	addr    netip.AddrPort
	stats   Stats
}

// New checks cfg and returns a Beacon that is silent until Start.
func New(cfg Config) (*Beacon, error) {
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = log.New(io.Discard, "", 0)
	}
	if cfg.Network == nil {
		cfg.Network = Multicast()
	}
	if cfg.Members == nil {
		cfg.Members = func() int { return 0 }
	}
	cfg.Interfaces = slices.Clone(cfg.Interfaces)
	cfg.Addr = plain(cfg.Addr)
	own := announcement{node: cfg.Node, boot: cfg.Boot, name: cfg.Name, addr: cfg.Addr}
	switch err := own.check(); {
	case err != nil:
		return nil, fmt.Errorf("beacon: %w", err)
	case cfg.Known == nil:
		return nil, errors.New("beacon: Known is nil; want a function that knows the members of the pool")
	case cfg.OnStranger == nil:
		return nil, errors.New("beacon: OnStranger is nil; want a function that joins a node")
	case cfg.Interval < 10*time.Millisecond:
		return nil, fmt.Errorf("beacon: Interval is %v; want at least 10ms", cfg.Interval)
	case slices.Contains(cfg.Interfaces, ""):
		return nil, errors.New("beacon: Interfaces has an empty name; want names such as eth0")
	}
	c, err := newCodec(cfg.Cluster, cfg.Keys)
	if err != nil {
		return nil, fmt.Errorf("beacon: %w", err)
	}
	return &Beacon{
		cfg:       cfg,
		codec:     c,
		done:      make(chan struct{}),
		news:      make(chan Heard, maxWaiting),
		moved:     make(chan struct{}, 1),
		externals: externals{changed: make(chan struct{}, 1), byID: make(map[string]*external)},
		addr:      cfg.Addr,
	}, nil
}

// plain returns addr as it is announced: no zone, IPv4 as such.
func plain(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
}

// Start joins the group and begins to announce and to listen; it is called
// once. ctx bounds the start alone. That nothing can multicast now is no error:
// the machine's interfaces are looked at again every few seconds.
func (b *Beacon) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("beacon: start: %w", err)
	}
	b.mu.Lock()
	closed, started, addr := b.closed, b.started, b.addr
	b.started = true
	b.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case started:
		return errors.New("beacon: started twice")
	}
	conn, err := b.cfg.Network.Open(Options{Addr: addr, Interfaces: b.cfg.Interfaces, Logger: b.cfg.Logger})
	b.mu.Lock()
	if err != nil {
		b.started = false
		b.mu.Unlock()
		return fmt.Errorf("beacon: %w", err)
	}
	if b.closed {
		b.mu.Unlock()
		conn.Close()
		return ErrClosed
	}
	b.wg.Go(func() { b.run(conn) })
	b.wg.Go(b.report)
	if b.cfg.OnExternals != nil {
		b.wg.Go(b.reportExternals)
	}
	b.mu.Unlock()
	return nil
}

// Close leaves the group and waits for what Start started, calls of OnStranger
// and OnExternals included. It may be called twice, or before Start.
func (b *Beacon) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.done)
	}
	b.mu.Unlock()
	b.wg.Wait()
	return nil
}

// Stats returns the counters.
func (b *Beacon) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stats
}

func (b *Beacon) count(n *uint64) {
	b.mu.Lock()
	*n++
	b.mu.Unlock()
}

// SetAddr changes the address that is announced, and announces it as at the
// start. One that cannot be announced, say 0.0.0.0, is an error and changes
// nothing.
func (b *Beacon) SetAddr(addr netip.AddrPort) error {
	addr = plain(addr)
	own := announcement{node: b.cfg.Node, boot: b.cfg.Boot, name: b.cfg.Name, addr: addr}
	if err := own.check(); err != nil {
		return fmt.Errorf("beacon: %w", err)
	}
	b.mu.Lock()
	changed := addr != b.addr
	b.addr = addr
	b.mu.Unlock()
	if changed {
		select {
		case b.moved <- struct{}{}:
		default:
		}
	}
	return nil
}

// burst are the waits before the announcements at the start.
var burst = [...]time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond}

// maxAnswer is the longest random wait before a hello of the pool is answered,
// unless another member does.
const maxAnswer = 500 * time.Millisecond

// wait returns a random time around the interval. The window is wide, so that
// in a large pool few announce before they hear the first.
func (b *Beacon) wait() time.Duration {
	return time.Duration((0.9 + 0.5*rand.Float64()) * float64(b.cfg.Interval))
}

// run announces and listens until Close.
func (b *Beacon) run(conn Conn) {
	defer conn.Close()
	ear := newEar(b, conn.OnLink)
	var (
		seq    uint64
		step   int // into burst; at its end: the pool's turn
		silent bool
		speak  = time.NewTimer(burst[0])
		tell   = time.NewTimer(time.Hour) // when a stranger is due
		maps   = newMapTimes()
	)
	defer speak.Stop()
	defer tell.Stop()
	defer maps.stop()
	for {
		select {
		case <-b.done:
			return
		case <-b.moved:
			step = 0
			speak.Reset(burst[0])
		case <-speak.C:
			seq++
			silent = b.send(conn, seq, step < len(burst) || b.cfg.Members() == 1, silent)
			if step++; step < len(burst) {
				speak.Reset(burst[step])
			} else {
				speak.Reset(b.wait())
			}
		case p := <-conn.Receive():
			switch ear.hear(p) {
			case pool:
				step = len(burst)
				speak.Reset(b.wait())
			case hello:
				step = len(burst)
				speak.Reset(rand.N(maxAnswer))
			case reader:
				maps.heard()
				maps.follow(b.externals.expire())
			}
			ear.arm(tell)
		case <-tell.C:
			ear.tellDue()
			ear.arm(tell)
		case <-maps.speak.C:
			if maps.next() {
				b.sendMap(conn)
			}
		case <-maps.expire.C:
			maps.follow(b.externals.expire())
		}
	}
}

// send announces the node and returns whether that failed. It logs a failure
// that follows a success.
func (b *Beacon) send(conn Conn, seq uint64, hello, failedBefore bool) bool {
	b.mu.Lock()
	a := announcement{node: b.cfg.Node, boot: b.cfg.Boot, name: b.cfg.Name, addr: b.addr, seq: seq, hello: hello}
	b.mu.Unlock()
	err := conn.Send(b.codec.encode(&a))
	if err == nil {
		b.count(&b.stats.Sent)
		return false
	}
	b.count(&b.stats.SendErrors)
	if !failedBefore {
		b.cfg.Logger.Printf("[WARN] beacon: not announced, will try again: error=%q", err)
	}
	return true
}

// report calls OnStranger until Close.
func (b *Beacon) report() {
	for {
		select {
		case <-b.done:
			return
		case h := <-b.news:
			b.cfg.OnStranger(h)
		}
	}
}
