package membership

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// updateInterval is the least time between two changes of a node's metadata, so
// that busy nodes do not fill everybody's gossip.
const updateInterval = time.Second

// busyDelay is how long others are not told that the slots in use have changed. A
// task that goes to all and is over by then would have each node gossip to each.
const busyDelay = updateInterval / 2

// local is what this node says about itself.
type local struct {
	changed chan struct{} // cap 1: the metadata is to be announced
	busied  chan struct{} // cap 1: the slots in use have changed

	mu       sync.Mutex
	meta     meta
	document Document
	json     []byte // the document, encoded
	toldBusy int    // meta.busy as it was announced last
}

func newLocal(c *Config) (*local, error) {
	l := &local{
		changed: make(chan struct{}, 1), busied: make(chan struct{}, 1),
		meta: meta{
			available: c.Available, roles: roleBits(c.Roles), slots: c.Slots,
			name: c.Name, version: c.Version,
		},
	}
	return l, l.setDocument(c.Document)
}

func (l *local) setDocument(d Document) error {
	encoded, err := d.encode()
	if err != nil {
		return err
	}
	// What the others will see is what was encoded, so that is what this node
	// shows of itself, too.
	own, err := decodeDocument(encoded)
	if err != nil {
		return err
	}
	packed := deflate(encoded)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.document, l.json = *own, encoded
	l.meta.inside, l.meta.digest = packed, digestOf(encoded)
	return nil
}

func (l *local) encodedDocument() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.json
}

func (l *local) encodedMeta() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meta.encode()
}

// change edits the metadata and reports whether that made a difference.
func (l *local) change(edit func(*meta)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.meta
	edit(&l.meta)
	return l.meta.available != was.available || l.meta.busy != was.busy || l.meta.slots != was.slots
}

// SetDocument replaces this node's document. The others see it within about two
// seconds. It returns ErrDocumentTooLarge above MaxDocumentBytes, and an error
// for data that is not JSON.
func (p *Pool) SetDocument(d Document) error {
	if err := p.local.setDocument(d); err != nil {
		return err
	}
	p.announce()
	return nil
}

// SetAvailable says whether this node wants tasks.
func (p *Pool) SetAvailable(yes bool) {
	if p.local.change(func(m *meta) { m.available = yes }) {
		p.announce()
	}
}

// SetBusy says how many of this node's slots are in use. It may be called as
// often as it changes; the others see what lasts half a second, about once a second.
func (p *Pool) SetBusy(slots int) {
	if p.local.change(func(m *meta) { m.busy = max(0, min(slots, maxSlots)) }) {
		p.showSelf()
		signal(p.local.busied)
	}
}

// news says whether the slots in use are others than were announced.
func (l *local) news() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meta.busy != l.toldBusy
}

// told notes that the metadata is announced as it is now.
func (l *local) told() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.toldBusy = l.meta.busy
}

// SetSlots changes the number of slots.
func (p *Pool) SetSlots(slots int) error {
	if slots < 0 || slots > maxSlots {
		return fmt.Errorf("slots is %d; want 0 to %d", slots, maxSlots)
	}
	if p.local.change(func(m *meta) { m.slots = slots }) {
		p.announce()
	}
	return nil
}

// announce makes changed metadata visible, here at once and elsewhere soon.
func (p *Pool) announce() {
	p.showSelf()
	signal(p.local.changed)
}

// showSelf makes changed metadata visible here.
func (p *Pool) showSelf() {
	p.mu.Lock()
	p.roster.dirty[p.config.ID] = struct{}{}
	p.mu.Unlock()
	signal(p.wake)
}

// announceLoop gossips changed metadata, at most once in updateInterval.
func (p *Pool) announceLoop() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.local.changed:
		case <-p.local.busied:
			select {
			case <-p.ctx.Done():
				return
			case <-p.local.changed:
			case <-time.After(busyDelay):
				select {
				case <-p.local.busied: // meanwhile
				default:
				}
				if !p.local.news() {
					continue
				}
			}
		}
		next := time.Now().Add(updateInterval)
		p.local.told()
		// It returns when the news has been sent as often as it will be. Not to
		// have heard of that in time is no failure.
		p.list.UpdateNode(updateInterval / 2)
		if !p.sleep(time.Until(next)) {
			return
		}
	}
}

// ErrNotRunning is returned by what needs the network before Start and after
// Leave or Close.
var ErrNotRunning = errors.New("not in the pool: not started, or already left")
