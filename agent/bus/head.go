package bus

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"
)

// A head tells others how far a node's log of events to all goes, and has its newest
// events in it if they are small: they need not be fetched then. It travels as a
// packet to each node, and by gossip.
//
//	size     field
//	1        version, now 1
//	1+n      boot of the sender, its length first
//	uvarint  last: seq of its newest event
//	uvarint  lamport
//	uvarint  quiet: ms from the event before those that follow to now, at most 10 minutes
//	1        how many events follow
//	...      the newest events, oldest first
type head struct {
	boot          string
	last, lamport uint64
	quiet         time.Duration
	items         []item
	ages          []time.Duration // of items
}

const headVersion = 1

const (
	// headInterval is the shortest time between two heads, and headPackets how many nodes
	// get one directly then: all do, one after the other. Gossip alone takes a second to
	// 64 nodes when it has nothing else to carry, and a minute while a large pool starts.
	headInterval = 50 * time.Millisecond
	headPackets  = 64
)

// headAgain is when a head is sent again after the last event, for those that gossip
// missed: each misses one in about e^8.
var headAgain = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}

func (h *head) append(b []byte, now time.Time) []byte {
	b = append(b, headVersion, byte(len(h.boot)))
	b = append(b, h.boot...)
	b = binary.AppendUvarint(b, h.last)
	b = binary.AppendUvarint(b, h.lamport)
	b = binary.AppendUvarint(b, uint64(max(0, h.quiet.Milliseconds()))) // one below 0 would be for ever
	b = append(b, byte(len(h.items)))
	for i := range h.items {
		b = h.items[i].append(b, now)
	}
	return b
}

// decodeHead reads a head. What it returns shares b.
func decodeHead(b []byte) (h head, err error) {
	r := &reader{b: b}
	if r.byte() != headVersion {
		r.fail()
	}
	h.boot, h.last, h.lamport, h.quiet = r.text(), r.uvarint(), r.uvarint(), r.age()
	n := uint64(r.byte())
	if n > h.last || h.last == 0 {
		r.fail()
	}
	for i := range n {
		it, age := r.item()
		if r.bad || it.seq != h.last-n+1+i {
			return head{}, errForm
		}
		h.items, h.ages = append(h.items, it), append(h.ages, age)
	}
	return h, r.end()
}

// announce spreads the head of the log when it has grown, and some times again.
func (b *Bus) announce() {
	timer := time.NewTimer(logAge)
	defer timer.Stop()
	var round round
	var last, repeatAt time.Time
	repeats := 0 // since the last event
	for {
		fresh, repeat := false, false
		select {
		case <-b.ctx.Done():
			return
		case <-b.news:
			fresh = true
		case <-b.repeat:
			repeats = 0
			if soon := time.Now().Add(headAgain[0]); repeatAt.IsZero() || repeatAt.After(soon) {
				repeatAt = soon // and not later, however many come
			}
		case <-timer.C:
		}
		if wait := headInterval - time.Since(last); wait > 0 && !b.sleep(b.ctx, wait) {
			return
		}
		select {
		case <-b.news: // in the head that follows
			fresh = true
		default:
		}
		last = time.Now()
		switch {
		case fresh:
			repeats, repeatAt = 0, last.Add(headAgain[0])
			round.begin(b.cfg.Peers())
		case !repeatAt.IsZero() && !last.Before(repeatAt):
			repeat, repeatAt = true, time.Time{}
			if repeats++; repeats < len(headAgain) {
				repeatAt = last.Add(headAgain[repeats])
			}
		}
		b.sendHead(fresh || repeat, &round)
		switch {
		case round.left > 0:
			timer.Reset(headInterval)
		case !repeatAt.IsZero():
			timer.Reset(time.Until(repeatAt))
		default:
			timer.Reset(logAge) // to forget what is old
		}
	}
}

// round is the nodes in the order in which they get the head directly.
type round struct {
	peers []Peer
	at    int // who is next
	left  int // how many have not got the newest
}

// begin has all nodes get a new head: first those that had not got the one before.
func (r *round) begin(all []Peer) {
	waits := make(map[string]int, r.left) // place among those that wait
	for i := range r.left {
		waits[r.peers[(r.at+i)%len(r.peers)].ID] = i
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	place := func(p Peer) int {
		if i, ok := waits[p.ID]; ok {
			return i
		}
		return len(waits)
	}
	slices.SortStableFunc(all, func(p, q Peer) int { return place(p) - place(q) })
	r.peers, r.at, r.left = all, 0, len(all)
}

// next returns who gets it now.
func (r *round) next() (peers []Peer) {
	for ; r.left > 0 && len(peers) < headPackets; r.left-- {
		peers = append(peers, r.peers[r.at])
		r.at = (r.at + 1) % len(r.peers)
	}
	return peers
}

func (b *Bus) sendHead(gossip bool, r *round) {
	b.mu.Lock()
	now := time.Now() // not before: events may have been added while the lock was waited for
	b.log.trim(now)
	h := head{boot: b.cfg.Self.Boot, last: b.log.last, lamport: b.lamport}
	h.items, h.quiet = b.log.tail(now, InlineBytes)
	kept := len(b.log.items)
	b.mu.Unlock()
	if kept == 0 {
		return
	}
	msg := h.append(nil, now)
	if gossip {
		if err := b.cfg.Gossip(msg); err != nil {
			b.cfg.Logger.Printf("[DEBUG] bus: events not announced: err=%q", err)
		}
	}
	for _, p := range r.next() {
		b.cfg.Tell(p.ID, msg) // gossip is the second way
	}
}

// Hear takes a head that another node sent. It does not block. It keeps nothing of msg.
func (b *Bus) Hear(from string, msg []byte) {
	h, err := decodeHead(slices.Clone(msg))
	if err != nil {
		b.mu.Lock()
		b.stats.Malformed++
		b.mu.Unlock()
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.cfg.Peer(from)
	if !ok || p.Boot != h.boot {
		return // gossip has not told of it yet; the head is sent again
	}
	s := b.streamLocked(p)
	b.hearLocked(h.lamport)
	s.head = max(s.head, h.last)
	if s.next == 0 && h.quiet > b.lacks(p) {
		s.next = h.last + 1 - uint64(len(h.items)) // what came before is from before this node knew the sender
	}
	for i := range h.items {
		switch it := &h.items[i]; {
		case s.next == 0 || it.seq < s.next:
		case it.seq == s.next && !s.proved && h.ages[i] > b.lacks(p):
			s.next++ // the same
		case it.seq == s.next:
			b.deliverLocked(s, it)
		case len(s.early) < maxEarly:
			if s.early == nil {
				s.early = make(map[uint64]item)
			}
			s.early[it.seq] = *it
		}
	}
	b.advanceLocked(s)
	b.catchUpLocked(s, false)
}
