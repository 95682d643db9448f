package bus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// stream is what this node has of one sender's events.
type stream struct {
	letters window // events to this node alone

	peer  Peer
	next  uint64          // seq that is delivered next; 0: it is not known yet
	head  uint64          // the newest seq that was heard of
	early map[uint64]item // that came before those before them; at most maxEarly

	// proved: the sender itself has been asked, and next is not above what it has. Gossip
	// can be forged, and a first head that was would keep all events out.
	proved bool

	pulling bool
	hurry   bool          // somebody waits for what is fetched
	wake    chan struct{} // cap 1: there is more to fetch, or more of a hurry
	moved   chan struct{} // closed, and replaced, when next has grown; nil: nobody waits
}

const (
	maxEarly = 64
	maxPulls = 16 // at once
	// slack is how much earlier than this node the sender may have noticed that both
	// are in one pool.
	slack = 10 * time.Second

	// knownWithin is how long a letter waits for its sender to be known, knownAgain how
	// often is looked.
	knownWithin = 5 * time.Second
	knownAgain  = 50 * time.Millisecond

	pullBytes   = 1 << 20 // of one answer, unless one event is larger
	pullTimeout = 30 * time.Second
	pullAgain   = 100 * time.Millisecond // after an error, and doubled up to pullSlow
	pullSlow    = 5 * time.Second
	pullSpread  = time.Millisecond // times the number of nodes
	proveSpread = 5 * time.Second  // in addition, when nothing but proof is wanted
)

// lacks is the age of the oldest event of a node that is meant for this one too: who
// was not in the pool when an event was sent does not get it.
func (b *Bus) lacks(p Peer) time.Duration { return min(p.Known, time.Since(b.began)) + slack }

// streamLocked returns the stream of a node, anew after its restart.
func (b *Bus) streamLocked(p Peer) *stream {
	s := b.streams[p.ID]
	if s == nil || s.peer.Boot != p.Boot {
		if s == nil && len(b.streams) >= maxStreams {
			b.forgetLocked()
		}
		s = &stream{peer: p, wake: make(chan struct{}, 1)}
		b.streams[p.ID] = s
	}
	return s
}

// maxStreams is when the streams of nodes that are gone are forgotten.
const maxStreams = 1024

func (b *Bus) forgetLocked() {
	for id := range b.streams {
		if _, ok := b.cfg.Peer(id); !ok {
			delete(b.streams, id)
		}
	}
}

// advanceLocked delivers what came early and is in order now.
func (b *Bus) advanceLocked(s *stream) {
	for seq := range s.early {
		if seq < s.next {
			delete(s.early, seq)
		}
	}
	for {
		it, ok := s.early[s.next]
		if !ok {
			break
		}
		delete(s.early, s.next)
		b.deliverLocked(s, &it)
	}
	if s.moved != nil { // or may have
		close(s.moved)
		s.moved = nil
	}
}

func (b *Bus) deliverLocked(s *stream, it *item) {
	s.next = it.seq + 1
	b.hearLocked(it.lamport)
	b.stats.Received++
	b.cfg.Deliver(Event{Name: it.name, From: s.peer.ID, Lamport: it.lamport, Data: it.data})
}

// behind reports whether there are events to fetch.
func (s *stream) behind() bool { return s.next <= s.head }

// asks reports whether the sender is to be asked.
func (s *stream) asks() bool { return s.behind() || !s.proved }

// catchUpLocked has the events fetched that were heard of and did not come.
func (b *Bus) catchUpLocked(s *stream, hurry bool) {
	if !s.asks() || b.ctx.Err() != nil {
		return
	}
	s.hurry = s.hurry || hurry
	if s.pulling {
		signal(s.wake)
		return
	}
	s.pulling = true
	b.wg.Go(func() { b.pullAll(s) })
}

// pullAll fetches events until there are no more, or the sender has gone.
func (b *Bus) pullAll(s *stream) {
	ctx, cancel := b.cfg.While(b.ctx, s.peer.ID)
	defer cancel()
	for again := pullAgain; ; {
		b.awaitTurn(ctx, s)
		err := b.pullOne(ctx, s)
		b.mu.Lock()
		b.stats.Pulls++
		if err != nil {
			b.stats.PullErrors++
		}
		if !s.asks() || ctx.Err() != nil || b.streams[s.peer.ID] != s {
			s.pulling = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		if err == nil {
			again = pullAgain
			continue
		}
		b.cfg.Logger.Printf("[DEBUG] bus: events not fetched: node=%s err=%q", s.peer.ID, err)
		b.sleep(ctx, jitter(again))
		again = min(2*again, pullSlow)
	}
}

// awaitTurn waits before the sender is asked, unless somebody is in a hurry: all nodes
// notice at once that they lack something, and who asks later gets more at a time.
func (b *Bus) awaitTurn(ctx context.Context, s *stream) {
	spread := pullSpread * time.Duration(2+b.cfg.Count())
	turn := rand.N(spread)
	began := time.Now()
	for {
		b.mu.Lock()
		hurry, idle := s.hurry, !s.behind()
		s.hurry = false
		b.mu.Unlock()
		wait := turn
		if idle {
			wait += turn * time.Duration(proveSpread/spread) // nothing but proof is wanted
		}
		if wait -= time.Since(began); hurry || wait <= 0 {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
			return
		case <-s.wake:
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
}

// pullOne asks the sender for events, and delivers them.
func (b *Bus) pullOne(ctx context.Context, s *stream) error {
	select {
	case b.pulls <- struct{}{}:
		defer func() { <-b.pulls }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	b.mu.Lock()
	from, head := s.next, s.head
	b.mu.Unlock()
	url := "http://" + s.peer.ID + Path + "log?boot=" + s.peer.Boot + "&from=" + strconv.FormatUint(from, 10)
	if from == 0 {
		p, ok := b.cfg.Peer(s.peer.ID)
		if !ok {
			return ErrGone
		}
		url += "&age=" + strconv.FormatInt(b.lacks(p).Milliseconds(), 10)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := b.cfg.Client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 2*MaxDataBytes))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200q", res.Status, body)
	}
	return b.take(s, from, head, body)
}

// take delivers an answer to pullOne, which began when the stream stood at from and head:
// gossip may have been faster since.
//
//	size     field
//	uvarint  first: seq of the first event that follows; if none does, of the next
//	uvarint  last: seq of the sender's newest event
//	...      events
func (b *Bus) take(s *stream, from, head uint64, body []byte) error {
	r := &reader{b: body}
	first, last := r.uvarint(), r.uvarint()
	var items []item
	for len(r.b) > 0 {
		it, _ := r.item()
		if !r.bad && it.seq != first+uint64(len(items)) {
			r.fail()
		}
		if 2*len(it.data.bytes) < len(body) { // who keeps it would keep all that came
			it.data.bytes = bytes.Clone(it.data.bytes)
		}
		items = append(items, it)
	}
	n := uint64(len(items))
	if r.bad || first == 0 || first+n > last+1 || n > 0 && first < from || n == 0 && first != last+1 {
		b.mu.Lock()
		b.stats.Malformed++
		b.mu.Unlock()
		return errForm
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streams[s.peer.ID] != s {
		return nil // the sender has started anew
	}
	if from > last+1 {
		s.next, s.head, s.early = 0, last, nil // what it began with was a lie
		return nil
	}
	s.proved = true
	if s.next == 0 {
		s.next = first
	}
	if n == 0 && s.head == head {
		s.head = last // whoever spoke of more was wrong
		for seq := range s.early {
			if seq > last {
				delete(s.early, seq)
			}
		}
	}
	s.head = max(s.head, last)
	if first > s.next {
		missed := first - s.next
		s.next = first
		b.stats.Missed += missed
		b.cfg.Deliver(Event{From: s.peer.ID, Missed: missed})
	}
	for i := range items {
		if items[i].seq == s.next {
			b.deliverLocked(s, &items[i])
		}
	}
	b.advanceLocked(s)
	return nil
}

// after waits until this node knows a sender, and has its events to all up to a seq or at
// least all that the sender has, and reports whether it does.
func (b *Bus) after(ctx context.Context, node, boot string, seq uint64) bool {
	s := b.known(ctx, node, boot)
	if s == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.head = max(s.head, seq)
	for first := true; s.next <= seq && (first || s.behind()); first = false {
		if s.moved == nil {
			s.moved = make(chan struct{})
		}
		moved := s.moved
		b.catchUpLocked(s, true)
		b.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
		}
		b.mu.Lock()
		if ctx.Err() != nil || b.streams[node] != s {
			return false
		}
	}
	return true
}

// known returns the stream of a sender, and waits for gossip to tell of it: who has just
// joined, or started anew, may be faster. It returns nil if it does not.
func (b *Bus) known(ctx context.Context, node, boot string) *stream {
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	for {
		b.mu.Lock()
		if p, ok := b.cfg.Peer(node); ok && p.Boot == boot {
			defer b.mu.Unlock()
			return b.streamLocked(p)
		}
		b.mu.Unlock()
		if !b.sleep(ctx, knownAgain) {
			return nil
		}
	}
}
