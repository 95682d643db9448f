package membership

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// expireInterval is how often time alone is considered.
const expireInterval = time.Second

// life is how far a Pool has come. It only grows.
type life int

const (
	lifeNew life = iota
	lifeRunning
	lifeLeaving
	lifeLeft
	lifeClosed
)

// Pool is this node's membership of a pool. Its methods may be called from any
// goroutine.
type Pool struct {
	config    Config // constant after New
	log       *log.Logger
	listLog   *log.Logger // memberlist's
	local     *local
	view      *view
	announcer *announcer // nil without OnEvent
	docs      *documents
	mail      *mail
	peers     *peers
	seeds     []seed // constant
	transport *transport
	counters  counters

	joins, joinErrors atomic.Uint64
	twin              atomic.Bool

	wake  chan struct{} // cap 1: the roster has dirty ids
	grown chan struct{} // cap 1: the pool has more members than before

	lonely chan struct{} // cap 1: nobody else is left in the pool

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup         // every goroutine the Pool started
	list   *memberlist.Memberlist // set by Start before any goroutine that reads it

	// mu guards the fields below. It is taken under memberlist's lock, so
	// nothing that holds it may call memberlist, or wait.
	mu     sync.Mutex
	roster *roster
	life   life
	turn   chan struct{} // closed when the Start or Leave under way has ended; nil without
}

// New checks c and returns a Pool that is not in any pool yet.
func New(c Config) (*Pool, error) {
	c, err := c.complete()
	if err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	self := gossipName(c.ID, c.Boot)
	p := &Pool{
		config: c, log: c.Logger, listLog: newGossipLog(c.Logger), view: newView(), roster: newRoster(self),
		wake: make(chan struct{}, 1), grown: make(chan struct{}, 1), lonely: make(chan struct{}, 1),
	}
	if p.local, err = newLocal(&p.config); err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	for _, s := range c.Seeds {
		sd, err := parseSeed(s)
		if err != nil {
			return nil, fmt.Errorf("membership: %w", err)
		}
		p.seeds = append(p.seeds, sd)
	}
	conf, err := c.memberlist()
	if err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	p.transport = newTransport(&p.config, conf.TCPTimeout, newGuard(conf, p.addrOf, p.rumour), &p.counters)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.docs = newDocuments(p)
	p.mail = newMail(p)
	p.peers = newPeers(&p.config)
	if c.OnEvent != nil {
		p.announcer = newAnnouncer(p.view, c.OnEvent)
	}
	p.show(c.ID)
	return p, nil
}

// Start begins to take part in gossip, and to look for the pool. It does not
// wait until anybody is found. ctx bounds the start alone.
func (p *Pool) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("membership: start: %w", err)
	}
	p.mu.Lock()
	if p.life != lifeNew {
		p.mu.Unlock()
		return errors.New("membership: start: already started or closed")
	}
	// From here to the end of Start, Close waits.
	started := make(chan struct{})
	p.life, p.turn = lifeRunning, started
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.turn = nil
		p.mu.Unlock()
		close(started)
	}()

	conf, err := p.config.memberlist()
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	if err := p.peers.load(); err != nil {
		// Without it the seeds and the beacon still find the pool.
		p.log.Printf("[WARN] membership: peers file not read: error=%s", quote(err.Error()))
	}
	d := &delegate{p}
	conf.Transport, conf.Logger = p.transport, p.listLog
	conf.Delegate, conf.Events, conf.Alive, conf.Merge, conf.Conflict = d, d, d, d, d
	list, err := memberlist.Create(conf)
	if err != nil {
		p.transport.Shutdown()
		p.mu.Lock()
		p.life = lifeClosed
		p.mu.Unlock()
		p.cancel()
		return fmt.Errorf("membership: start gossip: %w", err)
	}
	p.list = list
	p.transport.start()
	p.wg.Go(p.keep)
	p.wg.Go(p.announceLoop)
	p.wg.Go(p.syncLoop)
	p.wg.Go(p.seedLoop)
	p.wg.Go(p.rejoinLoop)
	if p.announcer != nil {
		p.announcer.news(p.config.ID)
		p.wg.Go(func() { p.announcer.run(p.ctx.Done()) })
	}
	if p.config.OnMessage != nil {
		p.wg.Go(p.mail.deliver)
	}
	p.log.Printf("[INFO] membership: started: id=%s boot=%s name=%s addr=%s cluster=%s",
		p.config.ID, p.config.Boot, quote(p.config.Name), p.config.Advertise, quote(p.config.Cluster))
	return nil
}

// running returns memberlist while this node is in the pool, or nil.
func (p *Pool) running() *memberlist.Memberlist {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != lifeRunning || p.turn != nil {
		return nil
	}
	return p.list
}

// Leave says goodbye, so that the others know that this node left rather than
// failed, and returns when the word is out, at the latest after two seconds or
// when ctx ends. Close is still to be called.
func (p *Pool) Leave(ctx context.Context) error {
	p.mu.Lock()
	if p.life != lifeRunning || p.turn != nil {
		defer p.mu.Unlock()
		if p.life == lifeLeft || p.life == lifeClosed {
			return nil
		}
		return fmt.Errorf("membership: leave: %w", ErrNotRunning)
	}
	p.life = lifeLeaving
	done := make(chan struct{})
	p.turn = done
	p.mu.Unlock()

	var err error
	go func() { // Close waits for it by way of turn
		defer close(done)
		err = p.sayGoodbye()
		p.mu.Lock()
		p.life, p.turn = lifeLeft, nil
		p.roster.dirty[p.config.ID] = struct{}{}
		p.mu.Unlock()
		signal(p.wake)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("membership: leave: %w", ctx.Err())
	}
}

// Close ends all that the Pool does, at once and, unless Leave came before,
// without a word to the others, and closes Listener and Packets. It may be
// called more than once, and before Start.
func (p *Pool) Close() error {
	p.mu.Lock()
	for p.turn != nil {
		wait := p.turn
		p.mu.Unlock()
		<-wait
		p.mu.Lock()
	}
	was := p.life
	p.life = lifeClosed
	p.mu.Unlock()

	p.cancel()
	switch {
	case was == lifeNew:
		p.config.Listener.Close()
		p.config.Packets.Close()
		return nil
	case was == lifeClosed:
		p.wg.Wait()
		return nil
	}
	err := p.list.Shutdown()
	p.wg.Wait()
	p.docs.wait()
	p.listLog.SetOutput(io.Discard) // its probes go on for a while, and cannot be waited for
	if saveErr := p.peers.save(); saveErr != nil {
		err = errors.Join(err, fmt.Errorf("membership: %w", saveErr))
	}
	p.log.Printf("[INFO] membership: stopped: id=%s", p.config.ID)
	return err
}

// sleep waits for d and reports whether the Pool is still open.
func (p *Pool) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// jitter returns a time between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// keep brings the view up to date with the roster. It alone changes the view.
func (p *Pool) keep() {
	tick := time.NewTicker(expireInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.wake:
		case <-tick.C:
			p.expire()
		}
		p.mu.Lock()
		dirty := p.roster.dirty
		p.roster.dirty = make(map[string]struct{})
		p.mu.Unlock()
		for id := range dirty {
			p.show(id)
		}
	}
}

// show makes the view of one member what is known of it now.
func (p *Pool) show(id string) {
	m := p.member(id)
	changed := false
	if m == nil {
		changed = p.view.drop(id)
	} else {
		changed = p.view.set(m)
		if !m.Self {
			p.peers.note(m, time.Now())
		}
	}
	if changed && p.announcer != nil {
		p.announcer.news(id)
	}
}

// member makes the Member of an id, or nil when it is none.
func (p *Pool) member(id string) *Member {
	if id == p.config.ID {
		return p.self()
	}
	p.mu.Lock()
	proc := p.roster.current(id, time.Now())
	if proc == nil {
		p.mu.Unlock()
		return nil
	}
	m := &Member{ID: id, Boot: proc.boot, AddrPort: proc.addr, Status: proc.status(), Since: proc.since}
	about := proc.meta
	p.mu.Unlock()

	m.describe(about)
	var d *Document
	if d, m.digest = p.docs.get(about); d != nil {
		m.Document, m.DocumentKnown = *d, true
	} else if m.Status.Present() {
		p.docs.want(m.digest, id)
	}
	return m
}

func (p *Pool) self() *Member {
	m := &Member{
		ID: p.config.ID, Boot: p.config.Boot, AddrPort: p.config.Advertise,
		Status: Alive, DocumentKnown: true, Self: true,
	}
	p.mu.Lock()
	if p.life >= lifeLeft {
		m.Status = Left
	}
	p.mu.Unlock()
	l := p.local
	l.mu.Lock()
	defer l.mu.Unlock()
	m.describe(&l.meta)
	m.Document, m.digest = l.document, l.meta.digest
	return m
}

func (m *Member) describe(about *meta) {
	m.Name, m.Version, m.Roles = about.name, about.version, roleLists[about.roles]
	m.Available, m.Slots, m.Busy = about.available, about.slots, about.busy
}

// expire does what time alone causes.
func (p *Pool) expire() {
	now := time.Now()
	p.mu.Lock()
	p.roster.expire(now, p.config.LeftTTL, p.config.FailedTTL)
	twin := p.roster.twin(now)
	p.mu.Unlock()
	if twin && !p.twin.Swap(true) {
		p.log.Printf("[ERR] membership: another process runs with this node's id; " +
			"give each node a state directory of its own")
	}
	p.docs.trim(now)
}

// addrOf returns the address of a process that is alive, by its name in gossip.
func (p *Pool) addrOf(name string) (netip.AddrPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name == p.roster.self {
		return p.config.Advertise, true
	}
	if proc := p.roster.find(name); proc != nil && proc.alive {
		return proc.addr, true
	}
	return netip.AddrPort{}, false
}

// alive returns how many processes of others gossip believes to be alive.
func (p *Pool) alive() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.roster.names
}

// Members returns all members, this node included, sorted by name and then id.
func (p *Pool) Members() []Member {
	all := p.view.all()
	list := make([]Member, len(all))
	for i, m := range all {
		list[i] = *m
	}
	return list
}

// Present yields the members that are present, this node included, by name and then
// id, without making copies of them: they must only be read.
func (p *Pool) Present() iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		for _, m := range p.view.all() {
			if m.Status.Present() && !yield(m) {
				return
			}
		}
	}
}

// Member returns the member with the given id.
func (p *Pool) Member(id string) (Member, bool) {
	if m := p.view.get(id); m != nil {
		return *m, true
	}
	return Member{}, false
}

// Self returns this node as it shows itself to the others.
func (p *Pool) Self() Member { return *p.self() }
