package master

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

var errGone = errors.New("it has left the pool")

// dialTimeout bounds one try at reaching a worker.
const dialTimeout = 5 * time.Second

// reachLocked sees to it that there will be a link to w, or that its tasks go
// elsewhere; Resume does so for those that are asked for before.
func (m *Master) reachLocked(w *worker) {
	if w.link != nil || w.dialling || m.closed || !m.resumed {
		return
	}
	w.dialling = true
	m.wg.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, dialTimeout)
		defer cancel()
		_, err := m.cfg.Links.Connect(ctx, w.id)
		m.mu.Lock()
		defer m.mu.Unlock()
		w.dialling = false
		if m.closed || w.link != nil {
			return
		}
		if err == nil { // it was up, and is down again
			err = errors.New("the connection broke at once")
		}
		m.loseLocked(w, err)
		m.unreachableLocked(w, err)
	})
}

// announceLocked asks workers without a link to dial this node, and dials those
// that have not done so in time: a run for a thousand nodes costs one broadcast
// and no storm of dials from here.
func (m *Master) announceLocked(run tasks.ID, ws []*worker) {
	nodes := make([]string, len(ws))
	for i, w := range ws {
		nodes[i] = w.info.ID
	}
	if !m.cfg.Announce(run, nodes) {
		return
	}
	for _, w := range ws {
		w.dialling = true
	}
	time.AfterFunc(m.cfg.AnnounceWait, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, w := range ws {
			w.dialling = false
			if w.link != nil {
				continue
			}
			if w.attempts.n > 0 {
				m.reachLocked(w)
			} else {
				m.dispatchLocked(w) // what had gone first was cancelled
				m.forgetWorkerLocked(w)
			}
		}
	})
}

// unreachableLocked takes away what was assigned to a worker that cannot be
// reached. Tasks that may run elsewhere do; tasks that are bound to it wait
// until it is reached again, for a time.
func (m *Master) unreachableLocked(w *worker, cause error) {
	now := time.Now()
	if w.unreached.IsZero() {
		w.unreached = now
	}
	m.cfg.Logger.Printf("[WARN] tasks: worker not reached: worker=%s cause=%q", w.info.Name, cause)
	spread := map[*class]bool{}
	for t := range w.attempts.each() {
		if t.step == assigned || t.step == recording {
			m.againLocked(t)
			if t.bound == nil {
				spread[t.class] = true
			}
		}
	}
	for t := range w.queue.each() {
		if t.more().reachUntil.IsZero() {
			t.aside.reachUntil = now.Add(m.cfg.ReachTimeout)
		}
		if !w.listed || !now.Before(t.aside.reachUntil) {
			w.queue.drop(t)
			m.failNeverLocked(t, tasks.NeverReached, fmt.Sprintf("worker %q: %v", w.info.Name, cause))
		}
	}
	atMost := 10 * time.Second
	if w.queue.len() > 0 {
		atMost = time.Second
	}
	m.holdLocked(w, min(max(now.Sub(w.unreached), 250*time.Millisecond), atMost))
	for c := range spread {
		m.spreadLocked(c)
	}
	m.forgetWorkerLocked(w)
}

// Up takes a new link into use: both ends tell what they hold, and what waited
// for the link is sent.
func (m *Master) Up(l *wire.Link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	w := m.workerLocked(l.Peer().Node)
	if w.boot != l.Peer().Boot {
		w.anew = w.boot != ""
		w.boot, w.draining, w.load = l.Peer().Boot, false, wire.Load{}
		m.refitLocked(w)
	}
	w.link, w.unreached, w.holdUntil = l, time.Time{}, time.Time{}
	var held []wire.Held
	for t := range w.attempts.each() {
		if t.step <= recording { // one that is recorded is sent then
			continue
		}
		h := wire.Held{Key: t.key()}
		if t.rec != nil {
			h.Received, h.Taken = t.rec.received, t.rec.taken
			t.rec.told = t.rec.taken
		}
		held = append(held, h)
	}
	l.SendReattach(held)
	var back []wire.Key
	for t := range w.attempts.each() {
		switch {
		case t.step <= recording || t.stop == 0:
		case t.dropped:
			back = append(back, t.key())
		default:
			l.SendCancel(t.key(), t.stop)
		}
	}
	if len(back) > 0 {
		l.SendRecall(back)
	}
	if w.anew {
		time.AfterFunc(m.cfg.Lease, func() { m.overdue(w, l) })
	} else {
		m.offerAssignedLocked(w)
	}
	m.dispatchLocked(w)
}

// offerAssignedLocked sends what waited for the link to w. If w was started anew that
// also waits until it has said what is left of its attempts: what it is assigned may
// be one that it has done.
func (m *Master) offerAssignedLocked(w *worker) {
	for t := range w.attempts.each() {
		if t.step != assigned {
			continue
		}
		if t.aside != nil {
			t.aside.reachUntil = time.Time{}
		}
		m.offerLocked(t)
	}
}

// overdue gives up the attempts of a worker that was started anew and says nothing of
// them: it may be no worker any more.
func (m *Master) overdue(w *worker, l *wire.Link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.anew && w.link == l && !m.closed {
		m.loseLocked(w, errAnew)
		m.offerAssignedLocked(w)
	}
}

// Down takes note that a link has ended, and dials again when attempts are on it.
func (m *Master) Down(l *wire.Link, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[l.Peer().Node]
	if w == nil || w.link != l || m.closed {
		return
	}
	w.link = nil
	clear(m.hungry) // what was asked back from it does not come
	if w.draining { // it may not be any more, and cannot say so
		w.draining = false
		m.refitLocked(w)
		defer m.dispatchLocked(w)
	}
	if w.attempts.n == 0 {
		if w.queue.len() > 0 {
			m.reachLocked(w)
		}
		m.forgetWorkerLocked(w)
		return
	}
	if w.dialling {
		return
	}
	m.cfg.Logger.Printf("[INFO] tasks: link broke, dialling again: worker=%s attempts=%d cause=%q", w.info.Name, w.attempts.n, cause)
	w.dialling = true
	until := l.LastHeard().Add(m.cfg.Lease)
	if soon := time.Now().Add(m.cfg.Lease / 3); soon.After(until) {
		until = soon
	}
	m.wg.Go(func() { m.redial(w, until, false) })
}

// redial dials w until the lease of its attempts ends, or it is known to be gone; the
// patient do not take no for an answer.
func (m *Master) redial(w *worker, until time.Time, patient bool) {
	ctx, cancel := context.WithDeadline(m.ctx, until)
	defer cancel()
	var err error
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		if _, err = m.cfg.Links.Connect(ctx, w.id); err == nil || ctx.Err() != nil || !patient && errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w.dialling = false
	if m.closed || w.link != nil {
		return
	}
	if err == nil {
		err = errors.New("the connection broke again at once")
	}
	m.loseLocked(w, err)
	m.unreachableLocked(w, err)
}

// loseLocked gives up every attempt that w may have started.
func (m *Master) loseLocked(w *worker, cause error) {
	w.anew = false
	spread := map[*class]bool{}
	for t := range w.attempts.each() {
		if t.step > recording && t.step != ending {
			m.lostLocked(t, cause)
			if t.waits && t.bound == nil {
				spread[t.class] = true
			}
		}
	}
	m.holdLocked(w, 250*time.Millisecond)
	for c := range spread {
		m.spreadLocked(c)
	}
}

// Load takes note of what a worker says of itself.
func (m *Master) Load(l *wire.Link, ld wire.Load) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[l.Peer().Node]
	if w == nil || w.link != l {
		return
	}
	w.load = ld
	if w.draining != ld.Draining {
		w.draining = ld.Draining
		m.refitLocked(w)
		m.dispatchLocked(w)
	}
}
