package master

import (
	"slices"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// lateRecord is what an attempt wrote that was given up, as its worker sends it on a
// link: on each anew, from the first byte that it still has.
type lateRecord struct {
	record
	link *wire.Link
}

// hadLocked says whether the peer of l had an attempt of t that was given up: ids of
// tasks can be guessed.
func (t *task) hadLocked(l *wire.Link, k wire.Key) bool {
	return t.aside != nil && slices.Contains(t.aside.lost, lost{k.N, l.Peer().Node})
}

// lateOutputLocked takes what an attempt wrote that was given up, for the case that its
// result counts. A worker sends at most wire.Window of it.
func (m *Master) lateOutputLocked(l *wire.Link, k wire.Key, s wire.Stream, b []byte) {
	t := m.tasks[k.Task]
	if t == nil || t.state.Final() || !t.hadLocked(l, k) {
		return
	}
	which := lost{k.N, l.Peer().Node}
	r := t.aside.late[which]
	if r == nil || r.link != l {
		r = &lateRecord{record: record{n: k.N}, link: l}
		if t.aside.late == nil {
			t.aside.late = map[lost]*lateRecord{}
		}
		t.aside.late[which] = r
	}
	if r.received <= wire.Window {
		r.add(s, b, true)
	}
}

// lateLocked handles the result of an attempt that was given up. If it tells how the
// task ended it counts, since another attempt can only tell the same again; unless
// something of what it wrote is missing, or would be mixed with what another wrote.
func (m *Master) lateLocked(l *wire.Link, t *task, k wire.Key, o *tasks.Outcome) {
	defer func() { m.ackLocked(l, t, k, weigh(o)) }()
	if !t.hadLocked(l, k) {
		m.cfg.Logger.Printf("[DEBUG] tasks: result of an attempt that the node never had: task=%s attempt=%d node=%s", t.id, k.N, l.Peer().Node)
		return
	}
	rec, whole := m.lateRecordLocked(l, t, k, uint64(o.StdoutBytes+o.StderrBytes))
	by := m.workers[l.Peer().Node]
	taken := t.run.used != nil && by != nil && t.siblingHas(by) // meanwhile, by another of the run
	far := slices.ContainsFunc(o.Outputs, func(f tasks.OutputFile) bool { return f.Blob != "" })
	if o.Code != tasks.OK || t.class.options.AtMostOnce() || far || taken || !whole || t.step == ending {
		m.cfg.Logger.Printf("[INFO] tasks: late result dropped: task=%s attempt=%d current=%d", t.id, k.N, t.n)
		switch { // a restart would look for it where it is forgotten, until there is another on disk
		case !t.durable() || t.step == ending:
		case k.N == t.n && t.at == nil:
			m.recordRetryLocked(t)
		default:
			m.beforeAcksLocked(t, func() {})
		}
		return
	}
	w := t.at
	if w != nil && w.link != nil && t.step > recording {
		w.link.SendCancel(t.key(), tasks.StopSuperfluous)
	}
	m.releaseLocked(t)
	t.n, t.rec, t.aside.by = k.N, rec, by
	if t.run.used != nil && by != nil {
		t.run.used[by.id] = t
	}
	m.takenLocked(t)
	m.endLocked(t, tasks.StateDone, o)
	if w != nil {
		m.dispatchLocked(w)
	}
}

// lateRecordLocked returns what is to be known of the output of t if an attempt that was
// given up, and wrote so many bytes, counts; and whether that is all of it.
func (m *Master) lateRecordLocked(l *wire.Link, t *task, k wire.Key, wrote uint64) (rec *record, whole bool) {
	which := lost{k.N, l.Peer().Node}
	late := t.aside.late[which]
	delete(t.aside.late, which)
	switch {
	case t.rec != nil && t.rec.received > 0 && t.rec.n != k.N:
		return nil, false
	case t.rec != nil && t.rec.received == wrote:
		return t.rec, true
	case late != nil && late.link == l && late.received == wrote:
		return &late.record, true
	}
	return nil, wrote == 0
}
