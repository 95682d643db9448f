package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/scagent/scagent/tasks"
)

const (
	minReadBytes = 4 << 10   // the read buffer of an idle link
	maxReadBytes = 128 << 10 // and of a busy one; a longer frame makes it grow further
	shrinkAfter  = 16        // reads in a row that needed little of it
)

// read hands the frames that arrive to the handlers, until the connection
// breaks or carries something wrong. The buffer grows with what has arrived,
// never with what a header announces.
func (l *Link) read() error {
	var (
		buf   = make([]byte, minReadBytes)
		w     int // buf[:w] is received and not handled
		small int // reads in a row that needed little of buf
	)
	for {
		n, err := l.conn.Read(buf[w:])
		if n > 0 {
			l.heard.Store(int64(l.hub.now()))
			l.bytesIn.Add(uint64(n))
		}
		w += n
		r, herr := l.handleAll(buf[:w])
		if herr != nil {
			return herr
		}
		if err == io.EOF && r < w {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		size := len(buf)
		switch {
		case w == size && (r == 0 || size < maxReadBytes):
			size *= 2
		case w > size/8:
			small = 0
		case size > minReadBytes:
			if small++; small == shrinkAfter {
				size, small = size/2, 0
			}
		}
		left := buf[r:w]
		if size != len(buf) {
			buf = make([]byte, size)
		}
		w = copy(buf, left)
	}
}

// handleAll handles the whole frames in b and returns how long they are.
func (l *Link) handleAll(b []byte) (int, error) {
	r, frames := 0, uint64(0)
	defer func() { l.framesIn.Add(frames) }()
	for len(b)-r >= headerBytes {
		n := int64(binary.BigEndian.Uint32(b[r:]))
		if n > MaxFrameBytes {
			return r, fmt.Errorf("%w: %d bytes announced, at most %d", ErrFrameTooLarge, n, MaxFrameBytes)
		}
		body, next := r+headerBytes, r+headerBytes+int(n)
		if next > len(b) {
			break
		}
		frames++
		if err := l.handle(frameType(b[r+4]), b[body:next:next]); err != nil {
			return r, err
		}
		r = next
	}
	return r, nil
}

// handle checks that the other side may send a frame, decodes it and calls its
// handler. Frames for a role that this
// node does not have are ignored, and so are those of unknown types.
func (l *Link) handle(t frameType, b []byte) error {
	if err := l.permit(t); err != nil {
		return err
	}
	ok, known := true, true
	if l.listType != 0 && t != l.listType {
		ok = false // a list goes in one piece
	} else if t >= typeAccept {
		ok, known = l.handleFromWorker(t, b)
	} else if t >= typeOffer {
		ok, known = l.handleFromMaster(t, b)
	} else if t == typePing {
		ok = l.handlePing(b)
	} else if t == typeClose {
		return decodeClose(b)
	} else {
		ok, known = t != typeHello, false
	}
	if !known {
		l.skipped.Add(1)
	}
	if !ok {
		return fmt.Errorf("%w: type %d, %d bytes", ErrMalformed, t, len(b))
	}
	return nil
}

func (l *Link) handleFromMaster(t frameType, b []byte) (ok, known bool) {
	to := l.hub.cfg.Worker
	if to == nil {
		return true, true
	}
	d := decoder{b: b}
	switch t {
	case typeOffer:
		if ok = decodeOffer(b, &l.offer); ok {
			to.Offer(l, &l.offer)
		}
	case typeGrant:
		if k := d.key(); d.done() {
			ok = true
			to.Grant(l, k)
		}
	case typeWindow:
		if k, n := d.key(), d.u32(); d.done() {
			ok = true
			to.Window(l, k, n)
		}
	case typeAck:
		more, good := l.addKeys(t, b)
		if ok = good; ok && !more {
			to.Ack(l, l.keys)
			l.keys = reuse(l.keys)
		}
	case typeCancel:
		if k, r := d.key(), d.u8(); d.done() {
			ok = true
			to.Cancel(l, k, tasks.StopReason(r))
		}
	case typeRecall:
		more, good := l.addKeys(t, b)
		if ok = good; ok && !more {
			to.Recall(l, l.keys)
			l.keys = reuse(l.keys)
		}
	case typeReattach:
		more, good := l.addHeld(b)
		if ok = good; ok && !more {
			to.Reattach(l, l.held)
			l.held = reuse(l.held)
		}
	default:
		return true, false
	}
	return ok, true
}

func (l *Link) handleFromWorker(t frameType, b []byte) (ok, known bool) {
	to := l.hub.cfg.Master
	if to == nil {
		return true, true
	}
	d := decoder{b: b}
	switch t {
	case typeResult:
		var k Key
		if ok = decodeResult(b, &k, &l.outcome); ok {
			to.Result(l, k, &l.outcome)
		}
	case typeAccept:
		if k, queued := d.key(), d.flag(); d.done() {
			ok = true
			to.Accept(l, k, queued)
		}
	case typeStarted:
		if k := d.key(); d.done() {
			ok = true
			to.Started(l, k)
		}
	case typeOutput:
		if k, s := d.key(), Stream(d.u8()); !d.bad && (s == Stdout || s == Stderr) {
			ok = true
			to.Output(l, k, s, d.b)
		}
	case typeReject:
		if k, c := d.key(), tasks.Code(d.u8()); !d.bad && len(d.b) <= MaxTextBytes {
			ok = true
			to.Reject(l, k, c, d.rest())
		}
	case typeGivenBack:
		more, good := l.addKeys(t, b)
		if ok = good; ok && !more {
			to.GivenBack(l, l.keys)
			l.keys = reuse(l.keys)
		}
	case typeState:
		more, good := l.addStates(b)
		if ok = good; ok && !more {
			to.State(l, l.states)
			l.states = reuse(l.states)
		}
	default:
		return true, false
	}
	return ok, true
}

func keyOf(b []byte) Key {
	return Key{Task: tasks.ID(b[:16]), N: binary.BigEndian.Uint32(b[16:])}
}

// addList adds the part of a list that b is, in items of a size, to those that
// came before.
func addList[T any](l *Link, t frameType, b []byte, size int, to *[]T, one func([]byte) T) (more, ok bool) {
	d := decoder{b: b}
	more = d.flag()
	if d.bad || len(d.b)%size != 0 || len(*to)+len(d.b)/size > MaxListKeys {
		return false, false
	}
	for len(d.b) > 0 {
		*to = append(*to, one(d.take(size)))
	}
	l.listType = 0
	if more {
		l.listType = t
	}
	return more, !d.bad
}

func (l *Link) addKeys(t frameType, b []byte) (more, ok bool) {
	return addList(l, t, b, keyBytes, &l.keys, keyOf)
}

func (l *Link) addStates(b []byte) (more, ok bool) {
	return addList(l, typeState, b, stateBytes, &l.states, func(b []byte) AttemptState {
		return AttemptState{Key: keyOf(b), State: AttemptPhase(b[keyBytes]), From: binary.BigEndian.Uint64(b[keyBytes+1:])}
	})
}

func (l *Link) addHeld(b []byte) (more, ok bool) {
	return addList(l, typeReattach, b, heldBytes, &l.held, func(b []byte) Held {
		return Held{Key: keyOf(b), Received: binary.BigEndian.Uint64(b[keyBytes:]), Taken: binary.BigEndian.Uint64(b[keyBytes+8:])}
	})
}

// reuse empties a list, and gives up one that was uncommonly long.
func reuse[T any](l []T) []T {
	if cap(l) > 4096 {
		return nil
	}
	return l[:0]
}

// handlePing takes the other side's stamp, for the next ping to echo, and the
// round trip that its echo of ours shows.
func (l *Link) handlePing(b []byte) bool {
	var p ping
	if !decodePing(b, &p) {
		return false
	}
	now := l.hub.now()
	if p.echo != 0 && p.echo <= uint64(now) && p.hold <= uint64(now)-p.echo {
		rtt := max(now-time.Duration(p.echo+p.hold), 1)
		if old := l.RTT(); old != 0 {
			rtt = old + (rtt-old)/8 // as TCP does, RFC 6298
		}
		l.rtt.Store(int64(rtt))
	}
	l.mu.Lock()
	l.echo, l.echoAt = p.stamp, now
	l.echoed = l.echoed || p.echo != 0
	l.pingDue = l.pingDue || p.want
	l.mu.Unlock()
	l.work.Signal()
	l.hub.loaded(l, p.load)
	return true
}
