package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/wire"
)

// maxRejects is how many workers may turn a task away before it is given up.
const maxRejects = 50

// maxFetches is from how many attempts of a worker files are fetched at a time.
const maxFetches = 8

// currentLocked returns the task whose newest attempt is k, when it is the one
// that the peer of l has.
func (m *Master) currentLocked(l *wire.Link, k wire.Key) *task {
	t := m.tasks[k.Task]
	if t == nil || t.n != k.N || t.at == nil || t.at.info.ID != l.Peer().Node || t.step <= recording {
		return nil
	}
	return t
}

// Accept: the worker has it, queued or, for an at-most-once task, ready to start.
func (m *Master) Accept(l *wire.Link, k wire.Key, queued bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.currentLocked(l, k)
	if t == nil || t.step > granted || t.step == granting || m.closed {
		return
	}
	if t.step < accepted {
		t.step = accepted
		m.noteLocked(history.Accepted, t)
	}
	if queued || !t.class.options.AtMostOnce() {
		return
	}
	if t.stop != 0 {
		l.SendCancel(k, t.stop)
		return
	}
	switch {
	case t.step == granted: // an earlier one was lost with its link, or is in the journal alone
		m.noteLocked(history.Granted, t)
		l.SendGrant(k)
	case t.durable():
		m.recordAttemptLocked(t, granting, func() { m.grantLocked(t) })
	default:
		m.grantLocked(t)
	}
}

// grantLocked lets the attempt of t, which was accepted, start.
func (m *Master) grantLocked(t *task) {
	t.step = granted
	t.starts++
	m.noteLocked(history.Granted, t)
	if t.at.link != nil { // else it is sent when the attempt is accepted again
		t.at.link.SendGrant(t.key())
	}
}

// Reject: the worker will not take it. That is no attempt.
func (m *Master) Reject(l *wire.Link, k wire.Key, c tasks.Code, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.currentLocked(l, k)
	if t == nil || t.step >= granting {
		return
	}
	w, more := t.at, t.more()
	m.stats.Rejected++
	m.unstartLocked(t)
	more.rejects++
	switch {
	case c == tasks.Busy && more.rejects < maxRejects:
		m.holdLocked(w, 200*time.Millisecond)
	case c == tasks.Draining && t.bound == nil:
		w.draining = true
		m.refitLocked(w)
	default:
		more.avoid = append(more.avoid, w)
		if t.bound != nil || more.rejects >= maxRejects || !m.anyFitsLocked(t) {
			m.releaseLocked(t)
			m.endLocked(t, tasks.StateFailed, &tasks.Outcome{Code: tasks.Refused, Text: fmt.Sprintf("refused by %q: %s", w.info.Name, text)})
			m.dispatchLocked(w)
			return
		}
	}
	m.againLocked(t)
	if t.bound == nil && t.waits {
		m.spreadLocked(t.class)
	}
	m.dispatchLocked(w)
}

// anyFitsLocked says whether some worker could take t, now or later.
func (m *Master) anyFitsLocked(t *task) bool {
	return slices.ContainsFunc(m.matchingLocked(t.class), func(w *worker) bool {
		return !slices.Contains(t.aside.avoid, w) && (t.run.used == nil || !t.siblingHas(w))
	})
}

// unstartLocked takes back that the current attempt may have started.
func (m *Master) unstartLocked(t *task) {
	if t.step == offered || t.step == accepted {
		if !t.class.options.AtMostOnce() && t.starts > 0 {
			t.starts--
		}
	}
}

// Started: it runs.
func (m *Master) Started(l *wire.Link, k wire.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.currentLocked(l, k); t != nil && t.step < started {
		m.startedLocked(t)
	}
}

func (m *Master) startedLocked(t *task) {
	t.step = started
	t.startedAt = stampOf(time.Now())
	m.stateLocked(t, tasks.StateRunning)
}

// Output: it wrote something.
func (m *Master) Output(l *wire.Link, k wire.Key, s wire.Stream, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.currentLocked(l, k)
	if t == nil {
		m.lateOutputLocked(l, k, s, b)
		return
	}
	if t.step < started {
		m.startedLocked(t)
	}
	if t.rec == nil {
		t.rec = &record{n: t.n}
	}
	t.rec.add(s, b, len(t.run.followers) > 0)
	t.run.tellLocked(t)
	m.takenLocked(t)
}

// Result: the attempt has ended.
func (m *Master) Result(l *wire.Link, k wire.Key, o *tasks.Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tasks[k.Task]
	if t != nil && m.cfg.History.On() {
		e := history.Event{Name: history.ResultReceived, Task: k.Task, N: k.N, Worker: l.Peer().Node, Hash: history.Hash(o)}
		if o.Code != tasks.OK {
			e.Why = o.Code.String()
		}
		m.cfg.History.Add(e)
	}
	switch {
	case t == nil || t.state.Final() || k.N > t.n || t.step == ending && t.n == k.N:
		switch {
		case t == nil || t.step != ending:
			m.sendAck(l, k, weigh(o))
		case t.n != k.N, // a late result counts, and this one is told when that is on disk
			t.settled && !t.owesAck(l, k): // so is one that comes after its attempt was given up
			m.ackLocked(l, t, k, weigh(o))
		}
		return
	case k.N != t.n || t.at == nil || t.at.info.ID != l.Peer().Node:
		m.lateLocked(l, t, k, o)
		return
	}
	w := t.at
	t.class.took(o)
	for i := range o.Outputs {
		if o.Outputs[i].Blob != "" {
			c := *o
			own(&c)
			m.fetchLocked(l, t, c)
			return
		}
	}
	if t.durable() {
		m.freeLocked(t)
	}
	m.finishLocked(t, o)
	m.ackLocked(l, t, k, weigh(o))
	m.dispatchLocked(w)
}

// freeLocked takes note that the attempt of t does not run any more.
func (m *Master) freeLocked(t *task) {
	m.takeSlotsLocked(t.at, -t.slots())
	t.step = ending
}

// ackLocked lets the worker forget an attempt of t as soon as what followed from its
// outcome is on disk.
func (m *Master) ackLocked(l *wire.Link, t *task, k wire.Key, weight int) {
	if t.step == ending || t.aside != nil && t.aside.unsaved > 0 {
		t.more().acks = append(t.aside.acks, ack{l.Peer().Node, k, weight})
		return
	}
	m.sendAck(l, k, weight)
}

func (m *Master) sendAck(l *wire.Link, k wire.Key, weight int) {
	m.cfg.History.Add(history.Event{Name: history.ResultAcked, Task: k.Task, N: k.N, Worker: l.Peer().Node})
	l.SendAck(k, weight)
}

// weigh returns about how many bytes a worker keeps for an outcome.
func weigh(o *tasks.Outcome) int {
	n := 128 + len(o.Text) + len(o.Value)
	for i := range o.Outputs {
		n += 128 + len(o.Outputs[i].Inline)
	}
	return n
}

// own makes the bytes of an outcome, which are the link's, its own.
func own(o *tasks.Outcome) {
	o.Value = bytes.Clone(o.Value)
	o.Outputs = slices.Clone(o.Outputs)
	for i := range o.Outputs {
		o.Outputs[i].Inline = bytes.Clone(o.Outputs[i].Inline)
	}
}

// finishLocked records a copy of the outcome of the current attempt, or tries again.
func (m *Master) finishLocked(t *task, o *tasks.Outcome) {
	if o.Code == tasks.Busy && t.stop == 0 && t.rejections() < maxRejects {
		m.turnedAwayLocked(t)
		return
	}
	if t.starts == 0 {
		t.starts = 1
	}
	if t.startedAt == 0 {
		t.startedAt = stampOf(o.Started)
	}
	again := o.Code != tasks.OK && o.Code != tasks.Cancelled && t.stop == 0 && int(t.retries) < t.class.options.Retry
	if again {
		m.releaseOutputs(o)
		t.retries++
		m.anotherLocked(t, int(t.retries)-1)
		return
	}
	s := tasks.StateFailed
	switch o.Code {
	case tasks.OK:
		s = tasks.StateDone
	case tasks.Cancelled:
		s = tasks.StateCancelled
	}
	m.endLocked(t, s, o)
}

// turnedAwayLocked tries t elsewhere, or later, whose worker took it and then could not
// start it for want of files or processes. As with one that was rejected that is no
// attempt.
func (m *Master) turnedAwayLocked(t *task) {
	m.stats.Rejected++
	t.starts = max(t.starts, 1) - 1
	more := t.more()
	more.rejects++
	m.holdLocked(t.at, 200*time.Millisecond)
	m.anotherLocked(t, more.rejects-1)
}

// anotherLocked has t, whose newest attempt has ended, tried again, see tryLaterLocked.
func (m *Master) anotherLocked(t *task, before int) {
	if t.durable() {
		m.recordRetryLocked(t)
	}
	m.tryLaterLocked(t, before)
	if t.bound == nil {
		m.spreadLocked(t.class)
	} else {
		m.dispatchLocked(t.bound)
	}
}

// rejections returns how many workers have turned t away.
func (t *task) rejections() int {
	if t.aside == nil {
		return 0
	}
	return t.aside.rejects
}

// fetchLocked brings the files that an attempt made here; the worker keeps them,
// and the outcome, until the ack.
func (m *Master) fetchLocked(l *wire.Link, t *task, o tasks.Outcome) {
	if m.closed { // the next start is told again
		return
	}
	w := t.at
	m.freeLocked(t)
	k := t.key()
	m.wg.Go(func() {
		w.fetching <- struct{}{}
		err := m.bring(w, l.Peer().Boot, t, k, o.Outputs)
		<-w.fetching
		m.mu.Lock()
		defer m.mu.Unlock()
		if t.state.Final() || t.step != ending || t.n != k.N || m.closed {
			return
		}
		if err != nil {
			if w.link == nil || w.boot != l.Peer().Boot { // what was staged is gone with its agent
				m.lostLocked(t, err)
				if t.waits && t.bound == nil {
					m.spreadLocked(t.class)
				}
				m.dispatchLocked(w)
				return
			}
			o = tasks.Outcome{Code: tasks.Internal, Text: err.Error(), Started: o.Started, Finished: o.Finished}
			if t.stop != 0 {
				o.Code, o.Text = tasks.Cancelled, "cancelled while its files were awaited: "+o.Text
			}
		}
		m.finishLocked(t, &o)
		if w.link != nil {
			m.ackLocked(w.link, t, k, wire.MaxFrameBytes)
		}
		m.dispatchLocked(w)
	})
	m.dispatchLocked(w)
}

// roomInterval is how often it is tried whether the disk has room again for files.
const roomInterval = 5 * time.Second

// bring fetches the files of an attempt, and again while there is no room for them. They
// are not waited for when t is cancelled, or when they cannot be had any more.
func (m *Master) bring(w *worker, boot string, t *task, k wire.Key, files []tasks.OutputFile) error {
	for told := false; ; told = true {
		named := slices.Clone(files) // by their hashes, when all are here
		err := m.fetch(m.ctx, w.id, named, t.durable())
		if err == nil {
			copy(files, named)
		}
		if err == nil || m.cfg.Full == nil || !m.cfg.Full(err) {
			return err
		}
		if !told {
			m.cfg.Logger.Printf("[WARN] tasks: files of a task wait for room: task=%s cause=%q", t.id, err)
		}
		select {
		case <-time.After(roomInterval):
		case <-m.ctx.Done():
		}
		m.mu.Lock()
		wanted := !m.closed && t.step == ending && t.n == k.N && t.stop == 0 && w.link != nil && w.boot == boot
		m.mu.Unlock()
		if !wanted {
			return err
		}
	}
}

// fetch brings the files that are named by hash here, all or none; those of a durable
// task onto the disk.
func (m *Master) fetch(ctx context.Context, node string, files []tasks.OutputFile, durable bool) error {
	for i := range files {
		if files[i].Blob == "" {
			continue
		}
		err := errors.New("this agent keeps no files")
		if m.cfg.Fetch != nil {
			err = m.cfg.Fetch(ctx, node, &files[i].Content)
		}
		if err == nil && durable {
			if err = m.cfg.Sync(&files[i].Content); err != nil {
				m.cfg.Release(&files[i].Content)
			}
		}
		if err != nil {
			for j := range files[:i] {
				m.cfg.Release(&files[j].Content)
			}
			return fmt.Errorf("output %q: %w", files[i].Name, err)
		}
	}
	return nil
}

// State: how the worker's view of these attempts differs. Those that it does not
// know have never arrived; or, if it was started anew, are lost.
func (m *Master) State(l *wire.Link, ss []wire.AttemptState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[l.Peer().Node]
	unknown := errors.New("the worker does not know it any more")
	anew := w != nil && w.anew && w.link == l
	if anew { // this is the answer to Reattach: no other comes before it
		w.anew, unknown = false, errAnew
	}
	for _, s := range ss {
		t := m.currentLocked(l, s.Key)
		if t == nil {
			continue
		}
		if s.From > 0 && s.State != wire.Unknown && t.step != ending {
			m.skipLocked(t, s.From)
		}
		if t.step == ending || s.State != wire.Unknown {
			m.noteLocked(history.Reattached, t)
			continue // accept, started or result follow by themselves
		}
		if anew || t.step >= granted {
			m.lostLocked(t, unknown)
			if t.waits && t.bound == nil {
				m.spreadLocked(t.class)
			}
			continue
		}
		m.unstartLocked(t)
		m.againLocked(t)
		if t.waits && t.bound == nil {
			m.spreadLocked(t.class)
		}
	}
	if anew {
		m.offerAssignedLocked(w)
	}
	if w != nil {
		m.dispatchLocked(w)
	}
}
