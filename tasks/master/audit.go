package master

import (
	"fmt"
	"time"

	"github.com/scagent/scagent/tasks"
)

// auditInterval is how often it is checked that every task goes on; of more than
// auditTasks, a random part each time, so that nobody waits for the lock for long.
const (
	auditInterval = 10 * time.Second
	auditTasks    = 50_000
)

func (m *Master) auditRepeatedly() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.auditLocked()
	if m.cfg.Journal != nil {
		m.expireLocked()
	}
	m.audit.Reset(auditInterval)
}

// auditLocked ends tasks that wait for a worker that will not come: when they were turned away
// others may have matched, which since took other tasks of the run.
//
// And it looks for tasks that have not ended and for which nothing is under
// way: no place in a queue, no link, no timer. There are none, unless there is a
// mistake in this package; then they are counted, and set going again.
func (m *Master) auditLocked() {
	looked := 0
	for _, t := range m.tasks {
		if looked++; looked > auditTasks {
			break
		}
		if t.waits && t.run.used != nil && t.aside != nil && len(t.aside.avoid) > 0 && !m.anyFitsLocked(t) {
			w := t.aside.avoid[len(t.aside.avoid)-1]
			m.endLocked(t, tasks.StateFailed, &tasks.Outcome{Code: tasks.Refused, Text: fmt.Sprintf("refused by %q, and no other worker is left for it: each has a task of the same run, or has refused this one", w.info.Name)})
			continue
		}
		if t.state.Final() || t.aliveLocked() {
			continue
		}
		m.stats.Stuck++
		m.cfg.Logger.Printf("[ERR] tasks: a task was stuck, and is set going again: task=%s state=%s step=%d attempt=%d", t.id, t.state, t.step, t.n)
		if w := t.at; w != nil {
			m.reachLocked(w)
		} else {
			m.againLocked(t)
			m.spreadLocked(t.class)
		}
	}
	for _, w := range m.workers {
		if w.queue.len() > 0 && w.link == nil && !w.dialling {
			m.dispatchLocked(w)
		}
	}
}

// aliveLocked says whether something will happen to t.
func (t *task) aliveLocked() bool {
	switch {
	case t.waits, t.resting, t.step == recording, t.step == granting, t.step == ending, t.run.accepting:
		return true
	case t.at == nil:
		return false
	}
	return t.at.link != nil || t.at.dialling
}
