package membership

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// User messages of gossip, as this package sends them.
//
//	size  field
//	1     type, see mailType
//	1+n   name in gossip of who sent it, its length first
//	8     unless direct: a random number that tells messages apart; of a latest
//	      one its version, big-endian, from 1
//	...   what the caller sent; for a farewell, the name of who is gone
type mailType byte

const (
	mailDirect    mailType = 1
	mailBroadcast mailType = 2
	mailFarewell  mailType = 3
	mailLatest    mailType = 4
)

const (
	retransmitMult = 4    // how often a node passes a message on, times the digits of their number
	maxInbox       = 1024 // messages that wait for OnMessage; further ones are dropped
	maxOutbox      = 256  // broadcasts being passed on; the most sent ones are dropped
	maxSeen        = 4096 // broadcasts remembered, so that each is taken once
	leaveTimeout   = 2 * time.Second
	farewellDirect = 8 // members that hear a farewell directly
)

// ErrMessageTooLarge is returned by Send and Broadcast.
var ErrMessageTooLarge = errors.New("message too large for gossip")

// ErrUnknownMember is returned for an id or name that no member has.
var ErrUnknownMember = errors.New("no such member")

type mailID [8]byte

// letter is a user message, decoded. payload shares what was decoded.
type letter struct {
	kind    mailType
	from    string // name in gossip
	id      mailID
	payload []byte
}

func (l *letter) encode() []byte {
	b := make([]byte, 0, 2+len(l.from)+len(l.id)+len(l.payload))
	b = append(b, byte(l.kind), byte(len(l.from)))
	b = append(b, l.from...)
	if l.kind != mailDirect {
		b = append(b, l.id[:]...)
	}
	return append(b, l.payload...)
}

func decodeLetter(b []byte) (letter, bool) {
	if len(b) < 2 {
		return letter{}, false
	}
	l, n := letter{kind: mailType(b[0])}, 2+int(b[1])
	if len(b) < n {
		return letter{}, false
	}
	from, rest := b[2:n], b[n:]
	if !validGossipName(from) {
		return letter{}, false
	}
	l.from = string(from)
	switch l.kind {
	case mailDirect:
	case mailBroadcast, mailFarewell, mailLatest:
		if len(rest) < len(l.id) {
			return letter{}, false
		}
		l.id = mailID(rest)
		rest = rest[len(l.id):]
	default:
		return letter{}, false
	}
	if l.kind == mailFarewell && !validGossipName(rest) {
		return letter{}, false
	}
	l.payload = rest
	return l, true
}

// mail sends, passes on and receives user messages.
type mail struct {
	pool  *Pool
	queue *memberlist.TransmitLimitedQueue
	inbox chan letter // cap maxInbox; when full, new letters are dropped and counted

	latest latest

	mu     sync.Mutex
	seen   map[mailID]struct{}
	oldest [maxSeen]mailID // a ring of what is in seen
	next   int
}

func newMail(p *Pool) *mail {
	return &mail{
		pool:  p,
		queue: &memberlist.TransmitLimitedQueue{NumNodes: func() int { return p.alive() + 1 }, RetransmitMult: retransmitMult},
		inbox: make(chan letter, maxInbox),
		seen:  make(map[mailID]struct{}),
	}
}

// first reports whether a broadcast has not been seen before.
func (m *mail) first(id mailID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.seen[id]; ok {
		return false
	}
	delete(m.seen, m.oldest[m.next])
	m.seen[id] = struct{}{}
	m.oldest[m.next] = id
	m.next = (m.next + 1) % maxSeen
	return true
}

// broadcast hands a message to gossip. sent is closed when it has been sent as
// often as it will be.
func (m *mail) broadcast(encoded []byte) (sent <-chan struct{}) {
	b := &broadcast{message: encoded, sent: make(chan struct{})}
	m.queue.QueueBroadcast(b)
	m.queue.Prune(maxOutbox)
	return b.sent
}

// broadcast is a memberlist.UniqueBroadcast.
type broadcast struct {
	message []byte
	once    sync.Once
	sent    chan struct{}
}

func (b *broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b *broadcast) Message() []byte                       { return b.message }
func (b *broadcast) Finished()                             { b.once.Do(func() { close(b.sent) }) }
func (b *broadcast) UniqueBroadcast()                      {}

// receive takes a message from memberlist, which may use b again.
func (m *mail) receive(b []byte) {
	p := m.pool
	l, ok := decodeLetter(slices.Clone(b))
	if !ok {
		p.counters.add(reasonMessage)
		return
	}
	switch l.kind {
	case mailDirect:
	case mailLatest:
		p.mu.Lock()
		newer := p.roster.newer(l.from, l.version(), time.Now())
		p.mu.Unlock()
		if !newer {
			return
		}
		m.latest.put(l.from, l.encode())
	default:
		if !m.first(l.id) {
			return
		}
		m.broadcast(l.encode())
	}
	if l.kind == mailFarewell {
		p.mu.Lock()
		p.roster.said(string(l.payload), time.Now())
		p.mu.Unlock()
		signal(p.wake)
		return
	}
	if p.config.OnMessage == nil {
		return
	}
	select {
	case m.inbox <- l:
	default:
		p.counters.add(reasonMessageQueue)
	}
}

// deliver calls OnMessage.
func (m *mail) deliver() {
	for {
		select {
		case <-m.pool.ctx.Done():
			return
		case l := <-m.inbox:
			m.pool.config.OnMessage(l.from[:idChars], l.payload)
		}
	}
}

func (p *Pool) letter(kind mailType, payload []byte) *letter {
	l := &letter{kind: kind, from: p.roster.self, payload: payload}
	if kind != mailDirect {
		rand.Read(l.id[:]) // never fails, see crypto/rand
		p.mail.first(l.id) // so that it is not taken when it comes back
	}
	return l
}

// Send sends msg, at most MaxSendBytes, to the member with the given id, as one
// packet: it may get lost or overtaken, and nobody says so.
func (p *Pool) Send(node string, msg []byte) error {
	if len(msg) > MaxSendBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrMessageTooLarge, len(msg), MaxSendBytes)
	}
	m := p.view.get(node)
	if m == nil {
		return fmt.Errorf("send to %q: %w", node, ErrUnknownMember)
	}
	return p.sendLetter(m, p.letter(mailDirect, msg))
}

func (p *Pool) sendLetter(m *Member, l *letter) error {
	list := p.list // set, or running would have said no
	if p.running() == nil && l.kind != mailFarewell {
		return fmt.Errorf("send to %s: %w", m.ID, ErrNotRunning)
	}
	to := &memberlist.Node{
		Name: gossipName(m.ID, m.Boot), Addr: m.AddrPort.Addr().AsSlice(), Port: m.AddrPort.Port(),
		PMax: memberlist.ProtocolVersionMax, // which gives the packet a checksum
	}
	return list.SendBestEffort(to, l.encode())
}

// Broadcast sends msg, at most MaxBroadcastBytes, to all members by gossip. Each
// takes it at most once; it reaches nearly all of them, usually within a second
// or two. Gossip is slow: about a hundred such messages a second in all.
func (p *Pool) Broadcast(msg []byte) error {
	if len(msg) > MaxBroadcastBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrMessageTooLarge, len(msg), MaxBroadcastBytes)
	}
	if p.running() == nil {
		return fmt.Errorf("broadcast: %w", ErrNotRunning)
	}
	p.mail.broadcast(p.letter(mailBroadcast, msg).encode())
	return nil
}

// sayGoodbye tells the others that this node leaves.
func (p *Pool) sayGoodbye() error {
	bye := p.letter(mailFarewell, []byte(p.roster.self))
	sent := p.mail.broadcast(bye.encode())
	others := slices.DeleteFunc(slices.Clone(p.view.all()), func(m *Member) bool {
		return m.Self || !m.Status.Present()
	})
	mathrand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	for _, m := range others[:min(len(others), farewellDirect)] {
		p.sendLetter(m, bye) // gossip is the second way
	}
	ctx, cancel := context.WithTimeout(p.ctx, leaveTimeout)
	defer cancel()
	if err := p.list.Leave(leaveTimeout); err != nil {
		return fmt.Errorf("membership: leave: %w", err)
	}
	if len(others) == 0 {
		return nil
	}
	select {
	case <-sent:
	case <-ctx.Done(): // several members heard it directly
	}
	return nil
}

// ForceLeave declares a failed member gone for good, for all members: it is
// listed as left and no longer tried. node is an id, or a name that only one
// failed member has. A member that is alive after all comes back by itself.
func (p *Pool) ForceLeave(node string) error {
	if p.running() == nil {
		return fmt.Errorf("force %q to leave: %w", node, ErrNotRunning)
	}
	var found []*Member
	for _, m := range p.view.all() {
		if m.ID == node {
			found = []*Member{m}
			break
		}
		if m.Name == node {
			found = append(found, m)
		}
	}
	if len(found) > 1 {
		failed := slices.DeleteFunc(slices.Clone(found), func(m *Member) bool { return m.Status != Failed })
		if len(failed) != 1 {
			ids := make([]string, len(found))
			for i, m := range found {
				ids[i] = m.ID
			}
			return fmt.Errorf("force %q to leave: several members have that name; use one of the ids %q", node, ids)
		}
		found = failed
	}
	if len(found) == 0 {
		return fmt.Errorf("force %q to leave: %w", node, ErrUnknownMember)
	}
	m := found[0]
	if m.Status.Present() {
		return fmt.Errorf("force %q to leave: it is %s; stop it instead", node, m.Status)
	}
	name := gossipName(m.ID, m.Boot)
	p.mu.Lock()
	p.roster.said(name, time.Now())
	p.mu.Unlock()
	signal(p.wake)
	p.mail.broadcast(p.letter(mailFarewell, []byte(name)).encode())
	return nil
}
