package worker

import (
	"sync/atomic"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/wire"
)

// phase is where an attempt stands on this worker.
type phase uint8

const (
	queued        phase = iota + 1 // waits for a slot
	awaitingGrant                  // at most once: holds its slots, waits for the master's word
	running
	finished // its outcome waits for the master's ack
)

func (p phase) wire() wire.AttemptPhase {
	return [...]wire.AttemptPhase{wire.Unknown, wire.Queued, wire.AwaitingGrant, wire.Running, wire.Finished}[p]
}

// attempt is what the worker holds of one. Its fields are guarded by Worker.mu,
// but for those that say otherwise.
type attempt struct {
	w          *Worker       // constant
	key        wire.Key      // constant
	run        tasks.ID      // constant
	index      uint32        // constant
	timeout    time.Duration // constant
	atMostOnce bool          // constant
	durable    bool          // its master has the task on disk; constant
	task       tasks.Task    // constant
	master     string        // node id, constant
	spec       string        // its hash, for the history; constant
	slots      int           // constant
	phase      phase
	link       *wire.Link             // nil while there is none
	told       *wire.Link             // the last link on which the outcome was sent
	out        atomic.Pointer[output] // nil until something is written; set under Worker.mu
	mute       bool                   // nobody wants what is written; counts while out is nil
	ctx        runContext
	stopReason tasks.StopReason
	kill       chan struct{} // closed once; see tasks.Attempt; nil for functions
	patience   *time.Timer   // of endLocked, stopped when the runner has returned
	killed     bool
	forsaken   bool            // nobody wants the outcome any more
	result     wire.Result     // when finished: its outcome
	files      []tasks.Content // when finished: the files of the outcome, held
	kept       *kept           // when finished: in the outbox; nil: it is not there
	expire     *time.Timer     // runs while link is nil and something must end
}

// forgetLocked drops an attempt that does not run.
func (w *Worker) forgetLocked(a *attempt) {
	if a.expire != nil {
		a.expire.Stop()
	}
	for i := range a.files {
		w.cfg.Release(&a.files[i])
	}
	a.discardLocked()
	w.unkeepLocked(a)
	delete(w.attempts, a.key)
}

// lastWords is how long an attempt that is stopped may wait for a reader that takes
// nothing.
const lastWords = 5 * time.Second

// endLocked ends the context of a running attempt. A reader that takes nothing
// does not keep it from ending.
func (a *attempt) endLocked(why *tasks.StopError) {
	a.stopReason = why.Reason
	a.ctx.stop(why)
	if o := a.out.Load(); o != nil {
		o.stalled() // from now on
	}
	a.patience = time.AfterFunc(lastWords, a.hurry)
}

// hurry lets a, which was stopped and runs still, write into the void if it waits for
// its reader, and looks again later if it does not.
func (a *attempt) hurry() {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	switch o := a.out.Load(); {
	case a.phase != running:
	case o != nil && o.stalled():
		a.discardLocked()
	default:
		a.patience.Reset(lastWords)
	}
}

// timeUp stops a, which has run for as long as it may, if it runs still.
func (a *attempt) timeUp(d time.Duration) {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if a.phase == running && a.stopReason == 0 {
		a.endLocked(&tasks.StopError{Reason: tasks.StopTimeout, After: d})
	}
}

// stopLocked asks a running attempt to stop, the first reason being the one that
// it is told, and a later, harder one killing it.
func (a *attempt) stopLocked(r tasks.StopReason) {
	if a.phase != running {
		return
	}
	if a.stopReason == 0 {
		a.w.cfg.History.Add(history.Event{Name: history.Revoked, Task: a.key.Task, N: a.key.N, Why: r.String()})
	}
	if (r == tasks.StopKill || a.stopReason != 0 && r != tasks.StopSuperfluous) && !a.killed {
		a.killed = true
		if a.kill != nil {
			close(a.kill)
		}
		a.discardLocked()
	}
	if a.stopReason == 0 {
		a.endLocked(&tasks.StopError{Reason: r})
	}
}

// patience is for how long a is kept when there is no link to its master.
func (w *Worker) patience(a *attempt) time.Duration {
	switch {
	case a.phase == queued, a.atMostOnce && a.phase != finished:
		return w.cfg.Lease
	case a.kept != nil:
		return max(0, time.Until(a.kept.since.Add(w.cfg.Retain)))
	}
	return w.cfg.KeepOutcome
}

// expireLocked ends a if there is no link to its master by then: what waits is
// dropped, what runs is stopped.
func (w *Worker) expireLocked(a *attempt, after time.Duration) {
	if a.expire != nil {
		a.expire.Stop()
	}
	a.expire = time.AfterFunc(after, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if a.link == nil && w.attempts[a.key] == a {
			w.cfg.History.Add(history.Event{Name: history.LeaseLost, Task: a.key.Task, N: a.key.N, What: history.ByWorker})
			w.cfg.Logger.Printf("[WARN] worker: master is gone, attempt given up: task=%s attempt=%d", a.key.Task, a.key.N)
			w.dropLocked(a)
		}
	})
}

// dropLocked gets rid of an attempt that nobody wants.
func (w *Worker) dropLocked(a *attempt) {
	switch a.phase {
	case queued:
		w.queue.remove(a)
		w.forgetLocked(a)
	case awaitingGrant:
		w.forgetLocked(a)
		if next := w.leaveLocked(a); next != nil {
			w.laneLocked(next)
		}
	case running:
		a.forsaken = true
		a.discardLocked()
		a.stopLocked(tasks.StopSuperfluous)
	case finished:
		w.forgetLocked(a)
	}
}

// output returns where what the attempt writes goes.
func (a *attempt) output() *output {
	if o := a.out.Load(); o != nil {
		return o
	}
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if o := a.out.Load(); o != nil {
		return o
	}
	o := newOutput(a.key, a.link)
	if a.mute {
		o.discard()
	}
	a.out.Store(o)
	return o
}

// discardLocked lets the attempt write into the void from now on.
func (a *attempt) discardLocked() {
	a.mute = true
	if o := a.out.Load(); o != nil {
		o.discard()
	}
}

// stdout and stderr are the writers of the streams.
type (
	stdout attempt
	stderr attempt
)

func (w *stdout) Write(p []byte) (int, error) { return (*attempt)(w).output().write(wire.Stdout, p) }
func (w *stderr) Write(p []byte) (int, error) { return (*attempt)(w).output().write(wire.Stderr, p) }
