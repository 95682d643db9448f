package fabric

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Policy is what happens to packets on the way from one port to another. The zero
// Policy lets them pass. Those that are given in percent strike each packet by
// itself.
type Policy struct {
	Cut              bool    // none passes
	DropUDP          bool    // and so no gossip of packets
	DropTCP          bool    //
	DropMulticast    bool    // UDP to a group or to all
	LossPercent      float64 // are dropped
	DuplicatePercent float64 // arrive twice
	CorruptPercent   float64 // have one bit flipped behind the Ethernet header

	// Delay is how long packets are on their way, more or less, at random, by up to
	// Jitter. They stay in order while the policy stays.
	Delay, Jitter time.Duration
	// ReorderPercent are overtaken by what is sent in the ReorderDelay after them.
	ReorderPercent float64
}

// ReorderDelay is how much longer those packets are on their way that others overtake.
const ReorderDelay = 5 * time.Millisecond

// Stats counts what happened to the packets from one port to another.
type Stats struct {
	Passed     uint64 // delivered, or on their way; one that is duplicated counts once
	Dropped    uint64 // by Cut and the policy's Drops
	Lost       uint64 // by chance
	Duplicated uint64
	Corrupted  uint64
	Reordered  uint64
	Overflowed uint64 // dropped as too many were on their way
}

// line is the way from one port to another.
type line struct {
	policy atomic.Pointer[Policy] // nil: everything passes

	mu    sync.Mutex // guards the fields below
	rng   *rand.Rand
	last  time.Time // until when the packets before are on their way
	stats Stats

	passed atomic.Uint64 // without a policy
}

// newLine returns a line with luck of its own.
func newLine(seed uint64, from, to string) *line {
	h := fnv.New64a()
	h.Write([]byte(from + "\x00" + to))
	return &line{rng: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// delivery is when a packet arrives. A packet that arrives at once has no time.
type delivery struct {
	frame []byte
	at    time.Time
}

// pass decides about a packet: it returns where it arrives, in none, one or two
// copies, the first of which may be the frame itself.
func (l *line) pass(p *Policy, frame []byte, now time.Time) []delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Each packet takes as many random numbers, whatever the policy says, so that a
	// change of it does not change the luck of those after it.
	loss, corrupt, dup, reorder, jitter, bit := l.rng.Float64()*100, l.rng.Float64()*100, l.rng.Float64()*100, l.rng.Float64()*100, l.rng.Float64(), l.rng.Uint64()
	switch {
	case p.Cut || p.drops(frame):
		l.stats.Dropped++
		return nil
	case loss < p.LossPercent:
		l.stats.Lost++
		return nil
	}
	l.stats.Passed++
	if corrupt < p.CorruptPercent && len(frame) > headerBytes {
		l.stats.Corrupted++
		frame = append([]byte(nil), frame...)
		n := bit % uint64(8*(len(frame)-headerBytes))
		frame[headerBytes+n/8] ^= 1 << (n % 8)
	}
	d := delivery{frame: frame}
	if p.Delay > 0 || p.Jitter > 0 {
		d.at = now.Add(max(p.Delay+time.Duration((2*jitter-1)*float64(p.Jitter)), 0))
	}
	if d.at.Before(l.last) && l.last.After(now) {
		d.at = l.last // the policy may have changed to a shorter delay
	}
	if reorder < p.ReorderPercent {
		l.stats.Reordered++
		if d.at.IsZero() {
			d.at = now
		}
		d.at = d.at.Add(ReorderDelay)
	} else {
		l.last = d.at
	}
	if dup < p.DuplicatePercent {
		l.stats.Duplicated++
		return []delivery{d, d}
	}
	return []delivery{d}
}

// idle reports whether everything has arrived.
func (l *line) idle(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.last.After(now)
}

// headerBytes is how long the header of an Ethernet frame is.
const headerBytes = 14

const (
	protocolTCP = 6
	protocolUDP = 17
)

// drops reports whether the policy takes none of such packets.
func (p *Policy) drops(frame []byte) bool {
	if len(frame) < headerBytes+20 {
		return false
	}
	var protocol byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800: // IPv4
		protocol = frame[headerBytes+9]
	case 0x86dd: // IPv6, without extension headers
		protocol = frame[headerBytes+6]
	}
	switch protocol {
	case protocolUDP:
		return p.DropUDP || p.DropMulticast && toMany(frame)
	case protocolTCP:
		return p.DropTCP
	}
	return false
}

// toMany reports whether a frame is for a group, or for all.
func toMany(frame []byte) bool { return frame[0]&1 != 0 }

func (l *line) counted() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Passed += l.passed.Load()
	return s
}
