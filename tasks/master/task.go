package master

import (
	"fmt"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// step is how far the current attempt of a task has come, as the master knows.
type step uint8

const (
	none     step = iota // no attempt: it waits in a queue, or has ended
	assigned             // has a worker, to which there is no link yet
	offered
	accepted // waits in the worker's queue, or for the grant
	granted
	started
	fetching // it ran; files that it made are on their way here
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
	recalled bool // it was asked back once
	taken    bool // in a batch: a follower has given its result

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
	lost       []lost    // attempts that were given up, and may be heard of still
	reachUntil time.Time // bound: when it is given up as never reached
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

// releaseLocked takes the attempt away from its worker.
func (m *Master) releaseLocked(t *task) {
	w := t.at
	if w == nil {
		return
	}
	t.at, t.step = nil, none
	w.attempts.remove(t)
	m.takeSlotsLocked(w, -t.slots())
	m.openLocked(w)
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
	} else if t.bound != nil {
		r.Worker, r.WorkerID = t.bound.info.Name, t.bound.info.ID
	}
	return r
}

// endLocked gives t its final state, with a copy of o. It must not have one yet.
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
	t.queue().drop(t)
	at := t.at
	m.releaseLocked(t)
	for _, w := range []*worker{at, t.bound} {
		if w != nil {
			m.forgetWorkerLocked(w) // t may have been the last that it was kept for
		}
	}
	t.result = r
	t.state = s
	t.spec = nil
	m.open--
	switch s {
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
	if t.aside != nil {
		for _, c := range t.aside.contents {
			m.cfg.Release(c)
		}
	}
	t.run.endedLocked(t)
	m.kept.addLocked(t)
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
	opt := &t.class.options
	if opt.AtMostOnce() && at < granted {
		m.againLocked(t) // without a grant it cannot have started
		return
	}
	m.cfg.Logger.Printf("[INFO] tasks: attempt lost: task=%s attempt=%d worker=%s step=%d cause=%q", t.id, t.n, w.info.Name, at, cause)
	switch {
	case t.stop != 0:
		m.endLocked(t, tasks.StateCancelled, &tasks.Outcome{Code: tasks.Cancelled, Text: fmt.Sprintf("cancelled; its worker %q was lost meanwhile", w.info.Name)})
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
		m.againLocked(t)
	}
}

// cancelLocked stops t, for good.
func (m *Master) cancelLocked(t *task, r tasks.StopReason) {
	if t.state.Final() {
		return
	}
	t.stop = r
	switch t.step {
	case fetching: // it has ended; what it was counts if its files arrive
	case none, assigned:
		m.endLocked(t, tasks.StateCancelled, &tasks.Outcome{Code: tasks.Cancelled, Text: "cancelled before it started"})
	default:
		if t.at.link != nil {
			t.at.link.SendCancel(t.key(), r)
		}
	}
}
