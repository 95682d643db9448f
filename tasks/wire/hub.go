package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Events is told of links. The calls for one link come from one goroutine and
// must not block: Up before any frame of the link, Down after the last. When a
// link replaces another to the same node, the old one's Down comes first.
type Events interface {
	Up(l *Link)
	Down(l *Link, err error)
	// Load: the other side said how busy it is.
	Load(l *Link, ld Load)
}

// Config configures a Hub.
type Config struct {
	Self Hello // required

	// Listener brings the connections that other nodes open; their first byte
	// is still there. nil: nobody can dial this node. The hub closes it.
	Listener net.Listener
	// Dial opens a connection to a node. nil: this node cannot dial.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// Check says what the node that the handshake named may send, by what the
	// connection proves of it, say a certificate; an error forbids the link.
	// nil: all may send everything. It may be called by several goroutines at
	// once.
	Check func(conn net.Conn, peer Hello) (Rights, error)

	Master FromWorker // nil: frames from workers are ignored
	Worker FromMaster // nil: frames from masters are ignored
	Events Events     // nil: nobody is told
	// Load says how busy this node is. It is called by the writers of links, at
	// any time, and must not block. nil: not at all.
	Load func() Load

	// KeepAlive is the time between two pings on a link. Default: 1s.
	KeepAlive time.Duration
	// Lease is how long nothing need be heard before a link counts as broken;
	// at least twice KeepAlive. It is not exceeded by more than a quarter of
	// KeepAlive. Time during which this process did not run does not count.
	// Default: 3s.
	Lease time.Duration
	// MaxLinks is the most links; further ones are refused. Default: 4096.
	MaxLinks int
	Logger   *log.Logger // nil: nothing is logged
}

// maxHandshakes bounds the strangers whose hello is awaited; further ones are
// hung up on.
const maxHandshakes = 256

// Hub holds the links of one node: at most one to each other node.
type Hub struct {
	cfg    Config // constant
	epoch  time.Time
	linked chan struct{}   // cap 1: there is a link again, perhaps
	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // every goroutine of the hub and its links

	accepted, dialed, refused, malformed, forbidden atomic.Uint64

	// mu guards the fields below. It is never held over I/O or a callback.
	// Lock order: Hub.mu, then Link.mu.
	mu         sync.Mutex
	started    bool
	closed     bool
	serial     uint64              // of the last hello
	links      map[string]*Link    // by node: the newest, until its Down was reported
	far        *Link               // the other end of the newest link to this node itself
	dials      map[string]*dialing // by node
	handshakes map[net.Conn]struct{}
}

// HubStats counts what a hub has seen.
type HubStats struct {
	Links     int    // now
	Accepted  uint64 // links that others opened
	Dialed    uint64 // links opened from here
	Refused   uint64 // connections that did not become links
	Malformed uint64 // links closed because of what they carried
	Forbidden uint64 // links closed because the other node might not send what it sent
}

// NewHub checks cfg. The hub does nothing before Start.
func NewHub(cfg Config) (*Hub, error) {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = time.Second
	}
	if cfg.Lease == 0 {
		cfg.Lease = max(3*time.Second, 3*cfg.KeepAlive)
	}
	if cfg.MaxLinks == 0 {
		cfg.MaxLinks = 4096
	}
	if cfg.Logger == nil {
		cfg.Logger = log.New(io.Discard, "", 0)
	}
	if err := cfg.Self.validate(); err != nil {
		return nil, fmt.Errorf("config: Self: %w", err)
	}
	switch {
	case cfg.KeepAlive < time.Millisecond:
		return nil, fmt.Errorf("config: KeepAlive is %v; want at least 1ms", cfg.KeepAlive)
	case cfg.Lease < 2*cfg.KeepAlive:
		return nil, fmt.Errorf("config: Lease is %v; want at least twice KeepAlive, %v", cfg.Lease, 2*cfg.KeepAlive)
	case cfg.MaxLinks < 1:
		return nil, fmt.Errorf("config: MaxLinks is %d; want at least 1", cfg.MaxLinks)
	}
	h := &Hub{
		cfg:        cfg,
		epoch:      time.Now().Add(-1), // so that no stamp is 0
		links:      make(map[string]*Link),
		dials:      make(map[string]*dialing),
		handshakes: make(map[net.Conn]struct{}),
		linked:     make(chan struct{}, 1),
	}
	h.ctx, h.cancel = context.WithCancelCause(context.Background())
	return h, nil
}

// Start begins to accept and lets Connect dial. It is called once.
func (h *Hub) Start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started || h.closed {
		return
	}
	h.started = true
	h.wg.Go(h.keep)
	if h.cfg.Listener != nil {
		h.wg.Go(h.listen)
	}
}

// Get returns the link to the node, nil if there is none. A link is there from
// when Events.Up has returned until it is down.
func (h *Hub) Get(node string) *Link {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.links[node]; l != nil && l.usable() {
		return l
	}
	return nil
}

// Links returns all links that are up, in no order.
func (h *Hub) Links() []*Link {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*Link, 0, len(h.links))
	for _, l := range h.links {
		if l.usable() {
			all = append(all, l)
		}
	}
	return all
}

// Stats returns the counters as they stand.
func (h *Hub) Stats() HubStats {
	s := HubStats{Links: len(h.Links())}
	s.Accepted, s.Dialed = h.accepted.Load(), h.dialed.Load()
	s.Refused, s.Malformed, s.Forbidden = h.refused.Load(), h.malformed.Load(), h.forbidden.Load()
	return s
}

// Close closes the listener and all links, as Link.Close does, so that what was
// sent before is still written; it returns when nothing of the hub runs any
// more, and Down was called for every link. It must not be called from a
// handler. It may be called twice.
func (h *Hub) Close() error {
	h.mu.Lock()
	first := !h.closed
	h.closed = true
	strangers := slices.Collect(maps.Keys(h.handshakes))
	links := slices.Collect(maps.Values(h.links))
	h.mu.Unlock()
	h.cancel(ErrClosed)
	var err error
	if first && h.cfg.Listener != nil {
		if err = h.cfg.Listener.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}
	for _, conn := range strangers {
		hangUp(conn)
	}
	for _, l := range links {
		l.Close(ErrClosed)
	}
	h.wg.Wait()
	return err
}

// now is the hub's clock: the time since it was made, never 0.
func (h *Hub) now() time.Duration { return time.Since(h.epoch) }

// keep pings links and closes those that are silent.
func (h *Hub) keep() {
	period := h.cfg.KeepAlive / 4
	t := time.NewTicker(period)
	defer t.Stop()
	last := h.now()
	for {
		select {
		case <-t.C:
		case <-h.ctx.Done():
			return
		}
		if !h.linking() { // an idle process is not woken for nothing
			t.Stop()
			select {
			case <-h.linked:
			case <-h.ctx.Done():
				return
			}
			t.Reset(period)
			last = h.now()
			continue
		}
		now := h.now()
		// A longer step means that this process, or the machine, stood still,
		// and says nothing about the others.
		step := min(now-last, 2*period)
		last = now
		for _, l := range h.ticked() {
			l.tick(now, step)
		}
	}
}

// linking reports whether there is any link.
func (h *Hub) linking() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.links) > 0 || h.far != nil
}

// ticked returns the links that are up, far end included.
func (h *Hub) ticked() []*Link {
	all := h.Links()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.far != nil && h.far.usable() {
		all = append(all, h.far)
	}
	return all
}

// tick is called by the hub's keeper only.
func (l *Link) tick(now, step time.Duration) {
	if heard := l.heard.Load(); heard != l.seen {
		l.seen, l.silent = heard, 0
	} else if l.silent += step; l.silent >= l.hub.cfg.Lease {
		l.fail(fmt.Errorf("link to node %q: %w for %v", l.peer.Name, ErrSilent, l.hub.cfg.Lease))
		return
	}
	if now-l.lastPing >= l.hub.cfg.KeepAlive {
		l.lastPing = now
		l.SendLoad()
	}
}

func (h *Hub) load() Load {
	if h.cfg.Load == nil {
		return Load{}
	}
	return h.cfg.Load()
}

func (h *Hub) loaded(l *Link, ld Load) {
	if h.cfg.Events != nil {
		h.cfg.Events.Load(l, ld)
	}
}

func (h *Hub) up(l *Link) {
	if l.far {
		return
	}
	h.logf("INFO", "link up: node=%s name=%q boot=%s addr=%s dialed=%t", l.peer.Node, l.peer.Name, l.peer.Boot, l.RemoteAddr(), l.dialed)
	if h.cfg.Events != nil {
		h.cfg.Events.Up(l)
	}
}

func (h *Hub) downed(l *Link, err error) {
	h.logf("INFO", "link down: node=%s name=%q boot=%s error=%q", l.peer.Node, l.peer.Name, l.peer.Boot, err)
	if h.cfg.Events != nil {
		h.cfg.Events.Down(l, err)
	}
	h.mu.Lock()
	if h.links[l.peer.Node] == l {
		delete(h.links, l.peer.Node)
	}
	if h.far == l {
		h.far = nil
	}
	h.mu.Unlock()
}

func (h *Hub) logf(level, format string, a ...any) {
	h.cfg.Logger.Printf("["+level+"] wire: "+format, a...)
}
