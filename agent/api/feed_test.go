package api

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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
	for range FeedEvents {
		f.Append(Event{Event: "more"})
	}
	for name, after := range map[string]uint64{"forgotten": before, "of a later clock": f.Last() + 1000, "of an agent before": 1} {
		t.Run(name, func(t *testing.T) {
			s := f.Subscribe(after)
			got, missed := names(t, s, 2)
			want(t, got, EventMissed, "more")
			if again, _ := names(t, f.Subscribe(missed), 1); again[0] != "more" {
				t.Errorf("who resumes after the missed event reads %s, want more", again[0])
			}
		})
	}
	got, _ := names(t, f.Subscribe(before+1), 1)
	want(t, got, "more")
	got, _ = names(t, f.Subscribe(0), 1)
	want(t, got, "more") // whoever asks for what there is has missed nothing
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

func TestSlowSubscriberIsDropped(t *testing.T) {
	f := NewFeed()
	s := f.Subscribe(f.Last())
	for range FeedEvents {
		f.Append(Event{Event: "x"})
	}
	names(t, s, 1) // just in time
	f.Append(Event{Event: "x"})
	names(t, s, FeedEvents)
	for range FeedEvents + 1 {
		f.Append(Event{Event: "x"})
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrSlow) {
		t.Errorf("Next = %v, want ErrSlow", err)
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
