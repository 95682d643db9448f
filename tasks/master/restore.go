package master

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/wire"
)

// restore is what is known while the journal of an earlier start is read.
type restore struct {
	m        *Master
	ends     map[tasks.ID]bool // tasks that have ended; false once their run was seen
	attempts map[tasks.ID]*attemptRecord
	stops    map[tasks.ID]tasks.StopReason
	newest   tasks.ID
	states   map[tasks.State][]tasks.ID // what was found, by final state; "": not final
}

// tell writes down what was found.
func (rs *restore) tell() {
	h := rs.m.cfg.History
	for state, ids := range rs.states {
		for part := range slices.Chunk(ids, 1000) {
			h.Add(history.Event{Name: history.Recovered, Tasks: part, State: state})
		}
	}
	h.Add(history.Event{Name: history.JournalOn})
}

// restoreLocked takes up what the journal has from an earlier start: what had not
// ended waits, or is with the worker that had it, to which Resume dials.
func (m *Master) restoreLocked() error {
	rs := restore{m: m, ends: map[tasks.ID]bool{}, attempts: map[tasks.ID]*attemptRecord{}, stops: map[tasks.ID]tasks.StopReason{}, states: map[tasks.State][]tasks.ID{}}
	err := m.cfg.Journal.Scan(kindEnd, tasks.ID{}, func(id tasks.ID, _ []byte) error {
		rs.ends[id] = true
		return nil
	})
	if err == nil {
		err = m.cfg.Journal.Scan(kindAttempt, tasks.ID{}, rs.attempt)
	}
	if err == nil {
		err = m.cfg.Journal.Scan(kindCancel, tasks.ID{}, rs.stop)
	}
	if err == nil {
		err = m.cfg.Journal.Scan(kindRun, tasks.ID{}, func(id tasks.ID, b []byte) error {
			if err := rs.runLocked(id, b); err != nil {
				return fmt.Errorf("run %s: %w", id, err)
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for id, stray := range rs.ends { // of a run that was cancelled before it was in the journal, and never got there
		if stray {
			m.cfg.Journal.Write(func(error) {}, journal.Record{Kind: kindEnd, ID: id})
		}
	}
	m.ids.Past(rs.newest)
	slices.SortFunc(m.retained.runs, func(a, b retiree) int { return cmp.Compare(a.at, b.at) })
	m.expireLocked()
	rs.tell()
	return nil
}

func (rs *restore) attempt(id tasks.ID, b []byte) error {
	a := new(attemptRecord)
	if err := decodeRecord(b, a); err != nil {
		return fmt.Errorf("attempt of task %s: %w", id, err)
	}
	rs.attempts[id] = a
	return nil
}

func (rs *restore) stop(id tasks.ID, b []byte) error {
	var r tasks.StopReason
	if err := decodeRecord(b, &r); err != nil {
		return fmt.Errorf("cancellation of task %s: %w", id, err)
	}
	rs.stops[id] = r
	return nil
}

// runLocked takes up a run. One whose tasks have all ended stays on disk.
func (rs *restore) runLocked(id tasks.ID, b []byte) error {
	m := rs.m
	var rec runRecord
	if err := decodeRecord(b, &rec); err != nil {
		return err
	}
	open := 0
	for _, tr := range rec.Tasks {
		rs.newest = later(rs.newest, tr.ID)
		if !rs.ends[tr.ID] {
			open++
		}
	}
	rs.newest = later(rs.newest, id)
	r, err := m.revive(id, &rec)
	if err != nil {
		return err
	}
	if m.cfg.History.On() {
		for _, t := range r.tasks {
			state := t.state
			if !state.Final() {
				state = ""
			}
			rs.states[state] = append(rs.states[state], t.id)
		}
	}
	if open == 0 {
		m.retained.tasks += r.count
		e := retiree{run: id}
		for _, res := range r.results {
			rs.ends[res.ID] = false
			e.add(res)
			m.holdOutputs(res)
		}
		m.retained.runs = append(m.retained.runs, e)
		return nil
	}
	s, err := rec.submission()
	if err != nil {
		return err
	}
	own := tasks.ID{}
	if s.Target.N > 1 {
		own, r.used = id, map[string]*task{}
	}
	c, err := m.classLocked(classOf(&s, nil, own), &s, nil)
	if err != nil {
		return err
	}
	m.enterClassLocked(c) // so that it stays
	defer m.leaveClassLocked(c)
	for i, t := range r.tasks {
		t.class = c
		m.tasks[t.id] = t
		if t.result != nil {
			rs.ends[t.id] = false
			m.holdOutputs(t.result)
			m.kept.addLocked(t)
			if r.used != nil && t.result.WorkerID != "" {
				r.used[t.result.WorkerID] = t
			}
			continue
		}
		m.enterClassLocked(c)
		m.open++
		t.spec = rec.Spec
		if cs := contents(&s.Task); len(cs) > 0 {
			m.keepLocked(t, cs)
		}
		if w := rec.Tasks[i].Worker; w != "" {
			t.bound = m.absentLocked(w, rec.Tasks[i].Name)
		}
		t.stop = rs.stops[t.id]
		switch a := rs.attempts[t.id]; {
		case a != nil:
			t.resumeLocked(a)
			if a.Over && t.stop != 0 {
				m.cancelLocked(t, t.stop)
			} else if a.Over {
				m.enqueueLocked(t, false)
			}
		case t.stop != 0:
			m.cancelLocked(t, t.stop)
		default:
			m.enqueueLocked(t, false)
		}
	}
	m.keepRunLocked(r)
	return nil
}

// resumeLocked puts t back to the worker that has its newest attempt, if that is not over.
func (t *task) resumeLocked(a *attemptRecord) {
	t.n, t.starts, t.retries = a.N, a.Starts, a.Retries
	if len(a.Lost) > 0 || a.Deaths > 0 {
		t.more().deaths = a.Deaths
		for _, l := range a.Lost {
			t.aside.lost = append(t.aside.lost, lost{l.N, l.Node})
		}
	}
	if a.Over {
		return
	}
	m := t.run.m
	w := m.absentLocked(a.Worker, a.Name)
	w.boot = max(w.boot, a.Boot) // what an earlier start of it had, this one does not know
	t.at, t.step = w, offered
	if a.Granted {
		t.step = granted
	}
	w.attempts.add(t)
	m.takeSlotsLocked(w, t.slots())
	if t.run.used != nil {
		t.run.used[w.id] = t
	}
}

// absentLocked returns a worker of before, which may come back.
func (m *Master) absentLocked(node, name string) *worker {
	w := m.workerLocked(node)
	if w.info.Name == "" {
		w.info.Name = name
	}
	return w
}

func later(a, b tasks.ID) tasks.ID {
	if string(a[:]) < string(b[:]) {
		return b
	}
	return a
}

func (m *Master) holdOutputs(r *tasks.Result) {
	for i := range r.Outputs {
		if r.Outputs[i].Blob != "" {
			m.cfg.Hold(&r.Outputs[i].Content)
		}
	}
}

// submission returns what was submitted.
func (rec *runRecord) submission() (tasks.Submission, error) {
	t, err := wire.DecodeTask(rec.Spec)
	return tasks.Submission{Task: t, Target: rec.Target, Options: rec.Options, Needs: rec.Needs}, err
}

// revive makes a run, that nobody else has, of its record and those of the tasks
// that have ended.
func (m *Master) revive(id tasks.ID, rec *runRecord) (*Run, error) {
	r := &Run{m: m, id: id, several: rec.Target.Several(), sealed: true, durable: true, count: len(rec.Tasks), known: len(rec.Tasks)}
	r.tasks = make([]*task, len(rec.Tasks))
	batch := make([]task, len(rec.Tasks))
	for i, tr := range rec.Tasks {
		t := &batch[i]
		r.tasks[i] = t
		t.id, t.run, t.index, t.state, t.queuedAt = tr.ID, r, uint32(i), tasks.StateQueued, rec.QueuedAt
		b, err := m.cfg.Journal.Get(kindEnd, tr.ID)
		if errors.Is(err, journal.ErrNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if t.result, err = decodeEnd(tr.ID, b); err != nil {
			return nil, err
		}
		t.n, t.state = t.result.Attempt, t.result.State
		t.rec = recordOf(t.result)
		r.ended++
		r.results = append(r.results, t.result)
	}
	return r, nil
}

// recordOf is what is kept of the output of a task that has ended.
func recordOf(r *tasks.Result) *record {
	if len(r.Stdout)+len(r.Stderr) == 0 {
		return nil
	}
	rec := &record{received: uint64(len(r.Stdout) + len(r.Stderr))}
	rec.taken = rec.received
	rec.copies[wire.Stdout] = copied{head: r.Stdout, cut: r.StdoutCut}
	rec.copies[wire.Stderr] = copied{head: r.Stderr, cut: r.StderrCut}
	return rec
}

// Resume dials the workers that have attempts from before this start, or for which
// tasks wait, and gives them up after Config.Grace; from then on workers are dialled as
// they are needed. It is called once, when links can be had.
func (m *Master) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	until := time.Now().Add(m.cfg.Grace)
	m.resumed = true
	for _, w := range m.workers {
		patient := w.queue.len() > 0 // no other can have these
		switch {
		case w.link != nil || w.dialling:
		case patient || w.hasSent():
			w.dialling = true
			m.wg.Go(func() { m.redial(w, until, patient) })
		case w.attempts.n > 0: // assigned since New
			m.reachLocked(w)
		}
	}
	m.audit = time.AfterFunc(auditInterval, m.auditRepeatedly)
}

// hasSent says whether w may have some of its attempts.
func (w *worker) hasSent() bool {
	for t := range w.attempts.each() {
		if t.step > recording {
			return true
		}
	}
	return false
}
