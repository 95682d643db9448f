package membership

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, nil)
		msg := strings.Repeat("x", MaxSendBytes)
		if err := nodes[0].Send(testID(1), []byte(msg)); err != nil {
			t.Fatalf("Send: %v", err)
		}
		within(t, time.Second, "it arrived", func() bool { return slices.Equal(nodes[1].heard(), []string{"aa " + msg}) })
		if got := nodes[2].heard(); got != nil {
			t.Errorf("another heard it: %q", got)
		}
		if err := nodes[0].Send(testID(1), make([]byte, MaxSendBytes+1)); !errors.Is(err, ErrMessageTooLarge) {
			t.Errorf("Send of too much = %v, want ErrMessageTooLarge", err)
		}
		if err := nodes[0].Send(testID(9), nil); !errors.Is(err, ErrUnknownMember) {
			t.Errorf("Send to nobody = %v, want ErrUnknownMember", err)
		}
	})
}

func TestBroadcastArrivesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(20, nil)
		var want []string
		for i := range 10 {
			msg := fmt.Sprintf("%d%s", i, strings.Repeat("y", MaxBroadcastBytes-1))
			want = append(want, "aa "+msg)
			if err := nodes[0].Broadcast([]byte(msg)); err != nil {
				t.Fatalf("Broadcast: %v", err)
			}
		}
		// Each node passes a message on to 8 others at random, so one that is not among
		// them misses it, with a probability of e^-8 (Demers et al., "Epidemic Algorithms
		// for Replicated Database Maintenance", 1987). Of these 190, more than 3 miss
		// theirs once in a million runs.
		arrived := func() bool {
			missing := 0
			for _, n := range nodes[1:] {
				got := n.heard()
				slices.Sort(got)
				if len(slices.Compact(slices.Clone(got))) < len(got) {
					return false
				}
				for _, w := range want {
					if !slices.Contains(got, w) {
						missing++
					}
				}
			}
			return missing <= 3
		}
		within(t, 5*time.Second, "nearly all have each once", arrived)
		during(t, 10*time.Second, "nothing comes twice", arrived)
		if got := nodes[0].heard(); got != nil {
			t.Errorf("the sender heard itself: %q", got)
		}
		if err := nodes[0].Broadcast(make([]byte, MaxBroadcastBytes+1)); !errors.Is(err, ErrMessageTooLarge) {
			t.Errorf("Broadcast of too much = %v, want ErrMessageTooLarge", err)
		}
	})
}

func TestFullInboxDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		n := l.prepare(0, nil) // nobody delivers yet
		msg := (&letter{kind: mailDirect, from: gossipName(testID(1), "1"), payload: []byte("x")}).encode()
		for range maxInbox + 5 {
			n.mail.receive(msg)
		}
		if got := n.Stats().Refused["message_queue_full"]; got != 5 {
			t.Errorf("dropped %d, want 5", got)
		}
	})
}

func TestBusyIsGossipedAboutOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(3, nil)
		updates := func() int {
			nodes[1].mu.Lock()
			defer nodes[1].mu.Unlock()
			count := 0
			for _, e := range nodes[1].events {
				if e.Type == MemberUpdate && e.Member.ID == testID(0) {
					count++
				}
			}
			return count
		}
		before := updates()
		for i := range 10000 {
			nodes[0].SetBusy(i % 7) // never the same a second later
			time.Sleep(time.Millisecond)
		}
		nodes[0].SetBusy(3)
		if nodes[0].Self().Busy != 3 {
			t.Error("the node itself does not see it at once")
		}
		within(t, 2*time.Second, "the last word arrives", func() bool {
			m, _ := nodes[1].Member(testID(0))
			return m.Busy == 3
		})
		if n := updates() - before; n < 5 || n > 12 {
			t.Errorf("%d updates in 10s of change, want about one a second", n)
		}
	})
}

// What a fan-out of short tasks makes of all nodes is over before it could be told.
func TestShortBusyIsNotGossiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, nil)
		time.Sleep(5 * time.Second)
		before := len(nodes[1].seen())
		for range 20 {
			nodes[0].SetBusy(1)
			time.Sleep(100 * time.Millisecond)
			nodes[0].SetBusy(0)
			time.Sleep(900 * time.Millisecond)
		}
		if news := nodes[1].seen()[before:]; len(news) > 0 {
			t.Errorf("others were told of tasks of 100ms: %q", news)
		}
		nodes[0].SetBusy(1)
		within(t, 2*time.Second, "a task that lasts is seen", func() bool { m, _ := nodes[1].Member(testID(0)); return m.Busy == 1 })
		nodes[0].SetBusy(0)
		nodes[0].SetAvailable(false)
		within(t, 2*time.Second, "what is more than that is not kept back", func() bool {
			m, _ := nodes[1].Member(testID(0))
			return m.Busy == 0 && !m.Available
		})
	})
}

func TestAvailability(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		nodes := l.pool(2, nil)
		time.Sleep(5 * time.Second)
		nodes[0].SetAvailable(false)
		nodes[0].SetAvailable(false)
		time.Sleep(3 * time.Second)
		nodes[0].SetAvailable(true)
		time.Sleep(3 * time.Second)
		if err := nodes[0].SetSlots(9); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		want := []string{"workerAvailable n000", "masterAvailable n000", "workerUnavailable n000", "workerAvailable n000", "update n000"}
		if got := nodes[1].seen(); !slices.Equal(got, want) {
			t.Errorf("events = %v, want %v", got, want)
		}
	})
}

// A consumer that is slow sees fewer events, never a wrong order, and in the end
// the truth.
func TestSlowConsumerOfEvents(t *testing.T) {
	v := newView()
	block, got := make(chan struct{}), make(chan Event, 100)
	a := newAnnouncer(v, func(e Event) { got <- e; <-block })
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() { defer close(ended); a.run(done) }()
	set := func(id string, s Status, busy int) {
		v.set(&Member{ID: id, Boot: "1", Name: id, Roles: []Role{RoleMaster}, Status: s, Busy: busy})
		a.news(id)
	}
	set("a", Alive, 0)
	if e := <-got; e.Type != MasterAvailable {
		t.Fatalf("first event = %v", e)
	}
	for i := range 10000 { // while the consumer is busy
		set("a", Alive, i)
		set("b", Alive, i)
		set("c", Alive, i)
		set("c", Failed, i)
	}
	a.mu.Lock()
	if n := len(a.waiting); n != 3 {
		t.Errorf("%d members wait, want 3", n)
	}
	a.mu.Unlock()
	close(block)
	var seen []string
	for range 3 {
		e := <-got
		seen = append(seen, fmt.Sprintf("%s %s %d %s", e.Type, e.Member.ID, e.Member.Busy, e.Member.Status))
	}
	want := []string{"update a 9999 alive", "masterAvailable b 9999 alive", "update c 9999 failed"}
	if !slices.Equal(seen, want) {
		t.Errorf("events = %v, want %v", seen, want)
	}
	close(done)
	<-ended
}

func TestGossipLogIsHarmless(t *testing.T) {
	var out bytes.Buffer
	l := newGossipLog(log.New(&out, "", 0))
	l.Printf("[WARN] memberlist: Got ping for unexpected node '%s' from=%s", "a\n[ERR] forged: \x1b[2J\u202e\"", "x")
	l.Printf("[ERR] memberlist: failed to receive: EOF")
	l.Printf("no level, %s", strings.Repeat("long ", 1000))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		`[WARN] membership: gossip: text="Got ping for unexpected node 'a\u000a[ERR] forged: \u001b[2J\u202e\"' from=x"`,
		`[WARN] membership: gossip: text="failed to receive: EOF"`,
	}
	if len(lines) != 3 || !slices.Equal(lines[:2], want) || !strings.HasPrefix(lines[2], `[INFO] membership: gossip: text="no level, long`) || len(lines[2]) > 600 {
		t.Errorf("log:\n%s\nwant:\n%s", out.String(), strings.Join(want, "\n"))
	}
	out.Reset()
	for range 10000 {
		l.Printf("[DEBUG] memberlist: flood")
	}
	if n := strings.Count(out.String(), "\n"); n > 2*gossipLogBurst {
		t.Errorf("%d lines of a flood of 10000", n)
	}
}
