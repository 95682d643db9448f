package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/bus"
)

// names reads n events.
func names(t *testing.T, s *Subscription, n int) (names []string, last uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range n {
		e, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", names, err)
		}
		names, last = append(names, e.Event), e.Seq
	}
	return names, last
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("events are %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("events are %v, want %v", got, want)
		}
	}
}

func TestFeedResumes(t *testing.T) {
	f := NewFeed()
	f.Append(Event{Event: "a"})
	s := f.Subscribe(f.Last())
	f.Append(Event{Event: "b"})
	f.Append(Event{Event: "c"})
	got, last := names(t, s, 2)
	want(t, got, "b", "c")
	if last != f.Last() {
		t.Errorf("last event has number %d, want %d", last, f.Last())
	}
	s.Close()
	f.Append(Event{Event: "d"})
	got, _ = names(t, f.Subscribe(last), 1)
	want(t, got, "d")
	got, _ = names(t, f.Subscribe(0), 4)
	want(t, got, "a", "b", "c", "d")
}

func TestFeedTellsWhatWasMissed(t *testing.T) {
	f := NewFeed()
	before := f.Last()
	f.Append(Event{Event: "first"})
	for range FeedEvents + 6 {
		f.Append(Event{Event: "more"})
	}
	for name, c := range map[string]struct {
		after    uint64
		patterns []bus.Pattern
		missed   uint64
	}{
		"all forgotten":             {before, nil, 7},
		"some forgotten":            {before + 4, nil, 3},
		"the last one forgotten":    {before + 6, nil, 1},
		"of which some matched":     {before, []bus.Pattern{"more"}, 0},
		"of a later clock":          {f.Last() + 1000, nil, 0},
		"of an agent before":        {1, nil, 0},
		"of no agent that ever was": {1<<64 - 1, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := f.Subscribe(c.after, c.patterns...)
			e, err := s.Next(t.Context())
			if err != nil || e.Event != EventMissed || e.Missed != c.missed || e.Time.IsZero() {
				t.Errorf("the first event is %+v, %v; want missed, %d", e, err, c.missed)
			}
			next, err := s.Next(t.Context())
			if err != nil || next.Event != "more" || next.Seq != before+8 {
				t.Errorf("the second event is %+v, %v; want number %d", next, err, before+8)
			}
			if again, err := f.Subscribe(e.Seq).Next(t.Context()); err != nil || again.Seq != next.Seq {
				t.Errorf("who resumes after the missed event reads %+v, %v; want the same", again, err)
			}
		})
	}
	for name, after := range map[string]uint64{"whoever asks for what there is": 0, "whoever is just in time": before + 7} {
		if e, err := f.Subscribe(after).Next(t.Context()); err != nil || e.Event != "more" || e.Seq != before+8 {
			t.Errorf("%s reads %+v, %v; want number %d", name, e, err, before+8)
		}
	}
}

func TestNumbersGrowOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := NewFeed()
		for range 100 {
			old.Append(Event{Event: "x"})
		}
		time.Sleep(time.Second)
		f := NewFeed()
		f.Append(Event{Event: "new"})
		got, _ := names(t, f.Subscribe(old.Last()), 2)
		want(t, got, EventMissed, "new")
	})
}

// TestFilteredSubscription gets what it asked for, and is not overrun by the rest.
func TestFilteredSubscription(t *testing.T) {
	f := NewFeed()
	f.Append(Event{Event: "chat.before"})
	f.Append(Event{Event: "task"})
	late := f.Subscribe(f.Last(), "chat.*", "build.**")
	early := f.Subscribe(0, "chat.*")
	for range 3 * FeedEvents {
		f.Append(Event{Event: "task"})
	}
	for _, e := range []string{"chat.a", "chat", "chat.a.b", "build.x.y", EventMissed} {
		f.Append(Event{Event: e})
	}
	f.Close()
	for name, c := range map[string]struct {
		s    *Subscription
		want []string
	}{
		"two patterns": {late, []string{"chat.a", "build.x.y", EventMissed}},
		"one pattern":  {early, []string{"chat.before", "chat.a", EventMissed}},
	} {
		t.Run(name, func(t *testing.T) {
			got, last := names(t, c.s, len(c.want))
			want(t, got, c.want...)
			if last != f.Last() {
				t.Errorf("the last one has number %d, want %d: numbers are those without a filter", last, f.Last())
			}
			if e, err := c.s.Next(t.Context()); err != ErrFeedClosed {
				t.Errorf("then comes %+v, %v; want the end", e, err)
			}
		})
	}
}

func TestSlowSubscriberIsToldHowManyItLost(t *testing.T) {
	f := NewFeed()
	s := f.Subscribe(f.Last(), "x")
	other := f.Subscribe(f.Last(), "y")
	begin := f.Last()
	add := func(n int) {
		for range n {
			f.Append(Event{Event: "x"})
		}
	}
	next := func(event string, seq, missed uint64) {
		t.Helper()
		e, err := s.Next(t.Context())
		if err != nil || e.Event != event || e.Seq != begin+seq || e.Missed != missed {
			t.Fatalf("Next = %s %d, missed %d, %v; want %s %d, missed %d", e.Event, e.Seq-begin, e.Missed, err, event, seq, missed)
		}
	}
	f.Append(Event{Event: "y"}) // 1
	add(FeedEvents)             // 2 to 1001
	next("x", 2, 0)             // just in time
	add(1)
	next("x", 3, 0)
	add(3) // two too many
	next(EventMissed, 5, 2)
	next("x", 6, 0)
	add(FeedEvents)
	add(FeedEvents)
	next(EventMissed, f.Last()-begin-FeedEvents, 2*FeedEvents-1)
	for i := range uint64(FeedEvents) {
		next("x", f.Last()-begin-FeedEvents+1+i, 0)
	}
	if e, err := other.Next(t.Context()); err != nil || e.Event != "y" {
		t.Errorf("another subscriber reads %+v, %v; want y", e, err)
	}
}

// TestLargeEventsAreBounded: of large ones fewer wait, and fewer are remembered.
func TestLargeEventsAreBounded(t *testing.T) {
	f := NewFeed()
	s := f.Subscribe(f.Last())
	large := func(n int) Event {
		d, err := bus.Pack(json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`))
		if err != nil {
			t.Fatal(err)
		}
		return Event{Event: "large", Data: &d}
	}
	for range 10 {
		f.Append(large(FeedBytes / 4))
	}
	for name, s := range map[string]*Subscription{"who did not read": s, "who resumes": f.Subscribe(f.Last() - 10)} {
		if e, err := s.Next(t.Context()); err != nil || e.Event != EventMissed || e.Missed != 6 {
			t.Errorf("%s reads %+v, %v; want to have missed 6", name, e, err)
		}
		if got, last := names(t, s, 4); last != f.Last() {
			t.Errorf("%s reads %v up to %d, want %d", name, got, last, f.Last())
		}
	}
	f.Append(Event{Event: "small"})
	f.Append(large(FeedBytes + 1)) // is taken alone
	f.Append(Event{Event: "update", Member: &Member{Data: make(json.RawMessage, FeedBytes/2), Facts: make(json.RawMessage, FeedBytes/2)}})
	f.Append(large(2)) // what a member says of itself counts as well
	if e, err := s.Next(t.Context()); err != nil || e.Missed != 3 {
		t.Errorf("Next = %+v, %v; want to have missed three", e, err)
	}
	got, _ := names(t, s, 1)
	want(t, got, "large")
}

// TestAppendIsUnharmedByWhoDoesNotRead offers 10,000 events a second to a
// subscriber that reads nothing: no time passes in Append, what waits is bounded, and
// the reader is told in the end how much it lost.
func TestAppendIsUnharmedByWhoDoesNotRead(t *testing.T) {
	const events, bytes = 30_000, 4 << 10
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed()
		s := f.Subscribe(f.Last(), "flood")
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		begin := time.Now()
		for range events {
			d, err := bus.FromJSON([]byte(`"` + strings.Repeat("x", bytes-2) + `"`))
			if err != nil {
				t.Fatal(err)
			}
			f.Append(Event{Event: "flood", Data: &d})
			time.Sleep(100 * time.Microsecond)
		}
		if took := time.Since(begin); took != events*100*time.Microsecond {
			t.Errorf("%d events took %s", events, took)
		}
		if after := heap(); after > before+3*FeedBytes { // they carried 120 MB
			t.Errorf("%d MiB are held on to, want at most %d", (after-before)>>20, 3*FeedBytes>>20)
		}
		e, err := s.Next(t.Context())
		if err != nil || e.Event != EventMissed || e.Missed != events-FeedEvents {
			t.Errorf("Next = %+v, %v; want to have missed %d", e, err, events-FeedEvents)
		}
		if _, last := names(t, s, FeedEvents); last != f.Last() {
			t.Errorf("then it reads up to %d, want %d", last, f.Last())
		}
	})
}

func TestSubscriptionTakesNoRoomAtRest(t *testing.T) {
	f := NewFeed()
	for range FeedEvents {
		f.Append(Event{Event: "x"})
	}
	s := f.Subscribe(f.Last())
	f.Append(Event{Event: "x"})
	names(t, s, 1)
	if n := len(s.waiting.ring); n > 8 {
		t.Errorf("a subscriber that keeps up has room for %d events", n)
	}
	for _, e := range s.waiting.ring {
		if e != nil {
			t.Errorf("event %d is held on to after it was read", e.Seq)
		}
	}
	f.Append(Event{Event: "x"})
	s.Close()
	f.Append(Event{Event: "x"})
	if s.waiting.n != 0 || len(f.subs) != 0 {
		t.Errorf("%d events wait for a subscription that is closed", s.waiting.n)
	}
}

func TestAppendAllocatesTheEventAlone(t *testing.T) {
	f := NewFeed()
	subs := make([]*Subscription, 8)
	for i := range subs {
		subs[i] = f.Subscribe(f.Last(), "x.*")
	}
	for range 3 * FeedEvents {
		f.Append(Event{Event: "x.y"})
	}
	if n := testing.AllocsPerRun(1000, func() { f.Append(Event{Event: "x.y"}) }); n > 1 {
		t.Errorf("Append allocates %v times, want once", n)
	}
}

func TestClosedFeedEndsItsSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed()
		s := f.Subscribe(f.Last())
		f.Append(Event{Event: "last"})
		var wg sync.WaitGroup
		wg.Go(func() {
			if e, err := s.Next(t.Context()); err != nil || e.Event != "last" {
				t.Errorf("Next = %+v, %v; want the last event", e, err)
			}
			if _, err := s.Next(t.Context()); !errors.Is(err, ErrFeedClosed) {
				t.Errorf("Next = %v, want ErrFeedClosed", err)
			}
		})
		synctest.Wait()
		f.Close()
		f.Close()
		f.Append(Event{Event: "too late"})
		wg.Wait()
	})
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed()
		s := f.Subscribe(f.Last())
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errIdle)
		defer cancel()
		if _, err := s.Next(ctx); err != errIdle {
			t.Errorf("Next = %v, want the cause of its context", err)
		}
		time.AfterFunc(time.Hour, func() { f.Append(Event{Event: "x"}) })
		if e, err := s.Next(t.Context()); err != nil || e.Event != "x" || !e.Time.Equal(time.Now()) {
			t.Errorf("Next = %+v, %v; want x, now", e, err)
		}
	})
}

func TestAppendFromManyIsInOrder(t *testing.T) {
	f := NewFeed()
	s := f.Subscribe(f.Last())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range FeedEvents / 4 {
				f.Append(Event{Event: "x"})
			}
		})
	}
	next := f.first
	for range FeedEvents {
		e, err := s.Next(t.Context())
		if err != nil || e.Seq != next {
			t.Fatalf("event %+v, %v; want number %d", e, err, next)
		}
		next++
	}
	wg.Wait()
}

// BenchmarkAppend is what an event costs who makes it. Nobody reads, so that in each
// subscriber's queue the oldest event makes room.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{0, 1, 64} {
		for _, pattern := range []bus.Pattern{"chat.*", "task"} {
			b.Run(fmt.Sprintf("subscribers=%d/pattern=%s", n, pattern), func(b *testing.B) {
				f := NewFeed()
				for range n {
					f.Subscribe(f.Last(), pattern)
				}
				b.ReportAllocs()
				for b.Loop() {
					f.Append(Event{Event: "task"})
				}
			})
		}
	}
}

func TestLostWordOfLossCountsWhatItWasAbout(t *testing.T) {
	for _, c := range []struct {
		name         string
		missed, want uint64
	}{{"of so many", 7, 7 + 3}, {"of nobody knows how many", 0, 0}} {
		f := NewFeed()
		s := f.Subscribe(f.Last(), "a")
		f.Append(Event{Event: EventMissed, Missed: c.missed})
		for range FeedEvents + 3 {
			f.Append(Event{Event: "a"})
		}
		if e, err := s.Next(t.Context()); err != nil || e.Event != EventMissed || e.Missed != c.want {
			t.Errorf("word of loss %s, and 3 events, were lost: Next = %s of %d, %v; want word of %d", c.name, e.Event, e.Missed, err, c.want)
		}
	}
}

func TestEventsThatAreForThoseWhoAsk(t *testing.T) {
	f := NewFeed()
	if f.Wants(EventTask) {
		t.Error("with no subscriber somebody wants task; want nobody")
	}
	all := f.Subscribe(f.Last())
	defer all.Close()
	if !f.Wants(EventTask) || f.Wants(EventReceived) || f.Wants(EventComplete) {
		t.Error("who asks for all wants taskReceived or workerTaskComplete, or not task; want only the latter")
	}
	named := f.Subscribe(f.Last(), EventComplete)
	if !f.Wants(EventComplete) || f.Wants(EventReceived) {
		t.Error("who asks for workerTaskComplete wants it not, or taskReceived too")
	}
	f.Append(Event{Event: EventComplete})
	f.Append(Event{Event: EventTask})
	if e, err := all.Next(t.Context()); err != nil || e.Event != EventTask {
		t.Errorf("who asks for all gets %s, %v; want task alone", e.Event, err)
	}
	if e, err := named.Next(t.Context()); err != nil || e.Event != EventComplete {
		t.Errorf("who asks for workerTaskComplete gets %s, %v", e.Event, err)
	}
	named.Close()
	if f.Wants(EventComplete) {
		t.Error("somebody wants workerTaskComplete after its only subscriber has closed")
	}
}
