package api

// queue is events in their order, at most FeedEvents of them that carry at most
// FeedBytes, or one that carries more. It takes no more room than it once needed.
// Who adds to it asks full first, and takes out what then is too much.
type queue struct {
	ring  []*Event // a power of two of them; event i is at head+i, around the end
	head  int
	n     int
	bytes int // that the events carry
}

// full reports whether there is no room for e. There is in an empty queue.
func (q *queue) full(e *Event) bool {
	return q.n == FeedEvents || q.n > 0 && q.bytes+carries(e) > FeedBytes
}

func (q *queue) push(e *Event) {
	if q.n == len(q.ring) {
		ring := make([]*Event, max(4, 2*q.n))
		for i := range q.n {
			ring[i] = q.at(i)
		}
		q.ring, q.head = ring, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = e
	q.n++
	q.bytes += carries(e)
}

// pop takes the oldest event out of a queue that has one.
func (q *queue) pop() *Event {
	e := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	q.bytes -= carries(e)
	return e
}

// at returns the event that i others are before.
func (q *queue) at(i int) *Event { return q.ring[(q.head+i)&(len(q.ring)-1)] }

// carries is the bytes of what can be large in an event.
func carries(e *Event) (n int) {
	if e.Data != nil {
		n += e.Data.Len()
	}
	if e.Member != nil {
		n += len(e.Member.Data) + len(e.Member.Facts)
	}
	return n
}
