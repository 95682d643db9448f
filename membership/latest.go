package membership

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// latest has, of each member, the one message of BroadcastLatest that is being passed
// on. memberlist's queue does that too, for broadcasts with a name, but numbers
// them anew when the only one that waits is replaced; two may then have one number,
// and one of them is lost.
type latest struct {
	version atomic.Uint64 // of this node's last message

	mu      sync.Mutex
	waiting map[string]*passing // by name in gossip; at most one for each member
}

type passing struct {
	message []byte
	sent    int // how often
}

// put takes the message of a member that replaces the one before it.
func (l *latest) put(from string, message []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		l.waiting = make(map[string]*passing)
	}
	l.waiting[from] = &passing{message: message}
}

// take returns messages of at most limit bytes in all, each with its overhead: those
// first that have been sent least. In a pool of that many nodes each is sent
// retransmitMult times the number of decimal digits of nodes.
func (l *latest) take(overhead, limit, nodes int) (messages [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	most := retransmitMult * int(math.Ceil(math.Log10(float64(nodes+1))))
	order := make([]string, 0, len(l.waiting))
	for from := range l.waiting {
		order = append(order, from) // those that were sent equally often, in the random order of maps
	}
	slices.SortStableFunc(order, func(a, b string) int { return l.waiting[a].sent - l.waiting[b].sent })
	for _, from := range order {
		p := l.waiting[from]
		if limit -= overhead + len(p.message); limit < 0 {
			break
		}
		messages = append(messages, p.message)
		if p.sent++; p.sent >= most {
			delete(l.waiting, from)
		}
	}
	return messages
}

// version is that of a message of BroadcastLatest.
func (l *letter) version() uint64 { return binary.BigEndian.Uint64(l.id[:]) }

// BroadcastLatest is Broadcast for messages of which only the latest matters: it
// replaces the one before it, wherever that has not been passed on yet. However
// many there are, gossip has one of each member to carry. Who hears a later one first
// does not hear the earlier one.
func (p *Pool) BroadcastLatest(msg []byte) error {
	if len(msg) > MaxBroadcastBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrMessageTooLarge, len(msg), MaxBroadcastBytes)
	}
	if p.running() == nil {
		return fmt.Errorf("broadcast: %w", ErrNotRunning)
	}
	l := &letter{kind: mailLatest, from: p.roster.self, payload: msg}
	binary.BigEndian.PutUint64(l.id[:], p.mail.latest.version.Add(1))
	p.mail.latest.put(l.from, l.encode())
	return nil
}
