package master

import (
	"bytes"
	"iter"
)

// queue holds tasks that wait, larger priority first, then older first. Tasks
// that have ended meanwhile stay in it until they come to the front.
type queue struct {
	items []*task // items[head:] wait
	head  int
	live  int // of them, not ended
}

func (q *queue) len() int { return q.live }

// push adds t behind those of its priority.
func (q *queue) push(t *task) {
	q.live++
	t.waits = true
	i := len(q.items)
	for i > q.head && q.items[i-1].priority() < t.priority() {
		i--
	}
	q.insert(i, t)
}

// pushFront adds t, which had its turn already, before those of its priority.
func (q *queue) pushFront(t *task) {
	q.live++
	t.waits = true
	i := q.head
	for i < len(q.items) && (q.items[i].priority() > t.priority() || q.items[i].priority() == t.priority() && older(q.items[i], t)) {
		i++
	}
	if i == q.head && q.head > 0 {
		q.head--
		q.items[q.head] = t
		return
	}
	q.insert(i, t)
}

func older(a, b *task) bool { return bytes.Compare(a.id[:], b.id[:]) < 0 }

func (q *queue) insert(i int, t *task) {
	q.items = append(q.items, nil)
	copy(q.items[i+1:], q.items[i:])
	q.items[i] = t
}

// first returns the task whose turn it is, or nil.
func (q *queue) first() *task {
	for q.head < len(q.items) {
		if t := q.items[q.head]; t.waits {
			return t
		}
		q.items[q.head] = nil
		q.head++
	}
	q.items, q.head = q.items[:0], 0
	return nil
}

// pop takes out what first returned.
func (q *queue) pop() {
	q.items[q.head].waits = false
	q.items[q.head] = nil
	q.head++
	q.live--
	if q.head > 1024 && q.head > len(q.items)/2 { // give the room back
		q.items = append([]*task(nil), q.items[q.head:]...)
		q.head = 0
	}
}

// take takes out t, which waits in it.
func (q *queue) take(t *task) {
	if q.first() == t {
		q.pop()
	} else {
		q.drop(t)
	}
}

// drop takes t out, wherever it stands.
func (q *queue) drop(t *task) {
	if t.waits {
		t.waits = false
		q.live--
	}
}

// each ranges over the tasks that wait; those ranged over may be dropped.
func (q *queue) each() iter.Seq[*task] {
	return func(yield func(*task) bool) {
		for _, t := range q.items[q.head:] {
			if t != nil && t.waits && !yield(t) {
				return
			}
		}
	}
}
