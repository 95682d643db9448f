package master

import (
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/journal"
)

// retained are the runs that are in the journal and of which every task has ended,
// those that ended first in front.
type retained struct {
	runs  []retiree
	tasks int // of all of them
}

// retiree is such a run. It leaves the journal as a whole: a run without the end of
// one of its tasks is one that has not ended.
type retiree struct {
	run     tasks.ID
	tasks   []tasks.ID
	at      stamp           // when the last of them ended
	outputs []tasks.Content // files that they made, held
}

// add notes how one of the tasks ended.
func (e *retiree) add(r *tasks.Result) {
	e.tasks = append(e.tasks, r.ID)
	e.at = max(e.at, stampOf(r.FinishedAt))
	for i := range r.Outputs {
		if r.Outputs[i].Blob != "" {
			e.outputs = append(e.outputs, r.Outputs[i].Content)
		}
	}
}

// retireLocked takes note that all tasks of r, which is in the journal, have ended.
func (m *Master) retireLocked(r *Run) {
	e := retiree{run: r.id, tasks: make([]tasks.ID, 0, len(r.tasks))}
	for _, t := range r.tasks {
		e.add(t.result)
	}
	m.retained.runs = append(m.retained.runs, e)
	m.retained.tasks += len(e.tasks)
	m.expireLocked()
}

// expireLocked forgets the runs that ended long ago, and those that are too many.
func (m *Master) expireLocked() {
	runs := m.retained.runs
	old := stampOf(time.Now().Add(-m.cfg.Retain))
	n := 0
	for ; n < len(runs) && (runs[n].at < old || n < len(runs)-1 && m.retained.tasks > m.cfg.MaxRetained); n++ {
		e := &runs[n]
		m.retained.tasks -= len(e.tasks)
		gone := []journal.Record{{Kind: kindRun, ID: e.run}}
		for _, id := range e.tasks {
			gone = append(gone, journal.Record{Kind: kindEnd, ID: id})
			m.kept.dropLocked(id)
		}
		for i := range e.outputs {
			m.cfg.Release(&e.outputs[i])
		}
		m.cfg.History.Add(history.Event{Name: history.Forgotten, Tasks: e.tasks})
		m.cfg.Journal.Write(func(error) {}, gone...) // if it fails they are there at the next start
	}
	clear(runs[:n])
	m.retained.runs = runs[n:] // moved only when it is to grow: there may be 100,000
}
