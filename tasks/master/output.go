package master

import "github.com/scagent/scagent/tasks/wire"

// What is kept of each stream of a task: its first and its last bytes.
const (
	keptHeadBytes = 64 << 10
	keptTailBytes = 960 << 10
)

// copied is the kept copy of one stream.
type copied struct {
	head []byte
	tail []byte // a ring once it is keptTailBytes long
	at   int    // where the ring's oldest byte is
	cut  int64  // bytes that fell between head and tail
	torn bool   // the head ends early: bytes after it are lost
}

// skip takes note of n bytes that are lost.
func (c *copied) skip(n uint64) {
	if len(c.tail) == 0 {
		c.torn = true
	}
	c.cut += int64(n)
}

func (c *copied) add(b []byte) {
	if n := min(len(b), keptHeadBytes-len(c.head)); n > 0 && !c.torn {
		c.head = append(c.head, b[:n]...)
		b = b[n:]
	}
	if n := len(b) - keptTailBytes; n > 0 {
		c.cut += int64(n)
		b = b[n:]
	}
	if n := min(len(b), keptTailBytes-len(c.tail)); n > 0 {
		c.tail = append(c.tail, b[:n]...)
		b = b[n:]
	}
	for len(b) > 0 {
		n := copy(c.tail[c.at:], b)
		c.at = (c.at + n) % len(c.tail)
		c.cut += int64(n)
		b = b[n:]
	}
}

// bytes returns head and tail in one, and how much is missing between them.
func (c *copied) bytes() ([]byte, int64) {
	if len(c.tail) == 0 {
		return c.head, c.cut
	}
	b := make([]byte, 0, len(c.head)+len(c.tail))
	b = append(b, c.head...)
	b = append(b, c.tail[c.at:]...)
	return append(b, c.tail[:c.at]...), c.cut
}

// record is what the current attempt of a task wrote. Offsets count the bytes of
// both streams together, in the order in which they arrived.
type record struct {
	n        uint32    // of the attempt
	copies   [3]copied // by wire.Stream
	received uint64    // bytes that arrived
	taken    uint64    // of them, those that every follower has taken
	told     uint64    // of them, those that the worker was told of
	pieces   []piece   // from taken on
}

// piece is part of a stream, from an offset on.
type piece struct {
	at     uint64
	stream wire.Stream
	b      []byte
	cut    int64 // of a kept copy: bytes missing inside b
}

// skipLocked takes note that the output of t goes on at an offset: this node was
// restarted, and has lost what came before. Of which stream it was is not known.
func (m *Master) skipLocked(t *task, from uint64) {
	if t.rec == nil {
		t.rec = &record{n: t.n}
	}
	r := t.rec
	if from <= r.received {
		return
	}
	r.copies[wire.Stdout].skip(from - r.received)
	r.received, r.taken, r.told = from, from, from
}

// written returns what the newest attempt of t wrote; nil: nothing. Until that attempt
// is on disk and sent, the record is still that of the one before, whose late result may
// count: nobody may take it for the new one's.
func (t *task) written() *record {
	if t.rec == nil || t.rec.n != t.n && !t.state.Final() {
		return nil
	}
	return t.rec
}

// renewLocked begins the record of the newest attempt of t. That of the one before is
// left to the followers that have not been given all of it.
func (t *task) renewLocked() {
	for f := range t.run.followers {
		c := f.cursors[t]
		if c == nil || f.mute {
			continue
		}
		if c.enter(); c.n == t.rec.n && c.off < t.rec.received {
			c.past = t.rec
		}
	}
	t.rec = &record{n: t.n}
}

// add takes bytes that arrived, and keeps them for followers if there are any.
func (r *record) add(s wire.Stream, b []byte, followed bool) {
	if s != wire.Stdout && s != wire.Stderr {
		return
	}
	r.copies[s].add(b)
	if followed {
		r.pieces = append(r.pieces, piece{at: r.received, stream: s, b: append([]byte(nil), b...)})
	}
	r.received += uint64(len(b))
}

// after returns the first piece from an offset on, whole or its rest; b is nil
// when there is none.
func (r *record) after(off uint64) piece {
	for _, p := range r.pieces {
		if end := p.at + uint64(len(p.b)); off < end {
			if off > p.at {
				p.b, p.at = p.b[off-p.at:], off
			}
			return p
		}
	}
	return piece{}
}

// takenLocked drops what every follower of t has taken, and lets the worker
// write that much more.
func (m *Master) takenLocked(t *task) {
	r := t.rec
	if r == nil {
		return
	}
	upTo := r.received
	for f := range t.run.followers {
		switch c := f.cursors[t]; {
		case c == nil || f.mute:
		case c.n != t.n:
			upTo = 0 // it is still in an earlier attempt
		default:
			upTo = min(upTo, c.off)
		}
	}
	r.taken = max(r.taken, upTo)
	i := 0
	for i < len(r.pieces) && r.pieces[i].at+uint64(len(r.pieces[i].b)) <= r.taken {
		r.pieces[i] = piece{}
		i++
	}
	r.pieces = r.pieces[i:]
	enough := uint64(wire.Window / 4)
	if t.durable() {
		// What it has not been told of the worker keeps, for a master that was restarted.
		enough = wire.Window * 3 / 4
	}
	if n := r.taken - r.told; n >= enough && t.at != nil && t.at.link != nil && t.step > recording {
		r.told = r.taken
		t.at.link.SendWindow(t.key(), uint32(n))
	}
}
