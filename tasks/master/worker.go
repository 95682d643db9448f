package master

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/query"
	"github.com/scagent/scagent/tasks/wire"
)

// worker is what the Master holds of one. It is guarded by Master.mu, but for its
// id.
type worker struct {
	id      string // constant
	info    tasks.Worker
	node    query.Node // info as queries see it
	version uint64     // grows when info changes: what classes know of it is stale
	listed  bool       // a member that may get tasks; false once it left or failed

	link     *wire.Link         // nil while there is none
	boot     string             // of the start that link, or the last one, led to
	dialling bool               // a goroutine tries to reach it
	attempts map[tasks.ID]*task // assigned or sent, and not ended
	queue    queue              // tasks for this worker and no other
	inUse    int                // slots that attempts have
	load     wire.Load          // as it last said
	draining bool
	run      time.Duration // typical time that a task takes, exponentially weighted

	unreached time.Time // since when it could not be reached; zero when it can
	holdUntil time.Time // gets nothing before
	timer     *time.Timer
}

// prefetch bounds the attempts beyond its slots that a worker is given.
const maxPrefetch = 4096

// credit is how many slots' worth of attempts w may be given now.
func (w *worker) credit() int {
	return w.info.Slots + w.prefetch() - w.inUse
}

// creditFor is credit for one more attempt of t. At-most-once tasks are not
// prefetched: each waits for a grant.
func (w *worker) creditFor(t *task) int {
	if t.run.sub.Options.AtMostOnce() {
		return w.info.Slots - w.inUse
	}
	return w.credit()
}

// prefetch is how many more slots' worth of attempts than it has slots w is
// given, so that it never waits for the next: as many as end during a round
// trip, and none of long tasks, which stay free to go elsewhere.
func (w *worker) prefetch() int {
	if w.run == 0 || w.link == nil {
		return 0
	}
	trip := w.link.RTT() + 500*time.Microsecond
	n := int64(w.info.Slots) * int64(2*trip) / int64(max(w.run, time.Microsecond))
	if n < int64(w.info.Slots)/8+1 && w.run > 20*trip {
		return 0
	}
	return int(min(n, maxPrefetch))
}

// loaded says how busy w is, in slots' worth of work per slot.
func (w *worker) loaded() float64 {
	busy := max(w.inUse, int(w.load.Busy+w.load.Queued), w.info.Busy)
	return float64(busy) / float64(max(1, w.info.Slots))
}

// usable says that w may be given tasks of others' choosing.
func (w *worker) usable(now time.Time) bool {
	return w.listed && !w.draining && !now.Before(w.holdUntil)
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
	w.info, w.listed = info, true
	if same { // only its load
		return
	}
	w.version++
	w.node = query.Node{Name: info.Name, Role: info.Roles, Slots: info.Slots, Known: info.Known, Data: decode(info.Data), Facts: decode(info.Facts)}
	m.notifyLocked()
	m.dispatchLocked(w)
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
	w.version++
	m.notifyLocked()
	if w.link == nil && !w.dialling {
		m.unreachableLocked(w, errGone)
	}
	m.forgetWorkerLocked(w)
}

func (m *Master) workerLocked(node string) *worker {
	w := m.workers[node]
	if w == nil {
		w = &worker{id: node, info: tasks.Worker{ID: node}, attempts: map[tasks.ID]*task{}}
		w.timer = time.AfterFunc(time.Hour, func() { m.retry(w) })
		w.timer.Stop()
		m.workers[node] = w
	}
	return w
}

// forgetWorkerLocked drops a worker of which nothing is left.
func (m *Master) forgetWorkerLocked(w *worker) {
	if !w.listed && w.link == nil && !w.dialling && len(w.attempts) == 0 && w.queue.len() == 0 {
		w.timer.Stop()
		delete(m.workers, w.info.ID)
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

func decode(b json.RawMessage) any {
	if len(b) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return v
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
