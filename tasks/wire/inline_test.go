package wire

import (
	"net"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
)

// orderly checks that offers come in order, and takes its time now and then.
type orderly struct {
	FromMaster
	t    *testing.T
	next uint32
	done chan struct{}
}

const inlineOffers = 5000

func (w *orderly) Offer(_ *Link, o *Offer) {
	if o.Index != w.next {
		w.t.Errorf("offer %d came, want %d", o.Index, w.next)
	}
	if w.next++; w.next%1000 == 1 {
		time.Sleep(20 * time.Millisecond) // the socket's buffers are full meanwhile
	}
	if w.next == inlineOffers {
		close(w.done)
	}
}

// Frames that a sender writes itself, whole, in part or not at all, keep their
// order among those that the writer writes.
func TestFramesWrittenBySendersKeepTheirOrder(t *testing.T) {
	w := &orderly{t: t, done: make(chan struct{})}
	l, _ := tcpPair(t, &countMaster{}, w)
	if err := l.Conn().(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	o := Offer{Slots: 1, Spec: AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{string(make([]byte, 200))}})}
	for i := range uint32(inlineOffers) {
		o.Index, o.Key = i, testKey(byte(i))
		if err := l.SendOffer(&o); err != nil {
			t.Fatal(err)
		}
		if i%7 != 0 {
			for start := time.Now(); time.Since(start) < 2*inlineAfter; { // as if nobody had anything to say
			}
		}
	}
	select {
	case <-w.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%d of %d offers arrived", w.next, inlineOffers)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inlined == 0 || l.inlined == l.writes {
		t.Errorf("%d of %d writes were made by senders, want some", l.inlined, l.writes)
	}
}
