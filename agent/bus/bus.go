package bus

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Config configures a Bus. All fields are required.
type Config struct {
	Self Peer

	// Gossip hands a message, of at most about 700 bytes, to gossip, where it takes the
	// place of the one before it. Tell sends one to a node as a packet that may get lost.
	Gossip func(msg []byte) error
	Tell   func(node string, msg []byte) error
	// Client reaches nodes over HTTP: the host of a URL is the id of the node.
	Client *http.Client

	// Peers are the nodes that are present in the pool, but this one; Peer is one of
	// them, and Count how many they are.
	Peers func() []Peer
	Peer  func(node string) (Peer, bool)
	Count func() int
	// While returns a context that also ends when a node is not present any more.
	While func(ctx context.Context, node string) (context.Context, context.CancelFunc)

	// Deliver takes the events that come, those of one sender in order. It is called
	// under a lock: it must not block, nor call the Bus.
	Deliver func(Event)
	// Answer answers a request, or returns ErrNoAnswer. At most maxAnswers run at once.
	Answer func(ctx context.Context, e Event) (Data, error)

	Logger *log.Logger
}

// Errors of sending and asking.
var (
	ErrNoMatch  = errors.New("no member matches")
	ErrClosed   = errors.New("the bus is closed")
	ErrNoAnswer = errors.New("nothing there answers such requests")
	ErrBusy     = errors.New("it answers too many requests already")
	ErrGone     = errors.New("it is not in the pool any more")
)

// What a node sends of its own accord is bounded, so that a loop of events leaves
// room for gossip and for tasks on any network: a sender waits. An event to all counts
// once for each node.
const (
	sendRate  = 32 << 20 // bytes a second
	sendBurst = 64 << 20 // bytes
	minCost   = 256      // of an event to a node, in bytes
)

// Bus sends and receives the events of one node.
type Bus struct {
	cfg   Config
	began time.Time
	paid  *rate.Limiter

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	news    chan struct{} // cap 1: the log has grown
	repeat  chan struct{} // cap 1: somebody new may not know of it
	pulls   chan struct{} // a token for each pull under way
	answers chan struct{} // a token for each request that is being answered

	// mu guards the fields below. It is held while events are delivered.
	mu      sync.Mutex
	lamport uint64
	log     outLog
	direct  uint64             // number of the last event to one node
	streams map[string]*stream // by sender
	stats   Stats
}

// Stats count what a Bus has done.
type Stats struct {
	SentToAll, SentDirect uint64 // events; an event to several nodes counts once
	Received              uint64 // events of others
	Missed                uint64 // events of others that were not to be had any more
	Pulls, PullErrors     uint64 // asking a sender for events
	Malformed             uint64 // messages that mean nothing
}

// New returns a Bus that does nothing yet.
func New(cfg Config) *Bus {
	b := &Bus{
		cfg: cfg, began: time.Now(), paid: rate.NewLimiter(sendRate, sendBurst),
		news: make(chan struct{}, 1), repeat: make(chan struct{}, 1),
		pulls: make(chan struct{}, maxPulls), answers: make(chan struct{}, maxAnswers),
		streams: make(map[string]*stream),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Start begins to spread events.
func (b *Bus) Start() { b.wg.Go(b.announce) }

// Close ends all that the Bus does.
func (b *Bus) Close() {
	b.mu.Lock()
	b.cancel() // under the lock, so that no goroutine starts after Wait
	b.mu.Unlock()
	b.wg.Wait()
}

// Stats returns the counters.
func (b *Bus) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stats
}

// SendAll sends an event to all members, this node included, and returns when it is
// on its way; it waits while this node sends too much, see sendRate. Whoever is in the
// pool gets it, once, and after what this node sent before, as long as this node is
// reachable: within a second as a rule, and later if packets or connections are lost.
func (b *Bus) SendAll(ctx context.Context, name string, d Data) error {
	if err := checkEvent(name, d); err != nil {
		return err
	}
	if err := b.pay(ctx, d, 1+b.cfg.Count()); err != nil {
		return err
	}
	b.mu.Lock()
	if b.ctx.Err() != nil {
		b.mu.Unlock()
		return ErrClosed
	}
	b.lamport++
	b.log.add(item{lamport: b.lamport, at: time.Now(), name: name, data: d})
	b.stats.SentToAll++
	b.cfg.Deliver(Event{Name: name, From: b.cfg.Self.ID, Lamport: b.lamport, Data: d})
	b.mu.Unlock()
	signal(b.news)
	return nil
}

// pay waits until an event may be sent to so many nodes.
func (b *Bus) pay(ctx context.Context, d Data, nodes int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	for cost := max(minCost, d.Len()) * nodes; cost > 0; cost -= sendBurst {
		if err := b.paid.WaitN(ctx, min(cost, sendBurst)); err != nil {
			if b.ctx.Err() != nil {
				return ErrClosed
			}
			return fmt.Errorf("events are sent faster than %d MB a second: %w", sendRate>>20, err)
		}
	}
	return nil
}

// Greet is called when a node has come, or come back: it is told of recent events, which
// it may have missed, and asked for those that are missing here.
func (b *Bus) Greet(node string) {
	signal(b.repeat)
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.streams[node]; s != nil {
		b.catchUpLocked(s, false)
	}
}

// maxLeap is how far the clock goes at once. No pool has sent so many events; a lie that
// took it to its end would stop it everywhere.
const maxLeap = 1 << 40

// hearLocked sets the clock after a message of another node (Lamport, "Time, clocks, and
// the ordering of events in a distributed system", 1978).
func (b *Bus) hearLocked(lamport uint64) {
	if lamport > b.lamport && lamport-b.lamport <= maxLeap {
		b.lamport = lamport
	}
}

func (b *Bus) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter returns a time between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// signal wakes who waits on a channel of capacity 1.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
