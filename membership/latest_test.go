package membership

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestOfTheLatestOnlyTheLatestIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(20, nil)
		const many = 500
		for i := range many {
			if err := nodes[i%2].BroadcastLatest(fmt.Appendf(nil, "%d", i/2)); err != nil {
				t.Fatalf("BroadcastLatest: %v", err)
			}
			q := &nodes[i%2].mail.latest
			q.mu.Lock()
			n := len(q.waiting)
			q.mu.Unlock()
			if n > 2 {
				t.Fatalf("%d messages wait; want one of each sender", n)
			}
		}
		// See TestBroadcastArrivesOnce on those that miss it.
		within(t, 5*time.Second, "nearly all hear the last of both", func() bool {
			missing := 0
			for _, n := range nodes[2:] {
				got, last := n.heard(), fmt.Sprint(many/2-1)
				for _, w := range []string{"aa " + last, "ab " + last} {
					if !slices.Contains(got, w) {
						missing++
					}
				}
			}
			return missing <= 2
		})
		during(t, 10*time.Second, "nobody hears an older one after a newer", func() bool {
			for _, n := range nodes {
				last := map[string]int{"aa": -1, "ab": -1}
				for _, msg := range n.heard() {
					var from string
					var i int
					fmt.Sscan(msg, &from, &i)
					if i <= last[from] {
						return false
					}
					last[from] = i
				}
			}
			return true
		})
		if err := nodes[0].BroadcastLatest(make([]byte, MaxBroadcastBytes+1)); !errors.Is(err, ErrMessageTooLarge) {
			t.Errorf("BroadcastLatest of too much = %v, want ErrMessageTooLarge", err)
		}
	})
}

func TestWhatWasSentLeastGoesFirst(t *testing.T) {
	var l latest
	for i := range 3 {
		l.put(fmt.Sprint(i), []byte{byte(i), 0, 0, 0})
	}
	sent := map[byte]int{}
	for range 6 { // two fit
		got := l.take(1, 12, 9)
		if len(got) != 2 || got[0][0] == got[1][0] {
			t.Fatalf("take = %v, want two messages", got)
		}
		sent[got[0][0]]++
		sent[got[1][0]]++
	}
	if sent[0] != 4 || sent[1] != 4 || sent[2] != 4 {
		t.Errorf("sent %v; want each 4 times", sent)
	}
	if got := l.take(1, 100, 9); got != nil || len(l.waiting) != 0 {
		t.Errorf("then take = %v; want that all were sent often enough", got)
	}
	l.put("0", []byte{1})
	l.put("0", []byte{2})
	if got := l.take(1, 100, 9); len(got) != 1 || got[0][0] != 2 {
		t.Errorf("take = %v; want the later one alone", got)
	}
}

// One forged message does not shut a member's later ones out for the rest of its life.
func TestAForgedVersionKeepsOutNoneForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := newLab(t).pool(3, nil)
		time.Sleep(10 * time.Second)
		l := &letter{kind: mailLatest, from: nodes[0].roster.self, payload: []byte("lie")}
		for i := range 8 {
			l.id[i] = math.MaxUint8
		}
		nodes[2].mail.receive(l.encode())
		for range 60 {
			if err := nodes[0].BroadcastLatest([]byte("true")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := nodes[2].heard(); !slices.Contains(got, "aa true") {
			t.Errorf("heard %q", got)
		}
	})
}
