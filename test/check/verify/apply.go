package verify

import (
	"math"
	"slices"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// apply takes note of an event of n, and checks what its own history alone decides.
func (c *checker) apply(n *node, e *history.Event) {
	switch e.Name {
	case history.Stopping:
		if b := n.boot(); !b.leaving.is() {
			b.leaving = c.at
		}
	case history.Stopped:
		c.stopped(n)
	case history.MemberDown:
		c.downs = append(c.downs, down{c.at, n, c.node(e.Peer), e.What})
	case history.Deliver:
		c.deliver(e)
	case history.Fault:
		c.report.Faults++
		up := int64(math.MaxInt64)
		if e.What == history.Kill {
			up = e.Wall
		}
		c.windows = append(c.windows, window{e.What, e.Peer, e.To, e.Wall, up})
	case history.FaultOver:
		for i := range c.windows {
			if w := &c.windows[i]; w.what == e.What && w.peer == e.Peer && w.to == e.To && w.up == math.MaxInt64 {
				w.up = e.Wall
			}
		}
	case history.Leftover:
		c.fail(18, nil, 0, c.here(), "%s %q was left on %s", e.What, e.Why, e.Peer)
	case history.Swept:
		c.swept++
	case history.JournalOn:
		c.journalOn(n)
	case history.Recovered:
		for _, id := range e.Tasks {
			c.recovered(n, c.task(id), e)
		}
	case history.Forgotten:
		for _, id := range e.Tasks {
			c.task(id).gone = true
		}
	case history.Submit:
		c.asked(n, e)
	case history.Submitted:
		c.submitted(n, e)
	case history.Targets:
		c.fanOut(e.Run).targets = slices.Clone(e.Workers)
		c.fanOut(e.Run).at = c.at
	case history.Journaled:
		c.journaled(c.task(e.Task), e)
	case history.Offered, history.Granted, history.ResultReceived, history.ResultAcked, history.Ended, history.CancelledTold, history.Answered, history.LeaseLost:
		c.owners(n, c.task(e.Task), e)
	case history.Rejected, history.Started, history.Finished, history.Killed, history.Revoked:
		c.workers(n, c.task(e.Task), e)
	}
}

func (c *checker) here() []point { return []point{c.at} }

// owners takes events of a task's owner.
func (c *checker) owners(n *node, t *task, e *history.Event) {
	switch e.Name {
	case history.Offered:
		c.offered(n, t, e)
	case history.Granted:
		if a := t.attempt(e.N); !a.granted.is() { // it may be sent again
			a.granted = c.at
		}
	case history.LeaseLost:
		c.report.LeasesLost++
		if e.What == history.ByOwner {
			t.attempt(e.N).lost = c.at
		}
	case history.ResultReceived:
		a := t.attempt(e.N)
		a.received = append(a.received, outcome{c.at, c.node(e.Worker), e.Hash, e.Why != ""})
	case history.ResultAcked:
		c.acked(n, t, e)
	case history.Ended:
		c.ended(n, t, end{at: c.at, state: e.State, hash: e.Hash, why: e.Why, n: e.N})
	case history.CancelledTold:
		if !t.told.is() {
			t.told = c.at
		}
	case history.Answered:
		c.answered(n, t, e)
	}
}

// workers takes events of a task's worker.
func (c *checker) workers(n *node, t *task, e *history.Event) {
	a := t.attempt(e.N)
	key := attemptKey{e.Task, e.N}
	switch e.Name {
	case history.Rejected:
		if e.Why == tasks.Refused.String() {
			n.refuses[e.Task] = c.at
		}
	case history.Started:
		c.report.Starts++
		a.starts = append(a.starts, start{at: c.at, node: n, boot: len(n.boots), spec: e.Spec})
		c.started(n, t, e)
		n.running[key] = running{e.Slots, c.at}
	case history.Finished, history.Killed:
		n.inUse -= n.running[key].slots
		delete(n.running, key)
		o := outcome{at: c.at, node: n, hash: e.Hash}
		if e.Name == history.Finished {
			if !slices.ContainsFunc(a.starts, func(s start) bool { return s.node == n }) {
				c.fail(6, t, e.N, c.here(), "it has finished on %s and never started there", n.id)
			}
			a.finished = append(a.finished, o)
			if i := len(a.starts) - 1; e.Why == tasks.Busy.String() && i >= 0 && a.starts[i].node == n {
				a.starts[i].void = true
			}
		} else {
			a.killed = append(a.killed, o)
		}
	case history.Revoked:
		a.revoked = append(a.revoked, outcome{at: c.at, node: n})
	}
}

// started checks where an attempt starts.
func (c *checker) started(n *node, t *task, e *history.Event) {
	if p, ok := n.refuses[e.Task]; ok {
		c.fail(14, t, e.N, []point{p, c.at}, "it runs on %s, which had refused it", n.id)
	}
	if e.Kind != "" && len(n.kinds) > 0 && !slices.Contains(n.kinds, e.Kind) {
		c.fail(14, t, e.N, []point{n.boot().first, c.at}, "a task of kind %s runs on %s, which runs only %v", e.Kind, n.id, n.kinds)
	}
	n.inUse += e.Slots - n.running[attemptKey{t.id, e.N}].slots
	if n.inUse > max(n.slots, n.worst) { // once, or all that follow would be told of too
		n.worst = n.inUse
		at := c.here()
		for _, r := range n.running {
			at = append(at, r.at)
		}
		c.fail(13, t, e.N, at, "%s runs attempts on %d slots and has %d", n.id, n.inUse, n.slots)
	}
}

// stopped checks that a worker that says so has nothing left that runs.
func (c *checker) stopped(n *node) {
	n.boot().ended = true
	for k, r := range n.running {
		c.fail(18, c.tasks[k.task], k.n, []point{r.at, c.at}, "%s has stopped and the attempt was not said to have ended", n.id)
	}
}
