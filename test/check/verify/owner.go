package verify

import (
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// ownerKey is an idempotency key: each agent has its own.
type ownerKey struct {
	owner *node
	key   string
}

// keyed is what a key was first used for.
type keyed struct {
	run  tasks.ID
	hash string
	at   point
}

// asked takes note of the first body that came with a key.
func (c *checker) asked(n *node, e *history.Event) {
	if e.Key == "" {
		return
	}
	if k := (ownerKey{n, e.Key}); c.keys[k] == nil {
		c.keys[k] = &keyed{hash: e.Hash, at: c.at}
	}
}

// submitted takes note of an id that was given out: perhaps again, for a key.
func (c *checker) submitted(n *node, e *history.Event) {
	if e.Key != "" {
		k := c.keys[ownerKey{n, e.Key}]
		switch {
		case k == nil:
			c.keys[ownerKey{n, e.Key}] = &keyed{e.Run, e.Hash, c.at}
		case k.run.IsZero() && (k.hash == e.Hash || e.Hash == ""):
			k.run, k.at = e.Run, c.at
		case k.run != e.Run:
			c.fail(16, c.task(e.Task), 0, []point{k.at, c.at}, "the key %q made the run %s and before that %s", e.Key, e.Run, k.run)
		case k.hash != e.Hash:
			c.fail(16, c.task(e.Task), 0, []point{k.at, c.at}, "the key %q was taken for another submission than the first", e.Key)
		}
	}
	t := c.task(e.Task)
	if t.submitted.is() {
		return
	}
	t.owner, t.submitted, t.boot = n, c.at, len(n.boots)
	t.run, t.kind, t.spec, t.atMostOnce, t.ephemeral = e.Run, e.Kind, e.Spec, e.AtMostOnce, e.Ephemeral
	n.owned = append(n.owned, t)
	if e.Worker != "" {
		t.bound = c.node(e.Worker)
		f := c.fanOut(e.Run)
		f.tasks = append(f.tasks, t)
	}
	if n.durable && !t.ephemeral && !t.durable {
		c.fail(1, t, 0, c.here(), "its id was given out before it was on disk")
	}
}

// journalOn checks, when a start has read its journal, that all is there that was.
func (c *checker) journalOn(n *node) {
	boot := len(n.boots)
	kept := n.owned[:0]
	for _, t := range n.owned {
		if t.ephemeral || t.gone {
			continue
		}
		if n.durable && t.boot < boot && t.recovered != boot {
			t.gone = true
			c.fail(1, t, 0, []point{t.submitted, c.at}, "after a restart of %s it is not there", n.id)
			continue
		}
		kept = append(kept, t)
	}
	n.owned = kept
	n.durable = true
}

func (c *checker) journaled(t *task, e *history.Event) {
	switch e.What {
	case history.TheTask:
		t.durable = true
	case history.TheAttempt:
		t.attempt(e.N).journaled = true
		if t.highest > 0 {
			t.attempt(t.highest).failed = true // whatever came of it, there is another
		}
	case history.TheResult:
		t.attempt(e.N).failed, t.attempt(e.N).retried = true, true
	case history.TheEnd:
		t.endOnDisk = true
	}
}

// offered checks that an attempt may leave.
func (c *checker) offered(n *node, t *task, e *history.Event) {
	c.report.Attempts++
	if t.owner == nil {
		t.owner = n
	}
	a := t.attempt(e.N)
	if t.highest >= e.N {
		c.fail(5, t, e.N, []point{t.attempt(t.highest).offered, c.at}, "it is offered after attempt %d", t.highest)
	}
	if n.durable && !t.ephemeral && !a.journaled {
		c.fail(5, t, e.N, c.here(), "it leaves and is not on disk")
	}
	if f := t.end; f != nil {
		c.fail(4, t, e.N, []point{f.at, c.at}, "it is offered and the task had ended as %s", f.state)
	}
	t.highest = max(t.highest, e.N)
	a.offered, a.worker, a.boot = c.at, c.node(e.Worker), len(n.boots)
	if t.bound != nil && a.worker != t.bound {
		c.fail(14, t, e.N, []point{t.submitted, c.at}, "it is offered to %s and is for %s alone", e.Worker, t.bound.id)
	}
}

// acked checks that the worker is told to forget a result only when it is on disk.
func (c *checker) acked(n *node, t *task, e *history.Event) {
	a := t.attempt(e.N)
	switch {
	case !n.durable || t.ephemeral || t.gone || !t.submitted.is() || t.endOnDisk || a.failed:
	case a.boot < len(n.boots) && a.offered.is():
		c.report.Excused++ // it was written by an earlier start, which did not live to say so
	default:
		c.fail(12, t, e.N, c.here(), "its result is acknowledged and not on disk")
	}
}

// answered checks that a client is told only of an end that is on disk.
func (c *checker) answered(n *node, t *task, e *history.Event) {
	if n.durable && !t.ephemeral && t.submitted.is() && !t.endOnDisk {
		c.fail(12, t, 0, c.here(), "a client is told that it is %s, and that is not on disk", e.State)
	}
	t.answers = append(t.answers, end{at: c.at, state: e.State, hash: e.Hash})
}

// ended checks that a task ends in one way, and as done only by a result.
func (c *checker) ended(n *node, t *task, f end) {
	if t.owner == nil {
		t.owner = n
	}
	if old := t.end; old != nil && (old.state != f.state || old.hash != f.hash && !old.found && !f.found) {
		c.fail(3, t, 0, []point{old.at, f.at}, "it ends as %s %s and had ended as %s %s", f.state, f.hash, old.state, old.hash)
	}
	if f.state == tasks.StateDone && !f.found && !t.has(f.hash) {
		c.fail(6, t, f.n, c.here(), "it is done with the result %s, which its owner was not sent", f.hash)
	}
	if t.end == nil {
		t.end = &f
	}
}

// has says that the owner has received the result.
func (t *task) has(hash string) bool {
	for i := range t.attempts {
		for _, r := range t.attempts[i].received {
			if r.hash == hash {
				return true
			}
		}
	}
	return false
}

// recovered takes note of a task that a start has found in its journal.
func (c *checker) recovered(n *node, t *task, e *history.Event) {
	t.recovered, t.durable = len(n.boots), true
	old := t.end
	switch {
	case e.State.Final():
		t.endOnDisk = true
		c.ended(n, t, end{at: c.at, state: e.State, found: true})
	case old != nil:
		c.fail(3, t, 0, []point{old.at, c.at}, "it had ended as %s and after a restart it has not", old.state)
	}
}

// fanOut is a run for several workers.
type fanOut struct {
	at      point
	targets []string
	tasks   []*task
}

func (c *checker) fanOut(run tasks.ID) *fanOut {
	f := c.runs[run]
	if f == nil {
		f = &fanOut{}
		c.runs[run] = f
	}
	return f
}
