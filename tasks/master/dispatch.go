package master

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// waitLocked notes that c has tasks that wait.
func (m *Master) waitLocked(c *class) {
	if slices.Contains(m.waiting, c) {
		return
	}
	i := 0
	for i < len(m.waiting) && m.waiting[i].priority >= c.priority {
		i++
	}
	m.waiting = slices.Insert(m.waiting, i, c)
}

func (m *Master) leaveClassLocked(c *class) {
	if c.tasks--; c.tasks > 0 {
		return
	}
	delete(m.classes, c.key)
	if i := slices.Index(m.waiting, c); i >= 0 {
		m.waiting = slices.Delete(m.waiting, i, i+1)
	}
}

// spreadLocked gives the tasks that wait in c to workers that have credit, the
// least loaded first.
func (m *Master) spreadLocked(c *class) {
	now := time.Now()
	for t := c.queue.first(); t != nil; t = c.queue.first() {
		w := m.pickLocked(c, t, now)
		if w == nil {
			return
		}
		c.queue.pop()
		m.assignLocked(t, w)
	}
	if i := slices.Index(m.waiting, c); i >= 0 && c.queue.len() == 0 {
		m.waiting = slices.Delete(m.waiting, i, i+1)
	}
}

// fewWorkers is up to how many candidates the least loaded one is looked for;
// among more, two are drawn and the less loaded is taken, which spreads nearly as
// well (Mitzenmacher, "The Power of Two Choices", 2001).
const fewWorkers = 16

// pickLocked returns the worker that t goes to now, or nil when none has credit.
func (m *Master) pickLocked(c *class, t *task, now time.Time) *worker {
	var found []*worker
	var best float64
	for _, w := range m.workers {
		if !m.mayTakeLocked(c, t, w, now) {
			continue
		}
		_, score := c.fits(w)
		switch {
		case len(found) == 0 || score > best:
			found, best = append(found[:0], w), score
		case score == best:
			found = append(found, w)
		}
	}
	if len(found) == 0 {
		return nil
	}
	if len(found) > fewWorkers {
		i, j := rand.IntN(len(found)), rand.IntN(len(found)-1)
		if j >= i {
			j++
		}
		found = []*worker{found[i], found[j]}
	}
	pick := found[0]
	ties := 1
	for _, w := range found[1:] {
		switch a, b := w.loaded(), pick.loaded(); {
		case a < b:
			pick, ties = w, 1
		case a == b:
			if ties++; rand.IntN(ties) == 0 {
				pick = w
			}
		}
	}
	return pick
}

// mayTakeLocked says whether w can be given t, which is in c, now.
func (m *Master) mayTakeLocked(c *class, t *task, w *worker, now time.Time) bool {
	if !w.usable(now) || w.creditFor(t) < c.slots || slices.Contains(t.avoid, w) || t.run.distinct && t.run.used[w] != nil && t.run.used[w] != t {
		return false
	}
	ok, _ := c.fits(w)
	return ok
}

// dispatchLocked gives w what it has credit for, and takes unstarted work back
// from others when nothing is left to give.
func (m *Master) dispatchLocked(w *worker) {
	now := time.Now()
	if now.Before(w.holdUntil) {
		return
	}
	for {
		t := w.queue.first()
		if t != nil && w.creditFor(t) < t.slots() {
			t = nil
		}
		var from *class
		for i := 0; i < len(m.waiting); i++ {
			c := m.waiting[i]
			if t != nil && t.priority() >= c.priority {
				break // waiting is ordered by priority
			}
			ct := c.queue.first()
			if ct == nil {
				m.waiting = slices.Delete(m.waiting, i, i+1)
				i--
				continue
			}
			if from != nil && (c.priority < from.priority || !older(ct, t)) {
				continue
			}
			if m.mayTakeLocked(c, ct, w, now) {
				t, from = ct, c
			}
		}
		if t == nil {
			break
		}
		t.queue().pop()
		m.assignLocked(t, w)
	}
	if w.inUse < w.info.Slots {
		m.recallLocked(w, now)
	}
}

// assignLocked gives t to w, where its next attempt opens as soon as there is a link.
func (m *Master) assignLocked(t *task, w *worker) {
	t.at, t.step = w, assigned
	w.inUse += t.slots()
	w.attempts[t.id] = t
	if t.run.distinct {
		for other, by := range t.run.used {
			if by == t {
				delete(t.run.used, other)
			}
		}
		t.run.used[w] = t
	}
	if w.link != nil {
		m.offerLocked(t)
		return
	}
	m.reachLocked(w)
}

// offerLocked opens the next attempt of t, on the link of its worker.
func (m *Master) offerLocked(t *task) {
	opt := &t.run.sub.Options
	t.n++
	t.step = offered
	if !opt.AtMostOnce() {
		t.starts++ // from here on it may start
	}
	m.stats.Attempts++
	if t.rec != nil {
		t.rec.restart()
		t.run.tellLocked(t)
	}
	t.at.link.SendOffer(&wire.Offer{
		Key: t.key(), Run: t.run.id, Index: t.index, Slots: uint32(opt.Slots), Priority: int16(opt.Priority),
		Timeout: opt.Timeout, AtMostOnce: opt.AtMostOnce(), Spec: t.run.spec,
	})
}

// recallLocked asks those that were sent more than they can run for what w, which
// has slots without work, could start at once.
func (m *Master) recallLocked(w *worker, now time.Time) {
	if !w.usable(now) {
		return
	}
	free := w.info.Slots - w.inUse
	for _, from := range m.workers {
		want := min(free, from.inUse-from.info.Slots)
		if from == w || from.link == nil || want <= 0 {
			continue
		}
		var keys []wire.Key
		for _, t := range from.attempts {
			if want < t.slots() || t.step != offered && t.step != accepted || t.bound != nil || t.stop != 0 || t.recalled() || !m.mayTakeLocked(t.run.class, t, w, now) {
				continue
			}
			t.noteRecall()
			keys = append(keys, t.key())
			want -= t.slots()
			free -= t.slots()
			if want <= 0 {
				break
			}
		}
		if len(keys) > 0 {
			from.link.SendRecall(keys)
		}
		if free <= 0 {
			return
		}
	}
}

func (t *task) noteRecall() {
	if t.run.recalled == nil {
		t.run.recalled = map[tasks.ID]uint32{}
	}
	t.run.recalled[t.id] = t.n
}

// recalled says that t was asked back already: once is enough, or two workers
// that look idle and loaded in turn would have it handed to and fro for ever.
func (t *task) recalled() bool { return t.run.recalled[t.id] > 0 }

// took folds how long a task took into what is typical of its worker.
func (w *worker) took(o *tasks.Outcome) {
	if o.Started.IsZero() {
		return // it never ran
	}
	d := max(0, o.Finished.Sub(o.Started))
	if w.run == 0 {
		w.run = d + 1
		return
	}
	w.run += (d - w.run) / 8
	w.run = max(w.run, 1)
}
