package master

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/wire"
)

// step is how far the current attempt of a task has come, as the master knows.
type step uint8

const (
	none      step = iota // no attempt: it waits in a queue, or has ended
	assigned              // has a worker, to which there is no link yet
	recording             // goes into the journal, and then to the worker
	offered
	accepted // waits in the worker's queue, or for the grant
	granting // the grant goes into the journal, and then to the worker
	granted
	started
	ending // it ran: files that it made are on their way here, or its end into the journal
)

// task is one task of a run. Guarded by Master.mu. There may be millions, so what
// few of them have is in aside.
type task struct {
	id    tasks.ID
	run   *Run
	class *class
	spec  []byte // the task as it travels
	state tasks.State

	index uint32
	n     uint32 // number of the newest attempt
	// starts is how many attempts have, or may have, started.
	starts   uint16
	retries  uint16 // how often it was run again because it failed
	step     step
	stop     tasks.StopReason
	waits    bool // it is in a queue
	resting  bool // it waits for a while before it does so again
	recalled bool // it was asked back once
	dropped  bool // stop is for further attempts, and for this one if it has not started
	settled  bool // its end is in the journal, or on its way there

	bound      *worker // the only worker it is for, or nil
	at         *worker // who has the current attempt
	prev, next *task   // among the attempts of at

	queuedAt  stamp
	startedAt stamp
	rec       *record // what it wrote; nil if nothing
	result    *tasks.Result
	aside     *aside // nil if there is nothing in it
}

// aside is what few tasks have.
type aside struct {
	contents   []*tasks.Content // held until it has ended
	avoid      []*worker        // those that would not take it
	rejects    int
	deaths     uint8                // workers that ended while they ran it
	acks       []ack                // to be sent when its end is in the journal, or that it is tried again
	unsaved    int                  // records that it is run again, on their way into the journal
	lost       []lost               // attempts that were given up, and may be heard of still
	late       map[lost]*lateRecord // what those wrote that are heard of
	by         *worker              // whose attempt counts, if it is one of those
	reachUntil time.Time            // bound: when it is given up as never reached
}

// more returns t.aside, which it makes if there is none.
func (t *task) more() *aside {
	if t.aside == nil {
		t.aside = &aside{}
	}
	return t.aside
}

// stamp is a time as Unix nanoseconds, 0 for none.
type stamp int64

func stampOf(t time.Time) stamp {
	if t.IsZero() {
		return 0
	}
	return stamp(t.UnixNano())
}

func (s stamp) time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(s))
}

// lost is an attempt whose worker was given up.
type lost struct {
	n    uint32
	node string // id of the worker
}

func (t *task) priority() int { return t.class.options.Priority }
func (t *task) slots() int    { return t.class.options.Slots }
func (t *task) key() wire.Key { return wire.Key{Task: t.id, N: t.n} }
func (t *task) queue() *queue {
	if t.bound != nil {
		return &t.bound.queue
	}
	return &t.class.queue
}

// enqueueLocked puts t, which has no attempt, where it waits for a worker.
func (m *Master) enqueueLocked(t *task, front bool) {
	q := t.queue()
	if front {
		q.pushFront(t)
	} else {
		q.push(t)
	}
	if t.bound == nil {
		m.waitLocked(t.class)
	}
}

// noteLocked writes down what happens to the attempt of t.
func (m *Master) noteLocked(what history.Name, t *task) {
	m.cfg.History.Add(history.Event{Name: what, Task: t.id, N: t.n, Worker: t.at.id})
}

// releaseLocked takes the attempt away from its worker.
func (m *Master) releaseLocked(t *task) {
	w := t.at
	if w == nil {
		return
	}
	if t.step != ending { // then they are free already
		m.takeSlotsLocked(w, -t.slots())
	}
	t.at, t.step = nil, none
	w.attempts.remove(t)
	m.openLocked(w)
}

// partLocked releases t from its worker and its queue, for good.
func (m *Master) partLocked(t *task) {
	t.queue().drop(t)
	t.resting = false
	at := t.at
	m.releaseLocked(t)
	for _, w := range []*worker{at, t.bound} {
		if w != nil {
			m.forgetWorkerLocked(w) // t may have been the last that it was kept for
		}
	}
}

// maxRest bounds how long a task rests before it is tried again.
const maxRest = 30 * time.Second

// tryLaterLocked is againLocked for a task for which that has been done before times
// before: the first time at once, then after a random time of up to 100 ms, 200 ms, and
// so on ("full jitter": M. Brooker, "Exponential Backoff and Jitter", 2015).
func (m *Master) tryLaterLocked(t *task, before int) {
	if before == 0 || t.stop != 0 {
		m.againLocked(t)
		return
	}
	m.releaseLocked(t)
	m.stateLocked(t, tasks.StateQueued)
	t.resting = true
	if t.bound != nil {
		t.bound.pinned++ // it stays meanwhile
	}
	rest := min(50*time.Millisecond<<min(before, 20), maxRest)
	time.AfterFunc(time.Duration(m.random.Int64N(int64(rest))), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if t.bound != nil {
			t.bound.pinned--
			defer m.forgetWorkerLocked(t.bound)
		}
		if m.closed || !t.resting {
			return
		}
		t.resting = false
		m.enqueueLocked(t, true)
		if t.bound != nil {
			m.dispatchLocked(t.bound)
		} else {
			m.spreadLocked(t.class)
		}
	})
}

// againLocked queues t for another attempt.
func (m *Master) againLocked(t *task) {
	m.releaseLocked(t)
	if t.stop != 0 {
		m.endLocked(t, tasks.StateCancelled, &tasks.Outcome{Code: tasks.Cancelled, Text: "cancelled before it started"})
		return
	}
	m.stateLocked(t, tasks.StateQueued)
	m.enqueueLocked(t, true)
}

func (m *Master) stateLocked(t *task, s tasks.State) {
	if t.state == s {
		return
	}
	t.state = s
	if !t.class.options.Ephemeral {
		m.cfg.Changed(m.resultLocked(t))
	}
	if s == tasks.StateRunning {
		t.run.tellLocked(t)
	}
}

// resultLocked is what is known of t now.
func (m *Master) resultLocked(t *task) tasks.Result {
	if t.result != nil {
		return *t.result
	}
	r := tasks.Result{ID: t.id, Run: t.run.id, Index: int(t.index), Kind: t.class.key.kind, State: t.state, QueuedAt: t.queuedAt.time()}
	if t.starts > 0 {
		r.Attempt = t.n
	}
	r.Started = t.startedAt.time()
	if w := t.at; w != nil {
		r.Worker, r.WorkerID = w.info.Name, w.info.ID
	} else if t.aside != nil && t.aside.by != nil {
		r.Worker, r.WorkerID = t.aside.by.info.Name, t.aside.by.info.ID
	} else if t.bound != nil {
		r.Worker, r.WorkerID = t.bound.info.Name, t.bound.info.ID
	}
	return r
}

// endLocked gives t its final state, with a copy of o, when that is in the journal. It
// must not have one yet.
func (m *Master) endLocked(t *task, s tasks.State, o *tasks.Outcome) {
	r := new(tasks.Result)
	*r = m.resultLocked(t)
	r.State, r.Outcome, r.FinishedAt = s, *o, time.Now()
	own(&r.Outcome)
	if r.Started.IsZero() {
		r.Started = t.startedAt.time()
	}
	if t.rec != nil {
		r.Stdout, r.StdoutCut = t.rec.copies[wire.Stdout].bytes()
		r.Stderr, r.StderrCut = t.rec.copies[wire.Stderr].bytes()
	}
	if t.durable() {
		m.settleLocked(t, r)
	} else {
		m.concludeLocked(t, r)
	}
}

// concludeLocked makes known how t ended.
func (m *Master) concludeLocked(t *task, r *tasks.Result) {
	if m.cfg.History.On() {
		e := history.Event{Name: history.Ended, Task: t.id, N: t.n, State: r.State, Hash: history.Hash(&r.Outcome)}
		if r.Code != tasks.OK {
			e.Why = r.Code.String()
		}
		m.cfg.History.Add(e)
	}
	m.partLocked(t)
	t.step = none
	t.result, t.state, t.spec = r, r.State, nil
	m.open--
	switch r.State {
	case tasks.StateDone:
		m.stats.Done++
	case tasks.StateFailed:
		m.stats.Failed++
	case tasks.StateCancelled:
		m.stats.Cancelled++
	case tasks.StateLost:
		m.stats.Lost++
	}
	if !t.class.options.Ephemeral {
		m.cfg.Changed(*r)
	}
	m.leaveClassLocked(t.class)
	m.releaseContentsLocked(t)
	t.run.endedLocked(t)
	m.kept.addLocked(t)
	if t.durable() && t.run.ended == t.run.count {
		m.retireLocked(t.run)
	}
}

// releaseContentsLocked gives up what t, which has ended, held.
func (m *Master) releaseContentsLocked(t *task) {
	if t.aside == nil {
		return
	}
	for _, c := range t.aside.contents {
		m.cfg.Release(c)
	}
	t.aside.contents, t.aside.late = nil, nil
}

// failNeverLocked ends a task that no worker was reached for, or would take.
func (m *Master) failNeverLocked(t *task, c tasks.Code, text string) {
	if t.starts > 0 && c == tasks.NeverReached {
		m.endLocked(t, tasks.StateLost, &tasks.Outcome{Code: tasks.Lost, Text: "lost while running: " + text})
		return
	}
	s := tasks.StateFailed
	if c == tasks.NeverReached {
		s, text = tasks.StateLost, "never reached: "+text
	}
	m.endLocked(t, s, &tasks.Outcome{Code: c, Text: text})
}

// lostLocked takes note that the worker that has t's attempt is gone.
func (m *Master) lostLocked(t *task, cause error) {
	w, at := t.at, t.step
	m.stats.LostAttempts++
	if m.cfg.History.On() {
		m.cfg.History.Add(history.Event{Name: history.LeaseLost, Task: t.id, N: t.n, Worker: w.id, What: history.ByOwner, Why: cause.Error()})
	}
	opt := &t.class.options
	if opt.AtMostOnce() && at < granted {
		m.againLocked(t) // without a grant it cannot have started
		return
	}
	if at == started && died(cause) {
		t.more().deaths++
	}
	m.cfg.Logger.Printf("[INFO] tasks: attempt lost: task=%s attempt=%d worker=%s step=%d cause=%q", t.id, t.n, w.info.Name, at, cause)
	switch {
	case t.stop != 0:
		m.endLocked(t, tasks.StateCancelled, &tasks.Outcome{Code: tasks.Cancelled, Text: fmt.Sprintf("cancelled; its worker %q was lost meanwhile", w.info.Name)})
	case t.aside != nil && t.aside.deaths >= poison:
		m.endLocked(t, tasks.StateFailed, &tasks.Outcome{Code: tasks.Poison, Text: fmt.Sprintf("%d workers ended while they ran it, the last of them %q", t.aside.deaths, w.info.Name)})
	case int(t.starts)-int(t.retries) >= opt.Attempts:
		text := fmt.Sprintf("worker %q was lost while it ran", w.info.Name)
		if at < started {
			text = fmt.Sprintf("worker %q was lost; whether it ran is not known", w.info.Name)
		}
		if t.starts > 1 {
			text += fmt.Sprintf(", attempt %d of %d", t.starts, opt.Attempts)
		}
		m.endLocked(t, tasks.StateLost, &tasks.Outcome{Code: tasks.Lost, Text: text})
	default:
		if t.bound != nil {
			t.more().reachUntil = time.Now().Add(m.cfg.ReachTimeout)
		}
		t.more().lost = append(t.more().lost, lost{t.n, w.info.ID})
		m.tryLaterLocked(t, len(t.aside.lost)-1)
	}
}

// poison is how many workers may end while they run a task before it is held
// responsible.
const poison = 3

// errAnew is why attempts are lost when their worker's agent was started anew.
var errAnew = errors.New("its agent was started anew")

// died says that a worker's agent has ended, as opposed to one that is silent.
func died(cause error) bool {
	return errors.Is(cause, errAnew) || errors.Is(cause, syscall.ECONNREFUSED)
}

// cancelLocked stops t, for good.
func (m *Master) cancelLocked(t *task, r tasks.StopReason) {
	if t.state.Final() {
		return
	}
	t.stop, t.dropped = r, false
	switch t.step {
	case ending: // it has ended; what it was counts if its files arrive
		if t.durable() && !t.settled {
			m.journalStopLocked(t)
		}
	case none, assigned, recording:
		m.endLocked(t, tasks.StateCancelled, &tasks.Outcome{Code: tasks.Cancelled, Text: "cancelled before it started"})
	default:
		if t.durable() {
			m.journalStopLocked(t)
		}
		if t.at.link != nil {
			t.at.link.SendCancel(t.key(), r)
		}
	}
}
