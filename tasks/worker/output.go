package worker

import (
	"bytes"
	"io"
	"slices"
	"sync"

	"github.com/scagent/scagent/tasks/wire"
)

func newBytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// output carries what an attempt writes to its master. At most wire.Window
// bytes are on their way; a writer waits for the master to take some, so that a
// slow reader slows this attempt and nothing else. Bytes on their way are kept,
// to be sent again on a new link from where the master has them.
type output struct {
	key wire.Key // constant

	// sending is held by whoever sends, so that pieces leave in order. It is
	// taken before mu, and held over a send that can wait.
	sending sync.Mutex

	// mu guards the fields below.
	mu       sync.Mutex
	changed  sync.Cond
	link     *wire.Link // nil while there is none
	kept     []piece    // written and not yet taken, in order
	next     int        // the first of kept that was not sent on link
	waits    bool       // the one before that waits for room on a link
	taken    uint64     // bytes that the master has taken
	written  uint64     // bytes written; written-taken are in kept
	byStream [3]int64   // bytes written
	seen     uint64     // what taken was when stalled was asked
	gone     bool       // nobody wants it: writes succeed and go nowhere
}

// piece is part of a stream.
type piece struct {
	stream wire.Stream
	b      []byte
}

// maxPiece is the most that travels in one frame.
const maxPiece = 32 << 10

func newOutput(k wire.Key, l *wire.Link) *output {
	o := &output{key: k, link: l}
	o.changed.L = &o.mu
	return o
}

// outputOf is what is left of the output of an attempt that has ended, from an offset on.
func outputOf(k wire.Key, from uint64, pieces []pieceRecord) *output {
	o := newOutput(k, nil)
	o.taken, o.written = from, from
	for _, p := range pieces {
		o.kept = append(o.kept, piece{p.Stream, p.B})
		o.written += uint64(len(p.B))
	}
	return o
}

// record returns what the master has not taken, and the offset at which it begins.
func (o *output) record() (from uint64, pieces []pieceRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.kept {
		pieces = append(pieces, pieceRecord{p.stream, p.b})
	}
	return o.taken, pieces
}

// sent says that all that was written is on its way on a link.
func (o *output) sent() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.link != nil && o.next >= len(o.kept) && !o.waits
}

// stalled reports whether a writer waits for room, and the master has taken nothing
// since this was asked last.
func (o *output) stalled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.seen
	o.seen = o.taken
	return o.written-o.taken >= wire.Window && o.taken == before
}

func (o *output) totals() (stdout, stderr int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byStream[wire.Stdout], o.byStream[wire.Stderr]
}

// write returns when all of p is on its way; it never fails.
func (o *output) write(s wire.Stream, p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		p = p[o.put(s, p):]
		o.send()
	}
	return n, nil
}

// put keeps as much of p as the window allows, waiting for room for some.
func (o *output) put(s wire.Stream, p []byte) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.gone && o.written-o.taken >= wire.Window {
		o.changed.Wait()
	}
	if o.gone {
		o.byStream[s] += int64(len(p))
		return len(p)
	}
	n := min(len(p), maxPiece, int(wire.Window-(o.written-o.taken)))
	o.kept = append(o.kept, piece{s, bytes.Clone(p[:n])})
	o.written += uint64(n)
	o.byStream[s] += int64(n)
	return n
}

// send sends what was not sent yet, if there is a link.
func (o *output) send() {
	o.sending.Lock()
	defer o.sending.Unlock()
	for {
		o.mu.Lock()
		o.waits = o.link != nil && o.next < len(o.kept)
		if !o.waits {
			o.mu.Unlock()
			return
		}
		l, p := o.link, o.kept[o.next]
		o.next++
		o.mu.Unlock()
		if l.SendOutput(o.key, p.stream, p.b) != nil {
			o.detach(l) // it is down; resume sends again
		}
	}
}

// grant takes note that the master has taken n more bytes.
func (o *output) grant(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.advanceLocked(o.taken + uint64(n))
	o.changed.Broadcast()
}

// advanceLocked drops what the master has up to the offset.
func (o *output) advanceLocked(to uint64) {
	to = min(to, o.written)
	for o.taken < to && len(o.kept) > 0 {
		p := &o.kept[0]
		n := min(uint64(len(p.b)), to-o.taken)
		o.taken += n
		if p.b = p.b[n:]; len(p.b) > 0 {
			return
		}
		o.kept[0] = piece{}
		o.kept = o.kept[1:]
		o.next = max(0, o.next-1)
	}
}

// detach takes note that l is down.
func (o *output) detach(l *wire.Link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.link == l {
		o.link = nil
	}
}

// from returns the offset of the first byte that is sent on a new link, whose far end
// has received so many bytes.
func (o *output) from(received uint64) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return min(max(received, o.taken), o.written)
}

// resume goes on with l, whose far end has received and taken so many bytes. The
// caller sends afterwards.
func (o *output) resume(l *wire.Link, received, taken uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.link = l
	o.advanceLocked(taken)
	at := o.taken
	for o.next = 0; o.next < len(o.kept) && at < received; o.next++ {
		p := o.kept[o.next]
		if n := received - at; n < uint64(len(p.b)) { // it has part of this one
			o.kept = slices.Insert(o.kept, o.next+1, piece{p.stream, p.b[n:]})
			o.kept[o.next].b = p.b[:n]
		}
		at += uint64(len(o.kept[o.next].b))
	}
	o.changed.Broadcast()
}

// discard lets writers write into the void from now on.
func (o *output) discard() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone, o.kept, o.next, o.taken = true, nil, 0, o.written
	o.changed.Broadcast()
}
