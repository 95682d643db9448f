package wire

import (
	"fmt"
	"time"

	"github.com/scagent/scagent/tasks"
)

const (
	maxControlBytes = 64 << 20  // more than this pending, bulk and batch included: the link is closed
	maxBulkBytes    = 256 << 10 // more than this pending: SendOutput waits
)

// lock takes mu, for a frame to be appended to control; unlock releases it and
// wakes the writer. An error of lock means that mu is not held.
func (l *Link) lock() error {
	l.mu.Lock()
	if err := l.err; err != nil {
		l.mu.Unlock()
		return err
	}
	return nil
}

func (l *Link) unlock() error {
	l.framesOut++
	tooMuch := len(l.control)+len(l.bulk)-l.bulkAt+l.writing > maxControlBytes
	done := !tooMuch && l.mayInline() && l.writeInline()
	l.mu.Unlock()
	if done {
		return nil
	}
	if tooMuch {
		err := fmt.Errorf("link to node %q: %w: %d MiB are waiting", l.peer.Name, ErrSlowPeer, maxControlBytes>>20)
		l.fail(err)
		return err
	}
	l.work.Signal()
	return nil
}

// SendOffer offers a task to the other node. A spec that does not fit into a
// frame is ErrFrameTooLarge.
func (l *Link) SendOffer(o *Offer) error {
	if n := offerBytes + len(o.Spec); n > MaxFrameBytes {
		return fmt.Errorf("%w: an offer of %d bytes, at most %d", ErrFrameTooLarge, n, MaxFrameBytes)
	}
	if err := l.lock(); err != nil {
		return err
	}
	l.control = appendOffer(l.control, o)
	return l.unlock()
}

// SendGrant lets an at-most-once attempt start.
func (l *Link) SendGrant(k Key) error { return l.sendKey(typeGrant, k) }

// When acks are sent without something else to go with.
const (
	maxAcks      = 256
	maxAckWeight = 64 << 10
)

// SendAck says that a result of about so many bytes is recorded. Acks travel
// together, behind other frames; with the next ping at the latest, and sooner when
// the worker keeps many bytes for them.
func (l *Link) SendAck(k Key, weight int) error {
	if err := l.lock(); err != nil {
		return err
	}
	l.acks = append(l.acks, k)
	l.weight += weight
	due := len(l.acks) >= maxAcks || l.weight >= maxAckWeight
	l.ackDue = l.ackDue || due
	l.mu.Unlock()
	if due {
		l.work.Signal()
	}
	return nil
}

// A sender writes itself when nothing was written for inlineAfter, and what was
// written last was at most inlineBytes. When more is sent, it is better left to the
// writer, which takes all that has come meanwhile in one system call.
const (
	inlineAfter = 30 * time.Microsecond
	inlineBytes = 512
)

// mayInline says whether a sender writes what it has just added, which saves a
// change of goroutines where one frame is waited for by the other side. It needs
// mu.
func (l *Link) mayInline() bool {
	return l.waiting && !l.inline && l.raw != nil && len(l.control) <= bulkBatch && len(l.bulk) == 0 && !l.pingDue &&
		l.last <= inlineBytes && l.hub.now()-l.wrote > inlineAfter
}

// writeInline writes what is pending, as far as that goes without waiting, and
// reports whether nothing is left for the writer. It needs mu, which it gives up
// meanwhile.
func (l *Link) writeInline() (done bool) {
	l.inline = true
	batch := l.takeControl()
	l.mu.Unlock()
	n := writeNow(l.raw, batch)
	l.mu.Lock()
	l.inline = false
	l.wrote, l.last = l.hub.now(), len(batch)
	l.writes++
	l.inlined++
	l.bytesOut += uint64(n)
	switch {
	case l.err != nil && l.closing == nil: // it has failed
	case n < len(batch):
		l.control = append(batch[n:], l.control...) // before what has come meanwhile
	case cap(batch) <= maxKeepBytes && l.spare == nil:
		l.spare = batch[:0]
	}
	return !l.pending()
}

// SendStarted says that the attempt runs. It stays ahead of its output.
func (l *Link) SendStarted(k Key) error { return l.sendKey(typeStarted, k) }

// SendWindow allows n more bytes of output.
func (l *Link) SendWindow(k Key, n uint32) error {
	if err := l.lock(); err != nil {
		return err
	}
	l.control = appendWindow(l.control, k, n)
	return l.unlock()
}

// SendCancel stops the attempt.
func (l *Link) SendCancel(k Key, r tasks.StopReason) error {
	return l.sendKeyByte(typeCancel, k, byte(r))
}

// SendAccept says that the attempt was queued, or goes into a slot.
func (l *Link) SendAccept(k Key, queued bool) error {
	return l.sendKeyByte(typeAccept, k, boolByte(queued))
}

// SendReject says why the attempt cannot be here. A text longer than
// MaxTextBytes is cut.
func (l *Link) SendReject(k Key, c tasks.Code, text string) error {
	if err := l.lock(); err != nil {
		return err
	}
	l.control = appendReject(l.control, k, c, text)
	return l.unlock()
}

// SendRecall asks for attempts back. This and the other lists arrive as one
// call, however many frames they take; longer than MaxListKeys they are
// ErrFrameTooLarge.
func (l *Link) SendRecall(ks []Key) error { return l.sendKeys(typeRecall, ks) }

// SendGivenBack says which of the recalled attempts will not start.
func (l *Link) SendGivenBack(ks []Key) error { return l.sendKeys(typeGivenBack, ks) }

// SendReattach says what the master believes to be at the worker, and how much
// of its output it has.
func (l *Link) SendReattach(hs []Held) error {
	if err := checkList(len(hs)); err != nil {
		return err
	}
	if err := l.lock(); err != nil {
		return err
	}
	l.control = appendHeld(l.control, hs)
	return l.unlock()
}

// SendState answers a Reattach.
func (l *Link) SendState(ss []AttemptState) error {
	if err := checkList(len(ss)); err != nil {
		return err
	}
	if err := l.lock(); err != nil {
		return err
	}
	l.control = appendStates(l.control, ss)
	return l.unlock()
}

// SendLoad tells the other side the node's load soon, not only with the next
// ping. Calls while one is under way count as one; Config.Load is asked when it
// is written.
func (l *Link) SendLoad() {
	l.mu.Lock()
	l.pingDue = true
	l.mu.Unlock()
	l.work.Signal()
}

// Result is how an attempt ended, as it travels.
type Result struct {
	key   Key
	frame []byte
}

// NewResult encodes an outcome. One that does not fit into a frame is
// ErrFrameTooLarge: send another without its value and files.
func NewResult(k Key, o *tasks.Outcome) (Result, error) {
	frame := appendResult(make([]byte, 0, headerBytes+resultBytes+len(o.Text)+len(o.Value)), k, o)
	if n := len(frame) - headerBytes; n > MaxFrameBytes {
		return Result{}, fmt.Errorf("%w: a result of %d bytes, at most %d", ErrFrameTooLarge, n, MaxFrameBytes)
	}
	return Result{k, frame}, nil
}

// SendResult says how the attempt ended. It does not wait. If output of the
// attempt is still pending, the result goes behind it; otherwise it goes with
// the control frames.
func (l *Link) SendResult(r Result) error {
	if err := l.lock(); err != nil {
		return err
	}
	queue := &l.control
	if _, ok := l.chatty[r.key]; ok {
		delete(l.chatty, r.key)
		queue = &l.bulk
	}
	*queue = append(*queue, r.frame...)
	return l.unlock()
}

// SendOutput sends what the attempt wrote, in pieces of at most 32 KiB, in
// order. While 256 KiB of output are pending on the link, it waits, until there
// is room or the link is down. One goroutine at a time for each attempt.
func (l *Link) SendOutput(k Key, s Stream, b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), outputBytes)]
		b = b[len(piece):]
		l.mu.Lock()
		for l.err == nil && len(l.bulk)-l.bulkAt+len(piece) > maxBulkBytes {
			l.room.Wait()
		}
		if err := l.err; err != nil {
			l.mu.Unlock()
			return err
		}
		l.chatty[k] = struct{}{}
		l.bulk = appendOutput(l.bulk, k, s, piece)
		if err := l.unlock(); err != nil {
			return err
		}
	}
	return nil
}

func (l *Link) sendKey(t frameType, k Key) error {
	if err := l.lock(); err != nil {
		return err
	}
	l.control = appendKeyFrame(l.control, t, k)
	return l.unlock()
}

func (l *Link) sendKeyByte(t frameType, k Key, v byte) error {
	if err := l.lock(); err != nil {
		return err
	}
	l.control = appendKeyByte(l.control, t, k, v)
	return l.unlock()
}

func (l *Link) sendKeys(t frameType, ks []Key) error {
	if err := checkList(len(ks)); err != nil {
		return err
	}
	if err := l.lock(); err != nil {
		return err
	}
	l.control = appendKeys(l.control, t, ks)
	return l.unlock()
}

func checkList(n int) error {
	if n > MaxListKeys {
		return fmt.Errorf("%w: a list of %d attempts, at most %d", ErrFrameTooLarge, n, MaxListKeys)
	}
	return nil
}
