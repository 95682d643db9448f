package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/scagent/scagent/agent/bus"
)

// How much a Feed remembers, and how much waits for each of its subscribers: so many
// events, and so many bytes of what they carry, of which one event may be more.
const (
	FeedEvents = 1000
	FeedBytes  = 4 << 20
)

// ErrFeedClosed ends every subscription when the agent ends.
var ErrFeedClosed = errors.New("the agent is shutting down")

// Feed hands events on to subscribers, and remembers the last ones for those who
// come back. It may be used by any number of goroutines.
//
// Events are numbered. The first number is the time in milliseconds at which the
// Feed was made, so that the numbers of an agent's next start are larger, and a
// client that resumes notices that it missed something.
type Feed struct {
	first uint64 // number of the first event of all; constant

	// mu guards the fields below, and the queues of the subscriptions. Nothing blocks
	// while it is held.
	mu         sync.Mutex
	remembered queue
	next       uint64 // number of the next event
	subs       map[*Subscription]struct{}
	closed     bool
}

// NewFeed returns a Feed without events.
func NewFeed() *Feed {
	n := uint64(time.Now().UnixMilli())
	return &Feed{first: n, next: n, subs: map[*Subscription]struct{}{}}
}

// Append adds an event, and sets its number and, unless it has one, its time. It
// never blocks, and neither calls anything back. The event is not changed any more.
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
	f.next++
	for f.remembered.full(&e) {
		f.remembered.pop()
	}
	f.remembered.push(&e)
	for s := range f.subs {
		s.addLocked(&e)
	}
}

// Wants reports whether somebody is there now to whom an event with that name goes.
func (f *Feed) Wants(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		if s.wants(name) {
			return true
		}
	}
	return false
}

// Last returns the number of the newest event.
func (f *Feed) Last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next - 1
}

// Subscribe returns the events after the one with the given number: 0 for all
// that are remembered, Last for new ones. With patterns they are those whose name
// matches one, and every EventMissed; without, all but EventReceived and EventComplete. When some of them are forgotten, or the number
// is not one of this Feed's, the first is an EventMissed.
func (f *Feed) Subscribe(after uint64, patterns ...bus.Pattern) *Subscription {
	s := &Subscription{f: f, patterns: slices.Clone(patterns), wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := f.next - uint64(f.remembered.n)
	if after+1 < oldest || after >= f.next {
		if after != 0 {
			s.lost = lost{any: true, unknown: true, upTo: oldest - 1}
		}
		if s.lost.any && len(patterns) == 0 && after+1 >= f.first && after < oldest {
			s.lost.unknown, s.lost.n = false, oldest-1-after
		}
		after = oldest - 1
	}
	for i := int(after + 1 - oldest); i < f.remembered.n; i++ {
		s.addLocked(f.remembered.at(i))
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

// Subscription is the events that wait for one reader. When there are too many, the
// oldest are lost, and the reader is told how many. It is used by one goroutine.
type Subscription struct {
	f        *Feed
	patterns []bus.Pattern // constant
	wake     chan struct{} // has a token when there may be something new

	// Feed.mu guards the fields below.
	waiting queue
	lost    lost // since the reader was last told, all of them older than what waits
}

// lost is what a reader did not get.
type lost struct {
	any     bool
	unknown bool   // nobody knows how many; else
	n       uint64 // of them
	upTo    uint64 // number of the last one
}

// addLocked puts an event into the queue, unless the reader does not want it.
func (s *Subscription) addLocked(e *Event) {
	if !s.wants(e.Event) {
		return
	}
	for s.waiting.full(e) {
		old := s.waiting.pop()
		s.lost.any, s.lost.upTo = true, old.Seq
		if old.Event == EventMissed { // which itself is about several
			s.lost.unknown = s.lost.unknown || old.Missed == 0
			s.lost.n += old.Missed
		} else {
			s.lost.n++
		}
	}
	s.waiting.push(e)
	if s.waiting.n == 1 { // else the reader has not been through yet
		s.wakeLocked()
	}
}

func (s *Subscription) wants(name string) bool {
	if name == EventMissed {
		return true
	}
	if len(s.patterns) == 0 {
		return name != EventReceived && name != EventComplete
	}
	for _, p := range s.patterns {
		if p.Match(name) {
			return true
		}
	}
	return false
}

func (s *Subscription) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Next waits for the next event: an EventMissed where some were lost. Errors:
// ErrFeedClosed after the last one, or ctx's cause.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		if e, ok, err := s.take(); ok || err != nil {
			return e, err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// take returns the next event if there is one.
func (s *Subscription) take() (e Event, ok bool, err error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	switch {
	case s.lost.any:
		e = Event{Seq: s.lost.upTo, Time: Time{time.Now()}, Event: EventMissed}
		if !s.lost.unknown {
			e.Missed = s.lost.n
		}
		s.lost = lost{}
		return e, true, nil
	case s.waiting.n > 0:
		return *s.waiting.pop(), true, nil
	case s.f.closed:
		return e, false, ErrFeedClosed
	}
	return e, false, nil
}

// Close ends the subscription, which is not used any more then.
func (s *Subscription) Close() {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	delete(s.f.subs, s)
	s.waiting = queue{}
}
