package master

import (
	"fmt"
	"maps"
	"slices"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/wire"
)

// waitLocked notes that c has tasks that wait.
func (m *Master) waitLocked(c *class) {
	if c.listed {
		return
	}
	c.listed = true
	i := 0
	for i < len(m.waiting) && m.waiting[i].options.Priority >= c.options.Priority {
		i++
	}
	m.waiting = slices.Insert(m.waiting, i, c)
}

func (m *Master) unwaitLocked(c *class) {
	if !c.listed {
		return
	}
	c.listed = false
	i := slices.Index(m.waiting, c)
	m.waiting = slices.Delete(m.waiting, i, i+1)
}

// spreadLocked gives the tasks that wait in c to workers that have credit, the
// least loaded first.
func (m *Master) spreadLocked(c *class) {
	for t := c.queue.first(); t != nil; t = c.queue.first() {
		w := m.pickLocked(c, t)
		if w == nil && t.choosy() {
			t, w = m.pickBehindLocked(c)
		}
		if w == nil {
			return
		}
		c.queue.take(t)
		m.assignLocked(t, w)
	}
	m.unwaitLocked(c)
}

// choosy says that there are workers that t cannot go to and others of its class can:
// it must not keep those that wait behind it from going there.
func (t *task) choosy() bool {
	return t.run.used != nil || t.aside != nil && len(t.aside.avoid) > 0
}

// maxPassed is how many choosy tasks are passed in a queue. More are hardly ever the
// first, and to look at all of them each time would take too long.
const maxPassed = 64

// behindLocked yields the first tasks that wait in c, up to one that is not choosy.
func (c *class) behindLocked(yield func(*task) bool) {
	passed := 0
	for t := range c.queue.each() {
		if passed++; !yield(t) || !t.choosy() || passed > maxPassed {
			return
		}
	}
}

// pickBehindLocked returns the first task that can go somewhere, and where, or nil.
func (m *Master) pickBehindLocked(c *class) (*task, *worker) {
	for t := range c.behindLocked {
		if w := m.pickLocked(c, t); w != nil {
			return t, w
		}
	}
	return nil, nil
}

// firstForLocked returns the first task that waits in c, or one behind it if w cannot
// take it because it is choosy.
func (m *Master) firstForLocked(c *class, w *worker) *task {
	first := c.queue.first()
	if first == nil || !first.choosy() {
		return first
	}
	for t := range c.behindLocked {
		if m.hasRoomLocked(c, t, w) {
			return t
		}
	}
	return nil
}

// fewWorkers is up to how many candidates the least loaded one is looked for;
// among more, two are drawn and the less loaded is taken, which spreads nearly as
// well (Mitzenmacher, "The Power of Two Choices", 2001).
const fewWorkers = 16

// pickLocked returns the worker that t goes to now, or nil when none has credit.
// Workers of c.ready that have no credit after all are taken out, so that each
// is come across once.
func (m *Master) pickLocked(c *class, t *task) *worker {
	if len(c.ready) > fewWorkers && c.demands.prefer == nil {
		a, b := m.drawLocked(c, t), m.drawLocked(c, t)
		switch {
		case a != nil && (b == nil || a.loaded() <= b.loaded()):
			return a
		case b != nil:
			return b
		}
	}
	candidates := c.ready
	if c.dynamic {
		candidates = m.matchingLocked(c)
	}
	var pick *worker
	var best float64
	ties := 0
	for i := len(candidates) - 1; i >= 0; i-- { // backwards: taking one out moves the last into its place
		w := candidates[i]
		if !m.mayTakeLocked(c, t, w) {
			m.strikeLocked(c, w)
			continue
		}
		_, score := c.takes(w)
		switch a := w.loaded(); {
		case pick == nil || score > best || score == best && a < pick.loaded():
			pick, best, ties = w, score, 1
		case score == best && a == pick.loaded():
			if ties++; m.random.IntN(ties) == 0 {
				pick = w
			}
		}
	}
	return pick
}

// drawLocked returns a random worker that can be given t, or nil after a few
// draws that were none.
func (m *Master) drawLocked(c *class, t *task) *worker {
	for range 8 {
		if len(c.ready) == 0 {
			return nil
		}
		w := c.ready[m.random.IntN(len(c.ready))]
		if m.mayTakeLocked(c, t, w) {
			return w
		}
		m.strikeLocked(c, w)
	}
	return nil
}

// strikeLocked takes a worker out of c.ready if it has no credit.
func (m *Master) strikeLocked(c *class, w *worker) {
	if !w.usable() || w.creditFor(c) < c.options.Slots {
		c.unready(w)
	}
}

// openLocked notes that w has credit: it is drawn for new tasks again.
func (m *Master) openLocked(w *worker) {
	if w.open {
		return
	}
	w.open = true
	m.opened++
	for _, c := range m.live {
		c.makeReady(w)
	}
}

// mayTakeLocked says whether w can be given t, which is in c, now.
func (m *Master) mayTakeLocked(c *class, t *task, w *worker) bool {
	return m.hasRoomLocked(c, t, w) && w.creditFor(c) >= c.options.Slots
}

// hasRoomLocked is mayTakeLocked but for the slots.
func (m *Master) hasRoomLocked(c *class, t *task, w *worker) bool {
	if !w.usable() || m.reservedLocked(w, t) ||
		t.aside != nil && slices.Contains(t.aside.avoid, w) || t.run.used != nil && t.siblingHas(w) {
		return false
	}
	ok, _ := c.takes(w)
	return ok
}

// siblingHas says whether another task of t's run, which go to different workers, is on w
// or has run there. One that was turned away, or lost, leaves it to the others.
func (t *task) siblingHas(w *worker) bool {
	o := t.run.used[w.id]
	return o != nil && o != t && (o.at == w || o.aside != nil && o.aside.by == w || o.result != nil && o.result.Attempt > 0 && o.result.WorkerID == w.id)
}

// reservedLocked says whether w keeps its free slots for another task than t.
func (m *Master) reservedLocked(w *worker, t *task) bool {
	r := w.reserved
	if r == nil || r == t {
		return false
	}
	if r.waits && r.queue().first() == r && r.slots() <= w.info.Slots {
		return true
	}
	w.reserved = nil
	return false
}

// reserveLocked keeps the slots of w that get free for t, which takes several of
// them: else tasks that take one, each going where one is free, could keep it
// waiting for ever. One worker at a time does that for a class.
func (m *Master) reserveLocked(w *worker, t *task) bool {
	if t.bound == nil {
		c := t.class
		if o := c.reserved; o != nil && o != w && o.usable() && o.reserved == t && m.reservedLocked(o, nil) {
			return false
		}
		c.reserved = w
	}
	w.reserved = t
	return true
}

// dispatchLocked gives w what it has credit for, and takes unstarted work back
// from others when nothing is left to give.
func (m *Master) dispatchLocked(w *worker) {
	if w.held() {
		return
	}
	for {
		t := m.turnLocked(w)
		if t == nil {
			break
		}
		if w.creditFor(t.class) < t.slots() {
			return // reserved
		}
		t.queue().take(t)
		if t.class.queue.len() == 0 {
			m.unwaitLocked(t.class)
		}
		m.assignLocked(t, w)
	}
	m.openLocked(w)
	if w.inUse < w.info.Slots {
		m.recallLocked(w)
	}
}

// firstBoundLocked returns the first task that waits for w and no other. Those that take
// more slots than w has now, which it will never start, are ended.
func (m *Master) firstBoundLocked(w *worker) *task {
	t := w.queue.first()
	for t != nil && w.listed && t.slots() > w.info.Slots {
		m.failNeverLocked(t, tasks.Refused, fmt.Sprintf("worker %q has only %d slots now, the task takes %d", w.info.Name, w.info.Slots, t.slots()))
		t = w.queue.first()
	}
	return t
}

// turnLocked returns the task that w is to be given next: the oldest of the
// largest priority that it has credit for, or keeps slots for.
func (m *Master) turnLocked(w *worker) *task {
	t := m.firstBoundLocked(w)
	if t != nil && w.creditFor(t.class) < t.slots() && !m.reserveLocked(w, t) {
		t = nil
	}
	for i := 0; i < len(m.waiting); i++ { // ordered by priority
		c := m.waiting[i]
		if t != nil && (t.priority() > c.options.Priority || t.priority() == c.options.Priority && t.bound != nil) {
			break
		}
		ct := m.firstForLocked(c, w)
		if ct == nil || t != nil && !older(ct, t) || !m.hasRoomLocked(c, ct, w) {
			continue
		}
		if credit := w.creditFor(c); credit < c.options.Slots && (c.options.Slots == 1 || credit < 1 || !m.reserveLocked(w, ct)) {
			continue
		}
		t = ct
	}
	return t
}

// assignLocked gives t to w, where its next attempt opens as soon as there is a link.
func (m *Master) assignLocked(t *task, w *worker) {
	t.at, t.step = w, assigned
	m.takeSlotsLocked(w, t.slots())
	w.attempts.add(t)
	if w.reserved == t {
		w.reserved = nil
	}
	if t.run.used != nil {
		for other, by := range t.run.used {
			if by == t {
				delete(t.run.used, other)
			}
		}
		t.run.used[w.id] = t
	}
	switch {
	case w.link == nil:
		m.reachLocked(w)
	case !w.anew:
		m.offerLocked(t)
	}
}

// takeSlotsLocked takes slots of w, or with n below 0 gives them back.
func (m *Master) takeSlotsLocked(w *worker, n int) {
	w.inUse += n
	if w.inUse > w.info.Slots {
		m.over[w] = struct{}{}
	} else {
		delete(m.over, w)
	}
	if n < 0 && m.dynamic > 0 {
		m.notifyLocked()
	}
}

// offerLocked opens the next attempt of t, on the link of its worker.
func (m *Master) offerLocked(t *task) {
	t.n++
	if t.durable() {
		m.recordAttemptLocked(t, recording, func() { m.sendLocked(t) })
	} else {
		m.sendLocked(t)
	}
}

// sendLocked sends the newest attempt of t to its worker.
func (m *Master) sendLocked(t *task) {
	if t.at.link == nil { // it broke meanwhile, and is dialled again
		t.step = assigned
		return
	}
	opt := &t.class.options
	t.step = offered
	if !opt.AtMostOnce() {
		t.starts++ // from here on it may start
	}
	m.stats.Attempts++
	if t.rec != nil {
		t.renewLocked()
		t.run.tellLocked(t)
	}
	m.noteLocked(history.Offered, t)
	t.at.link.SendOffer(&wire.Offer{
		Key: t.key(), Run: t.run.id, Index: t.index, Slots: uint32(opt.Slots), Priority: int16(opt.Priority),
		Timeout: opt.Timeout, AtMostOnce: opt.AtMostOnce(), Durable: t.durable(), Spec: t.spec,
	})
}

// recallLocked asks those that were sent more than they can run for what w, which
// has slots without work, could start at once: the last that they were sent.
func (m *Master) recallLocked(w *worker) {
	if _, asked := m.hungry[w]; asked || len(m.over) == 0 || w.reserved != nil || !w.usable() {
		return
	}
	free := w.info.Slots - w.inUse
	for from := range m.over {
		want := min(free, from.inUse-from.info.Slots)
		if from == w || from.link == nil || want <= 0 {
			continue
		}
		var keys []wire.Key
		for t := from.attempts.last; t != nil && want > 0; t = t.prev {
			if want < t.slots() || t.step != offered && t.step != accepted || t.bound != nil || t.stop != 0 || t.recalled || !m.mayTakeLocked(t.class, t, w) {
				continue
			}
			// Once is enough, or two workers that look idle and loaded in turn would
			// have it handed to and fro for ever.
			t.recalled = true
			keys = append(keys, t.key())
			want -= t.slots()
			free -= t.slots()
		}
		if len(keys) > 0 {
			from.link.SendRecall(keys)
			m.hungry[w] = struct{}{}
		}
		if free <= 0 {
			return
		}
	}
}

// GivenBack: these had not started, and will not.
func (m *Master) GivenBack(l *wire.Link, ks []wire.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range ks {
		t := m.currentLocked(l, k)
		if t == nil || t.step >= granting {
			continue
		}
		m.stats.Recalled++
		m.noteLocked(history.GivenBack, t)
		m.unstartLocked(t)
		m.againLocked(t)
		if t.waits {
			m.spreadLocked(t.class)
		}
	}
	hungry := slices.Collect(maps.Keys(m.hungry))
	clear(m.hungry)
	for _, w := range hungry { // what was asked for may have started meanwhile; there may be more
		if w.inUse < w.info.Slots {
			m.recallLocked(w)
		}
	}
}
