package worker

import "slices"

// queue holds the attempts that wait for a slot: first in, first out for each
// master, and the masters take turns. It is bounded by its user.
type queue struct {
	masters []*line // those with something waiting; the first one's turn is next
	n       int
}

type line struct {
	master  string
	waiting []*attempt
}

func (q *queue) len() int { return q.n }

func (q *queue) push(a *attempt) {
	q.n++
	for _, l := range q.masters {
		if l.master == a.master {
			l.waiting = append(l.waiting, a)
			return
		}
	}
	q.masters = append(q.masters, &line{master: a.master, waiting: []*attempt{a}})
}

// pop takes out the attempt whose turn it is. It returns nil when nothing waits,
// or when that one needs more than the free slots: smaller ones do not overtake
// it, or it would wait for ever.
func (q *queue) pop(free int) *attempt {
	if q.n == 0 || q.masters[0].waiting[0].slots > free {
		return nil
	}
	l := q.masters[0]
	a := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	q.n--
	copy(q.masters, q.masters[1:])
	if len(l.waiting) > 0 {
		q.masters[len(q.masters)-1] = l
	} else {
		q.masters = q.masters[:len(q.masters)-1]
	}
	return a
}

func (q *queue) remove(a *attempt) {
	for i, l := range q.masters {
		if l.master != a.master {
			continue
		}
		j := slices.Index(l.waiting, a)
		if j < 0 {
			return
		}
		q.n--
		if l.waiting = slices.Delete(l.waiting, j, j+1); len(l.waiting) == 0 {
			q.masters = slices.Delete(q.masters, i, i+1)
		}
		return
	}
}
