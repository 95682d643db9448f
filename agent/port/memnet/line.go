package memnet

import (
	"sync"
	"time"
)

// line is what goes one way, in order. What is put in comes out through deliver
// after a delay, and not while the line is held.
type line[T any] struct {
	mu      *sync.Mutex // the owner's; held at every call, and guards the fields below
	deliver func(T)     // constant; called with mu held
	held    bool        // set by hold
	items   []item[T]   // on their way, the next to arrive first
	armed   bool        // a timer will call pump
}

type item[T any] struct {
	value T
	due   time.Time
}

// put sends v. The owner bounds how much is on its way.
func (l *line[T]) put(v T, delay time.Duration) {
	if l.direct(delay) {
		l.deliver(v)
		return
	}
	l.items = append(l.items, item[T]{v, time.Now().Add(delay)})
	l.arm()
}

// direct reports whether put would deliver at once.
func (l *line[T]) direct(delay time.Duration) bool {
	return delay == 0 && !l.held && len(l.items) == 0
}

// hold stops the line, or lets it go on.
func (l *line[T]) hold(held bool) {
	l.held = held
	l.pump()
}

// pump delivers what is due.
func (l *line[T]) pump() {
	now := time.Now()
	for !l.held && len(l.items) > 0 && !l.items[0].due.After(now) {
		v := l.items[0].value
		l.items[0] = item[T]{} // for the garbage collector
		l.items = l.items[1:]
		l.deliver(v)
	}
	l.arm()
}

// arm sees to it that the first item is delivered when it is due. An item that
// is due earlier than the one before it, because the delay was shortened,
// arrives with that one.
func (l *line[T]) arm() {
	if l.armed || l.held || len(l.items) == 0 {
		return
	}
	l.armed = true
	time.AfterFunc(time.Until(l.items[0].due), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.armed = false
		l.pump()
	})
}

// clear loses all that is on its way.
func (l *line[T]) clear() { l.items = nil }
