package api

import (
	"context"
	"errors"
	"sync"
	"time"
)

// FeedEvents is how many events a Feed remembers.
const FeedEvents = 1000

var (
	// ErrSlow ends the subscription of who fell more than FeedEvents behind.
	ErrSlow = errors.New("events came faster than they were read; subscribe again after the last one read")
	// ErrFeedClosed ends every subscription when the agent ends.
	ErrFeedClosed = errors.New("the agent is shutting down")
)

// Feed hands events on to subscribers, and remembers the last ones for those who
// come back. It may be used by any number of goroutines.
//
// Events are numbered. The first number is the time in milliseconds at which the
// Feed was made, so that the numbers of an agent's next start are larger, and a
// client that resumes notices that it missed something.
type Feed struct {
	mu     sync.Mutex
	first  uint64             // number of the first event of all; constant
	ring   [FeedEvents]*Event // event n is at n % FeedEvents; not changed once there
	next   uint64             // number of the next event
	subs   map[*Subscription]struct{}
	closed bool
}

// NewFeed returns a Feed without events.
func NewFeed() *Feed {
	n := uint64(time.Now().UnixMilli())
	return &Feed{first: n, next: n, subs: map[*Subscription]struct{}{}}
}

// Append adds an event, and sets its number and, unless it has one, its time. It
// never blocks, and neither calls anything back.
func (f *Feed) Append(e Event) {
	if e.Time.IsZero() {
		e.Time = Time{time.Now()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	e.Seq = f.next
	f.ring[e.Seq%FeedEvents] = &e
	f.next++
	for s := range f.subs {
		s.wakeLocked()
	}
}

// Last returns the number of the newest event.
func (f *Feed) Last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next - 1
}

func (f *Feed) oldestLocked() uint64 {
	if f.next-f.first > FeedEvents {
		return f.next - FeedEvents
	}
	return f.first
}

// Subscribe returns the events after the one with the given number: 0 for all
// that are remembered, Last for new ones. When some of them are forgotten, or the
// number is not one of this Feed's, the first is an EventMissed.
func (f *Feed) Subscribe(after uint64) *Subscription {
	s := &Subscription{f: f, wake: make(chan struct{}, 1), next: after + 1}
	f.mu.Lock()
	defer f.mu.Unlock()
	if oldest := f.oldestLocked(); s.next < oldest || s.next > f.next {
		s.missed = after != 0
		s.next = oldest
	}
	f.subs[s] = struct{}{}
	return s
}

// Close ends all subscriptions; later events are dropped. It may be called twice.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for s := range f.subs {
		s.wakeLocked()
	}
}

// Subscription is how far one reader is. It is used by one goroutine.
type Subscription struct {
	f      *Feed
	wake   chan struct{} // has a token when there may be something new
	next   uint64        // number of the event that is read next
	missed bool          // the reader has not been told yet that it missed some
}

func (s *Subscription) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Next waits for the next event. Errors: ErrSlow, ErrFeedClosed, or ctx's cause.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		if e, err := s.take(); e != nil || err != nil {
			if err != nil {
				return Event{}, err
			}
			return *e, nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// take returns the next event, nil if there is none yet.
func (s *Subscription) take() (*Event, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	switch {
	case s.missed:
		s.missed = false
		return &Event{Seq: s.next - 1, Time: Time{time.Now()}, Event: EventMissed}, nil
	case s.next < s.f.oldestLocked():
		return nil, ErrSlow
	case s.next < s.f.next:
		e := s.f.ring[s.next%FeedEvents]
		s.next++
		return e, nil
	case s.f.closed:
		return nil, ErrFeedClosed
	}
	return nil, nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	delete(s.f.subs, s)
}
