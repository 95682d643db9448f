package wire

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLinkToItselfCarriesBothDirections(t *testing.T) {
	inBed(t, func(t *testing.T, b *bed) {
		h := b.add("n1", nil)
		l, err := h.Connect(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		again, err := h.Connect(t.Context(), "n1")
		if err != nil || again != l {
			t.Errorf("Connect again = %p, %v, want the same link %p", again, err, l)
		}
		k := testKey(1)
		if err := errors.Join(l.SendGrant(k), l.SendAck(k, 1<<20)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // of the bubble: longer than the lease
		synctest.Wait()
		if l.Err() != nil {
			t.Errorf("the link is down: %v", l.Err())
		}
		l.Close(errors.New("enough"))
		synctest.Wait()
		if h.Get("n1") != nil {
			t.Error("the link is still there")
		}
		if _, err = h.Connect(t.Context(), "n1"); err != nil {
			t.Errorf("Connect after the end = %v, want a new link", err)
		}
	})
}
