package worker

import (
	"fmt"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/wire"
)

// mineLocked returns the attempt if it is of the master at the other end of l:
// no other has a say in it.
func (w *Worker) mineLocked(l *wire.Link, k wire.Key) *attempt {
	if a := w.attempts[k]; a != nil && a.master == l.Peer().Node {
		return a
	}
	return nil
}

// Offer takes an attempt into a slot or the queue, or rejects it. An attempt
// that is known already is answered with where it stands.
func (w *Worker) Offer(l *wire.Link, o *wire.Offer) {
	a := &attempt{
		w: w, key: o.Key, run: o.Run, index: o.Index, slots: int(o.Slots), timeout: o.Timeout, atMostOnce: o.AtMostOnce, durable: o.Durable,
		master: l.Peer().Node, link: l,
	}
	if w.cfg.History.On() {
		a.spec = history.HashBytes(o.Spec)
	}
	var err error
	if a.task, err = wire.DecodeTask(o.Spec); err == nil {
		err = a.task.Validate()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.attempts[o.Key] != nil {
		if a := w.mineLocked(l, o.Key); a != nil {
			w.replyLocked(a, l)
		} else {
			w.rejectLocked(l, o.Key, tasks.Refused, "the attempt is another master's")
		}
		return
	}
	switch {
	case w.draining:
		w.rejectLocked(l, o.Key, tasks.Draining, "the worker is draining")
		return
	case int(o.Slots) > w.cfg.Slots || o.Slots < 1:
		w.rejectLocked(l, o.Key, tasks.Refused, fmt.Sprintf("the task takes %d slots, the worker has %d", o.Slots, w.cfg.Slots))
		return
	}
	free := w.cfg.Slots - w.busy
	fits := int(o.Slots) <= free && w.queue.len() == 0
	if !fits && w.queue.len() >= w.cfg.MaxQueued {
		w.rejectLocked(l, o.Key, tasks.Busy, fmt.Sprintf("%d attempts wait already", w.queue.len()))
		return
	}
	if err != nil {
		w.rejectLocked(l, o.Key, tasks.Refused, fmt.Sprintf("the task cannot be read: %v", err))
		return
	}
	if err := w.cfg.Check(&a.task); err != nil {
		w.rejectLocked(l, o.Key, tasks.Refused, err.Error())
		return
	}
	if w.cfg.Runners[a.task.Kind] == nil {
		w.rejectLocked(l, o.Key, tasks.Refused, fmt.Sprintf("the worker runs no tasks of kind %q", a.task.Kind))
		return
	}
	w.attempts[a.key] = a
	if !fits {
		a.phase = queued
		w.queue.push(a)
		return
	}
	if w.enterLocked(a) {
		w.startLocked(a)
	}
	w.busyLocked()
}

// rejectLocked says that an attempt is not taken.
func (w *Worker) rejectLocked(l *wire.Link, k wire.Key, c tasks.Code, text string) {
	w.cfg.History.Add(history.Event{Name: history.Rejected, Task: k.Task, N: k.N, Why: c.String()})
	l.SendReject(k, c, text)
}

// Grant starts an at-most-once attempt.
func (w *Worker) Grant(l *wire.Link, k wire.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.mineLocked(l, k); a != nil && a.phase == awaitingGrant {
		w.startLocked(a)
	}
}

// Window lets an attempt write n more bytes.
func (w *Worker) Window(l *wire.Link, k wire.Key, n uint32) {
	w.mu.Lock()
	a := w.mineLocked(l, k)
	w.mu.Unlock()
	if a != nil {
		if o := a.out.Load(); o != nil {
			o.grant(int(n))
		}
	}
}

// Ack forgets attempts whose outcomes the master has recorded.
func (w *Worker) Ack(l *wire.Link, ks []wire.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range ks {
		if a := w.mineLocked(l, k); a != nil && a.phase == finished {
			w.forgetLocked(a)
		}
	}
}

// Recall gives back those of the attempts that have not started.
func (w *Worker) Recall(l *wire.Link, ks []wire.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var back []wire.Key
	for _, k := range ks {
		if a := w.mineLocked(l, k); a != nil && a.phase == queued {
			w.dropLocked(a)
			back = append(back, k)
		}
	}
	l.SendGivenBack(back)
}

// Cancel stops an attempt, or drops it if it has not started; either way its
// master gets an outcome.
func (w *Worker) Cancel(l *wire.Link, k wire.Key, r tasks.StopReason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.mineLocked(l, k)
	switch {
	case a == nil:
		l.SendState([]wire.AttemptState{{Key: k, State: wire.Unknown}})
	case a.phase == queued, a.phase == awaitingGrant:
		w.dropLocked(a)
		r, _ := wire.NewResult(k, &tasks.Outcome{Code: tasks.Cancelled, Text: "cancelled before it started"}) // it fits
		l.SendResult(r)
	default:
		a.stopLocked(r)
		if r == tasks.StopSuperfluous {
			a.discardLocked()
		}
	}
}

// Reattach settles, on a new link, which attempts of its master go on: those it
// names. The others are stopped and forgotten; but outcomes of tasks that it has, or
// had, on disk are sent: they may be of use where the attempt was given up.
func (w *Worker) Reattach(l *wire.Link, held []wire.Held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	states := make([]wire.AttemptState, len(held))
	wanted := make(map[wire.Key]bool, len(held))
	for i, h := range held {
		wanted[h.Key] = true
		states[i].Key = h.Key
		if a := w.mineLocked(l, h.Key); a != nil && !a.forsaken {
			states[i].State = a.phase.wire()
			if o := a.out.Load(); o != nil {
				states[i].From = o.from(h.Received)
			}
		}
	}
	l.SendState(states)
	for _, a := range w.attempts {
		switch {
		case a.master != l.Peer().Node || wanted[a.key]:
		case a.phase == finished && a.durable:
			w.resumeLocked(a, l, wire.Held{})
		default:
			w.dropLocked(a)
		}
	}
	for _, h := range held {
		if a := w.mineLocked(l, h.Key); a != nil && !a.forsaken {
			w.resumeLocked(a, l, h)
		}
	}
}

// resumeLocked goes on with an attempt on a new link, whose master has so much of it.
func (w *Worker) resumeLocked(a *attempt, l *wire.Link, h wire.Held) {
	a.link = l
	if a.expire != nil {
		a.expire.Stop()
		a.expire = nil
	}
	if o := a.out.Load(); o != nil {
		o.resume(l, h.Received, h.Taken)
	}
	w.replyLocked(a, l)
}

// replyLocked tells the attempt's master, on its link, where the attempt stands.
func (w *Worker) replyLocked(a *attempt, l *wire.Link) {
	switch a.phase {
	case queued:
		l.SendAccept(a.key, true)
	case awaitingGrant:
		l.SendAccept(a.key, false)
	case running, finished:
		if a.phase == running {
			l.SendStarted(a.key)
		}
		switch o := a.out.Load(); {
		case o != nil && !o.sent():
			w.wg.Go(func() { w.report(a, l) })
		case a.phase == finished:
			a.tellLocked(l)
		}
	}
}

// LinkDown takes note that a link has ended: what was on it goes on without.
// The owner of the links calls it.
func (w *Worker) LinkDown(l *wire.Link) (orphans int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attempts {
		if a.link != l {
			continue
		}
		orphans++
		a.link = nil
		if o := a.out.Load(); o != nil {
			o.detach(l)
		}
		w.expireLocked(a, w.patience(a))
	}
	return orphans
}
