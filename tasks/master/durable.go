package master

import (
	"fmt"
	"slices"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/wire"
)

// Journal keeps records on disk; *journal.Journal does. See there.
type Journal interface {
	Try(done func(error), rs ...journal.Record)
	Write(done func(error), rs ...journal.Record)
	Get(k journal.Kind, id tasks.ID) ([]byte, error)
	Scan(k journal.Kind, after tasks.ID, each func(tasks.ID, []byte) error) error
}

// durable says that t is in the journal.
func (t *task) durable() bool { return t.run.durable }

// keeps says whether a submission with these options goes into the journal.
func (m *Master) keeps(o *tasks.Options) bool { return m.cfg.Journal != nil && !o.Ephemeral }

// acceptLocked puts new runs into the journal, those that belong there, and says that
// they are submitted. The lock is given up until they are on disk, all or none; on an
// error nothing is left of any.
func (m *Master) acceptLocked(news ...*submission) error {
	var records []journal.Record
	for _, n := range news {
		if n.run.durable {
			records = append(records, journal.Record{Kind: kindRun, ID: n.run.id, Value: n.run.encode(n.Submission, n.spec)})
		}
	}
	if len(records) > 0 {
		if err := m.journalRunsLocked(news, records); err != nil {
			err = fmt.Errorf("%w: %w", tasks.ErrNotKept, err)
			for _, n := range news {
				m.cfg.History.Add(history.Event{Name: history.Refused, Run: n.run.id, Why: err.Error()})
				m.undoLocked(n)
			}
			return err
		}
	}
	for _, n := range news {
		n.run.accepting = false
		m.submittedLocked(n)
	}
	return nil
}

// journalRunsLocked writes the records of new runs.
func (m *Master) journalRunsLocked(news []*submission, records []journal.Record) error {
	pin := func(d int) { // workers that the tasks are for stay meanwhile
		for _, n := range news {
			for _, w := range n.bound {
				if w.pinned += d; d < 0 {
					m.forgetWorkerLocked(w)
				}
			}
		}
	}
	pin(1)
	accepted := make(chan error, 1)
	m.cfg.Journal.Try(func(err error) { accepted <- err }, records...)
	m.mu.Unlock()
	err := <-accepted
	m.mu.Lock()
	pin(-1)
	m.journalWorksLocked(err)
	if err == nil && m.cfg.History.On() {
		for _, n := range news {
			for _, t := range n.run.tasks {
				m.cfg.History.Add(history.Event{Name: history.Journaled, Task: t.id, What: history.TheTask})
			}
		}
	}
	return err
}

// undoLocked forgets a new run, of which nothing was told to anybody.
func (m *Master) undoLocked(n *submission) {
	for _, t := range n.run.tasks {
		if t.step == ending || t.state.Final() { // cancelled meanwhile; that will not be on disk either
			continue
		}
		m.open--
		m.stats.Submitted--
		m.leaveClassLocked(t.class)
		m.releaseContentsLocked(t)
		delete(m.tasks, t.id)
	}
	delete(m.runs, n.run.id)
}

// journalWorksLocked writes down when the journal begins to refuse what is new, and when
// it does not any more.
func (m *Master) journalWorksLocked(err error) {
	switch off := err != nil; {
	case off == m.journalOff:
		return
	case off:
		m.cfg.History.Add(history.Event{Name: history.JournalOff, Why: err.Error()})
	default:
		m.cfg.History.Add(history.Event{Name: history.JournalOn})
	}
	m.journalOff = err != nil
}

// journalLocked writes a record of t, and goes on with then, under the lock, when it
// is on disk and nothing has happened to t meanwhile. What cannot be written now is
// written when the disk has room again.
func (m *Master) journalLocked(t *task, what history.What, then func(), rs ...journal.Record) {
	n, at := t.n, t.step
	m.cfg.Journal.Write(func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if err != nil {
			return
		}
		m.cfg.History.Add(history.Event{Name: history.Journaled, Task: t.id, N: n, What: what})
		if !m.closed && t.n == n && t.step == at {
			then()
		}
	}, rs...)
}

// recordAttemptLocked puts the newest attempt of t into the journal, before it leaves or,
// as granted, before it may start.
func (m *Master) recordAttemptLocked(t *task, at step, then func()) {
	rec := t.attemptRecord()
	rec.Granted = at == granting
	if at == granting || !t.class.options.AtMostOnce() {
		rec.Starts++ // from here on it may start
	}
	t.step = at
	m.journalLocked(t, history.TheAttempt, then, journal.Record{Kind: kindAttempt, ID: t.id, Value: encodeRecord(&rec)})
}

// attemptRecord returns what is kept of the newest attempt of t.
func (t *task) attemptRecord() attemptRecord {
	rec := attemptRecord{N: t.n, Starts: t.starts, Retries: t.retries}
	if w := t.at; w != nil { // else the attempt is over
		rec.Worker, rec.Name, rec.Boot = w.id, w.info.Name, w.boot
	}
	if t.aside != nil {
		rec.Deaths = t.aside.deaths
		for _, l := range t.aside.lost {
			rec.Lost = append(rec.Lost, lostRecord{l.n, l.node})
		}
	}
	return rec
}

// recordRetryLocked puts into the journal that the newest attempt of t failed and another
// is to be made. Its result is acknowledged when that is there.
func (m *Master) recordRetryLocked(t *task) {
	rec := t.attemptRecord()
	rec.Over = true
	n := t.n
	m.beforeAcksLocked(t, func() {
		m.cfg.History.Add(history.Event{Name: history.Journaled, Task: t.id, N: n, What: history.TheResult})
	}, journal.Record{Kind: kindAttempt, ID: t.id, Value: encodeRecord(&rec)})
}

// beforeAcksLocked writes records, or none. Results of t are acknowledged when these, and
// all that was written before, are on disk.
func (m *Master) beforeAcksLocked(t *task, written func(), rs ...journal.Record) {
	t.more().unsaved++
	m.cfg.Journal.Write(func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if err != nil {
			return
		}
		written()
		if t.aside.unsaved--; t.aside.unsaved == 0 && t.step != ending && !m.closed {
			m.sendAcksLocked(t.aside.takeAcks())
		}
	}, rs...)
}

// journalStopLocked puts into the journal that t is to be stopped.
func (m *Master) journalStopLocked(t *task) {
	m.cfg.Journal.Write(func(error) {}, journal.Record{Kind: kindCancel, ID: t.id, Value: encodeRecord(t.stop)})
}

// settleLocked puts the end of t into the journal, and makes it known when it is
// there. Until then t has no worker, unless it is the one that sent the result and
// waits for the ack.
func (m *Master) settleLocked(t *task, r *tasks.Result) {
	if t.step != ending {
		m.partLocked(t)
		t.step = ending
	}
	t.settled = true
	m.journalLocked(t, history.TheEnd, func() {
		acks := t.aside.takeAcks()
		m.concludeLocked(t, r)
		m.sendAcksLocked(acks)
	}, journal.Record{Kind: kindEnd, ID: t.id, Value: encodeEnd(r)}, journal.Record{Kind: kindAttempt, ID: t.id}, journal.Record{Kind: kindCancel, ID: t.id})
}

// awaitJournal waits until what was written so far is on disk, or the journal takes
// nothing.
func (m *Master) awaitJournal() {
	if m.cfg.Journal == nil {
		return
	}
	written := make(chan struct{})
	m.cfg.Journal.Try(func(error) { close(written) })
	<-written
}

func (m *Master) sendAcksLocked(acks []ack) {
	for _, a := range acks {
		if w := m.workers[a.node]; w != nil && w.link != nil {
			m.sendAck(w.link, a.key, a.weight)
		}
	}
}

// ack is one to be sent when what followed from a result is on disk.
type ack struct {
	node   string
	key    wire.Key
	weight int
}

// owesAck reports whether the peer of l is to be sent an ack for an attempt of t.
func (t *task) owesAck(l *wire.Link, k wire.Key) bool {
	return t.aside != nil && slices.ContainsFunc(t.aside.acks, func(a ack) bool { return a.key == k && a.node == l.Peer().Node })
}

// takeAcks returns the acks that are due.
func (a *aside) takeAcks() []ack {
	if a == nil {
		return nil
	}
	acks := a.acks
	a.acks = nil
	return acks
}
