package master

import (
	"bytes"
	"iter"
	"slices"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/query"
	"github.com/scagent/scagent/tasks/wire"
)

// worker is what the Master holds of one. It is guarded by Master.mu, but for what is
// constant.
type worker struct {
	id     string // constant
	place  int    // in Master.places; -1 when it is forgotten
	info   tasks.Worker
	node   query.Node // info as queries see it
	listed bool       // a member that may get tasks; false once it left or failed

	link     *wire.Link // nil while there is none
	boot     string     // of the start that link, or the last one, led to
	anew     bool       // it was started anew, and has not said yet what is left of its attempts
	dialling bool       // a goroutine tries to reach it
	attempts attempts   // assigned or sent, and not ended
	queue    queue      // tasks for this worker and no other
	inUse    int        // slots that attempts have
	load     wire.Load  // as it last said
	draining bool
	pinned   int // tasks that are for it and not in its queue: on their way into the journal, or resting

	open     bool  // in class.ready of every class that it fits
	reserved *task // the one that free slots are kept for, see reserveLocked

	unreached time.Time // since when it could not be reached; zero when it can
	holdUntil time.Time // gets nothing before
	timer     *time.Timer

	fetching chan struct{} // a token for each attempt whose files are fetched; constant
}

const (
	// maxPrefetch bounds the attempts beyond its slots that a worker is given.
	maxPrefetch = 4096
	// maxOffered is how many bytes of specs end a worker's credit; a link closes
	// when 64 MiB wait in it.
	maxOffered = 16 << 20
)

// creditFor is for how many slots' worth of attempts of c w has credit now.
// At-most-once tasks are not prefetched: each waits for a grant.
func (w *worker) creditFor(c *class) int {
	n := w.info.Slots - w.inUse
	if w.attempts.bytes > maxOffered {
		return min(n, 0)
	}
	if !c.options.AtMostOnce() {
		n += w.prefetch(c)
	}
	return n
}

// prefetch is how many more slots' worth of attempts than it has slots w is
// given, so that it never waits for the next: as many as end during a round
// trip, and none of long tasks, which stay free to go elsewhere.
func (w *worker) prefetch(c *class) int {
	if c.run == 0 || w.link == nil {
		return 0
	}
	trip := w.link.RTT() + 500*time.Microsecond
	n := int64(w.info.Slots) * int64(2*trip) / int64(max(c.run, time.Microsecond))
	if n < int64(w.info.Slots)/8+1 && c.run > 20*trip {
		return 0
	}
	// No more than its share of what there is: the rest would have to be taken back for
	// workers that run dry.
	return int(min(n, maxPrefetch, 1+int64(c.tasks/max(1, c.fitting))))
}

// loaded says how busy w is, in slots' worth of work per slot.
func (w *worker) loaded() float64 {
	busy := max(w.inUse, int(w.load.Busy+w.load.Queued), w.info.Busy)
	return float64(busy) / float64(max(1, w.info.Slots))
}

// usable says that w may be given tasks of others' choosing.
func (w *worker) usable() bool { return w.listed && !w.draining && !w.held() }

func (w *worker) held() bool { return !w.holdUntil.IsZero() && time.Now().Before(w.holdUntil) }

// attempts are the tasks that a worker has, in the order in which it got them.
type attempts struct {
	first, last *task
	n           int
	bytes       int // of their specs
}

func (a *attempts) add(t *task) {
	t.prev, t.next = a.last, nil
	if a.last != nil {
		a.last.next = t
	} else {
		a.first = t
	}
	a.last = t
	a.n++
	a.bytes += len(t.spec)
}

func (a *attempts) remove(t *task) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		a.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		a.last = t.prev
	}
	t.prev, t.next = nil, nil
	a.n--
	a.bytes -= len(t.spec)
}

// each ranges over the tasks; the one ranged over may be removed.
func (a *attempts) each() iter.Seq[*task] {
	return func(yield func(*task) bool) {
		for t := a.first; t != nil; {
			next := t.next
			if !yield(t) {
				return
			}
			t = next
		}
	}
}

// Update tells the Master of a worker, new or changed.
func (m *Master) Update(info tasks.Worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	w := m.workerLocked(info.ID)
	if w.listed && w.info.Boot != info.Boot {
		w.draining = false
	}
	same := w.listed && w.info.Boot == info.Boot && w.info.Name == info.Name && w.info.Slots == info.Slots && w.info.Available == info.Available &&
		w.info.Known == info.Known && bytes.Equal(w.info.Data, info.Data) && bytes.Equal(w.info.Facts, info.Facts) &&
		equal(w.info.Roles, info.Roles) && equal(w.info.Kinds, info.Kinds) && equal(w.info.Functions, info.Functions) && equal(w.info.Interpreters, info.Interpreters)
	old := w.info
	w.info, w.listed = info, true
	if same { // only its load
		if info.Busy < old.Busy && m.dynamic > 0 {
			m.notifyLocked()
			m.dispatchLocked(w)
		}
		return
	}
	w.node = query.Node{Name: info.Name, Role: info.Roles, Slots: info.Slots, Known: info.Known, Data: w.node.Data, Facts: w.node.Facts}
	if !bytes.Equal(old.Data, info.Data) {
		w.node.Data = query.Decode(info.Data)
	}
	if !bytes.Equal(old.Facts, info.Facts) {
		w.node.Facts = query.Decode(info.Facts)
	}
	m.refitLocked(w)
	m.notifyLocked()
	m.dispatchLocked(w)
}

// refitLocked works out which classes w fits, after it has changed.
func (m *Master) refitLocked(w *worker) {
	for _, c := range m.classes {
		c.refit(w)
	}
}

// Remove tells the Master that a worker is no longer a member in good standing.
// What runs there goes on as long as its link lives.
func (m *Master) Remove(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[node]
	if w == nil || m.closed {
		return
	}
	w.listed = false
	m.refitLocked(w)
	m.notifyLocked()
	if w.link == nil && !w.dialling {
		m.unreachableLocked(w, errGone)
	}
	m.forgetWorkerLocked(w)
}

func (m *Master) workerLocked(node string) *worker {
	w := m.workers[node]
	if w == nil {
		w = &worker{id: node, info: tasks.Worker{ID: node}, fetching: make(chan struct{}, maxFetches)}
		w.timer = time.AfterFunc(time.Hour, func() { m.retry(w) })
		w.timer.Stop()
		m.workers[node] = w
		if w.place = slices.Index(m.places, nil); w.place < 0 {
			w.place = len(m.places)
			m.places = append(m.places, nil)
		}
		m.places[w.place] = w
	}
	return w
}

// forgetWorkerLocked drops a worker of which nothing is left.
func (m *Master) forgetWorkerLocked(w *worker) {
	if w.place >= 0 && !w.listed && w.link == nil && !w.dialling && w.attempts.n == 0 && w.queue.len() == 0 && w.pinned == 0 {
		w.timer.Stop()
		delete(m.workers, w.info.ID)
		m.places[w.place], w.place = nil, -1
	}
}

// holdLocked gives w nothing for a while.
func (m *Master) holdLocked(w *worker, d time.Duration) {
	until := time.Now().Add(d)
	if until.After(w.holdUntil) {
		w.holdUntil = until
		w.timer.Reset(d)
	}
}

// retry is called when w has been held long enough.
func (m *Master) retry(w *worker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.dispatchLocked(w)
		m.forgetWorkerLocked(w)
	}
}

func equal[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
