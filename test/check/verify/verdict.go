package verify

import (
	"math"
	"slices"

	"github.com/scagent/scagent/tasks"
)

// judgeTask says what is wrong with a task when all was read.
func (c *checker) judgeTask(t *task, truth bool) {
	r := c.report
	if !t.submitted.is() {
		r.Unasked++
	} else {
		r.Tasks++
	}
	if f := t.end; f != nil {
		r.count(f.state)
		c.judgeEnd(t, f)
		c.judgeAfterEnd(t, f)
	} else if t.submitted.is() {
		c.judgeUnended(t)
	}
	for i := range t.attempts {
		c.judgeAttempt(t, &t.attempts[i])
		c.judgeRevoked(t, &t.attempts[i])
	}
	c.judgeOnce(t)
	if truth {
		c.judgeRuns(t)
	}
}

// judgeUnended: I2.
func (c *checker) judgeUnended(t *task) {
	from := max(t.submitted.wall, c.lastFault())
	switch {
	case t.ephemeral && t.boot < len(t.owner.boots): // it went with its owner's start
		c.report.Gone++
	case c.end < from || c.end-from < int64(c.cfg.Settle):
		c.report.Early++
	default:
		last := t.submitted
		for i := range t.attempts {
			if a := &t.attempts[i]; a.offered.is() {
				last = a.offered
			}
		}
		c.fail(2, t, 0, []point{t.submitted, last}, "it has not ended")
	}
}

// judgeEnd: I6, and of the others what they say of the final state.
func (c *checker) judgeEnd(t *task, f *end) {
	for _, a := range t.answers {
		if a.state != f.state {
			c.fail(3, t, 0, []point{f.at, a.at}, "a client was told that it is %s and it ended as %s", a.state, f.state)
		} else if a.hash != f.hash && !f.found {
			c.fail(17, t, 0, []point{f.at, a.at}, "a client was given the result %s and it ended with %s", a.hash, f.hash)
		}
	}
	switch f.state {
	case tasks.StateDone:
		c.judgeDone(t, f)
	case tasks.StateLost:
		granted := slices.ContainsFunc(t.attempts, func(a attempt) bool { return a.granted.is() })
		switch {
		case !t.atMostOnce || granted || f.why == tasks.NeverReached.String():
		case f.found || t.owner.blind(t.submitted, f.at):
			c.report.Excused++
		default:
			c.fail(7, t, 0, []point{f.at}, "it is lost, runs at most once, and was never granted")
		}
	}
}

// judgeDone: I6.
func (c *checker) judgeDone(t *task, f *end) {
	at := []point{f.at}
	var unseen bool
	for i := range t.attempts {
		a := &t.attempts[i]
		for _, o := range a.finished {
			if o.hash == f.hash || f.found {
				return
			}
			at = append(at, o.at)
		}
		unseen = unseen || a.worker != nil && a.worker.blind(a.offered, f.at)
	}
	if unseen {
		c.report.Excused++
		return
	}
	c.fail(6, t, f.n, at, "it is done with the result %s, which no worker has made", f.hash)
}

// judgeAfterEnd: I4 at the workers. One that was on its way when the task ended may
// still start, and one that was given up may run on.
func (c *checker) judgeAfterEnd(t *task, f *end) {
	for i := range t.attempts {
		a := &t.attempts[i]
		for _, s := range a.starts {
			late := s.at.after(f.at, int64(c.cfg.Slack)) && s.at.wall > c.patience(f.at.wall, s.node, t.owner)
			if late && !a.lost.is() {
				c.fail(4, t, a.n, []point{f.at, s.at}, "it starts on %s and the task had ended as %s", s.node.id, f.state)
			}
		}
	}
}

// judgeAttempt: I5 and I17 at the workers.
func (c *checker) judgeAttempt(t *task, a *attempt) {
	for _, s := range a.starts {
		switch {
		case !a.offered.is():
			if t.owner == nil || t.owner.blind(t.submitted, s.at) {
				c.report.Excused++
			} else {
				c.fail(5, t, a.n, []point{s.at}, "it starts on %s and was never offered", s.node.id)
			}
		case a.worker != s.node:
			c.fail(5, t, a.n, []point{a.offered, s.at}, "it starts on %s and was offered to %s", s.node.id, a.worker.id)
		case a.offered.after(s.at, int64(c.cfg.Slack)):
			c.fail(5, t, a.n, []point{s.at, a.offered}, "it starts on %s before it is offered", s.node.id)
		}
		if t.spec != "" && s.spec != "" && t.spec != s.spec {
			c.fail(17, t, a.n, []point{t.submitted, s.at}, "what runs on %s is not what was submitted", s.node.id)
		}
	}
	for _, r := range a.received {
		made := func(o outcome) bool { return o.hash == r.hash }
		switch {
		case len(a.finished) > 0 && !slices.ContainsFunc(a.finished, made):
			c.fail(17, t, a.n, []point{a.finished[0].at, r.at}, "its result arrives as %s and was %s", r.hash, a.finished[0].hash)
		case len(a.finished) == 0 && len(a.starts) > 0:
			// Cancelled before it started, it has a result that nobody ran for.
			if r.node.blind(a.starts[0].at, r.at) {
				c.report.Excused++
			} else {
				c.fail(6, t, a.n, []point{a.starts[0].at, r.at}, "its result arrives and it has not finished")
			}
		}
	}
}

// judgeRevoked: I11.
func (c *checker) judgeRevoked(t *task, a *attempt) {
	for _, v := range a.revoked {
		n := v.node
		until := c.patience(v.at.wall, n)
		over := false
		for _, o := range slices.Concat(a.finished, a.killed) {
			over = over || o.node == n && o.at.wall <= until
		}
		for _, s := range a.starts {
			if s.node == n && s.at.after(v.at, 0) {
				c.fail(11, t, a.n, []point{v.at, s.at}, "it starts on %s, which had been told to stop it", n.id)
			}
			if s.node == n && v.at.after(s.at, 0) && !over && c.end > until && !n.blind(v.at, point{mono: math.MaxInt64, host: v.at.host, line: 1}) {
				c.fail(11, t, a.n, []point{v.at}, "it was to stop on %s and has not in time", n.id)
			}
		}
		for _, r := range t.runs {
			if r.n == a.n && max(r.start, r.end) > until {
				c.fail(11, t, a.n, []point{v.at}, "it was to stop on %s and by its own word ran %v too long", n.id, span(until, max(r.start, r.end)))
			}
		}
	}
}

// again counts the attempts after which there was another because they had failed, as was
// asked for.
func (t *task) again() (n int) {
	for i := range t.attempts {
		a := &t.attempts[i]
		if i+1 < len(t.attempts) && (a.retried || slices.ContainsFunc(a.received, func(o outcome) bool { return o.bad })) {
			n++
		}
	}
	return n
}

// judgeOnce: I7 by the histories.
func (c *checker) judgeOnce(t *task) {
	if !t.atMostOnce {
		return
	}
	var at []point
	for i := range t.attempts {
		a := &t.attempts[i]
		for _, s := range a.starts {
			if s.void {
				continue // by the truth that is known too, see judgeRuns
			}
			at = append(at, s.at)
			if a.granted.is() && !a.granted.after(s.at, int64(c.cfg.Slack)) {
				continue
			}
			if !a.granted.is() && (t.owner == nil || t.owner.blind(a.offered, s.at)) {
				c.report.Excused++
				continue
			}
			c.fail(7, t, a.n, []point{s.at, a.granted}, "it runs at most once and starts without a grant")
		}
	}
	if len(at) > 1+t.again() {
		c.fail(7, t, 0, at, "it runs at most once and starts %d times", len(at))
	}
}
