package verify

import (
	"slices"
	"strings"

	"github.com/scagent/scagent/tasks/history"
)

// client is who reads a feed.
type client struct {
	next uint64
	at   point
}

// deliver: I20.
func (c *checker) deliver(e *history.Event) {
	cl := c.clients[e.Client]
	if cl == nil {
		cl = &client{}
		c.clients[e.Client] = cl
	} else if want := cl.next; e.Seq < want || e.Seq > want && e.Why != history.WhyMissed {
		what := "a gap"
		if e.Seq < want {
			what = "a repeat"
		}
		c.fail(20, nil, 0, []point{cl.at, c.at}, "client %q got event %d after %d: %s, and was not told", e.Client, e.Seq, want-1, what)
	}
	cl.next, cl.at = e.Seq+1, c.at
}

// down is that a node saw another go.
type down struct {
	at         point
	by, member *node
	what       history.What
}

// judgePool: I19.
func (c *checker) judgePool() {
	for _, d := range c.downs {
		if d.what != history.MemberFailed {
			continue
		}
		c.report.MembersFailed++
		if !d.member.steady(d.at, int64(c.cfg.Steady)) || !d.by.steady(d.at, int64(c.cfg.Steady)) {
			continue
		}
		loss, other := false, false
		for i := range c.windows {
			w := &c.windows[i]
			if w.from <= d.at.wall && w.up >= d.at.wall-int64(c.cfg.Steady) && w.touches(d.by, d.member) {
				loss = loss || w.what == history.Loss
				other = other || w.what != history.Loss
			}
		}
		switch {
		case other:
		case loss:
			c.report.FalselyFailed++
		default:
			c.fail(19, nil, 0, []point{d.at}, "%s reports %s as failed, which was up and could be reached for %v", d.by.id, d.member.id, c.cfg.Steady)
		}
	}
}

// steady says that a node was surely up all the time before p.
func (n *node) steady(p point, long int64) bool {
	for i := range n.boots {
		b := &n.boots[i]
		end := b.last
		if b.leaving.is() {
			end = b.leaving
		}
		if b.first.host == p.host && p.mono-b.first.mono >= long && !p.after(end, 0) {
			return true
		}
	}
	return false
}

// judgeFanOut: I14 of runs for several workers.
func (c *checker) judgeFanOut() {
	var runs []*fanOut
	for _, f := range c.runs {
		if f.at.is() { // else there was no telling whom it was to be for
			runs = append(runs, f)
		}
	}
	slices.SortFunc(runs, func(a, b *fanOut) int { return a.at.compare(b.at) })
	for _, f := range runs {
		var has []string
		at := []point{f.at}
		var owner *node
		for _, t := range f.tasks {
			has = append(has, t.bound.id)
			at = append(at, t.submitted)
			owner = t.owner
		}
		want := slices.Clone(f.targets)
		slices.Sort(has)
		slices.Sort(want)
		if slices.Equal(has, want) {
			continue
		}
		if owner == nil || owner.blind(f.at, f.at.next()) && len(has) < len(want) {
			c.report.Excused++ // it was cut short while it gave out the ids
			continue
		}
		c.fail(14, nil, 0, at, "a run for %s has tasks for %s", strings.Join(want, " "), strings.Join(has, " "))
	}
}

func (p point) compare(q point) int {
	if p.file != q.file {
		return int(p.file - q.file)
	}
	return int(p.line - q.line)
}

// next is a point just after p.
func (p point) next() point {
	p.mono++
	return p
}

// judgeDuplicates: I9.
func (c *checker) judgeDuplicates() {
	r := c.report
	quiet := r.Faults == 0 && r.Restarts == 0 && r.LeasesLost == 0
	for _, t := range c.order {
		starts := 0
		for _, run := range t.runs {
			if run.start > 0 {
				starts++
			}
		}
		var at []point
		failed := t.again()
		for i := range t.attempts {
			a := &t.attempts[i]
			if slices.ContainsFunc(a.starts, func(s start) bool { return s.void }) {
				continue
			}
			for _, s := range a.starts {
				at = append(at, s.at)
			}
		}
		starts = max(starts, len(at))
		if extra := starts - 1 - failed; extra > 0 {
			r.Duplicates += extra
			if quiet {
				c.fail(9, t, 0, at, "it was started %d times and nothing was the matter", starts)
			}
		}
	}
}
