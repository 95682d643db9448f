package master

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/wire"
)

// Submit queues a submission and returns its run. When too few workers match, it
// waits for them as the options say, and then fails with ErrNoMatch and the
// reason; nothing was queued then. ctx bounds the wait alone.
func (m *Master) Submit(ctx context.Context, s tasks.Submission) (*Run, error) {
	r, _, err := m.submit(ctx, &s, false)
	return r, err
}

// SubmitFollowed is Submit with a follower attached before anything starts.
func (m *Master) SubmitFollowed(ctx context.Context, s tasks.Submission) (*Run, *Follower, error) {
	return m.submit(ctx, &s, true)
}

func (m *Master) submit(ctx context.Context, s *tasks.Submission, follow bool) (*Run, *Follower, error) {
	n, err := m.prepare(s)
	if err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.admitLocked(ctx, n); err != nil {
		return nil, nil, err
	}
	defer m.leaveClassLocked(n.class)
	if err := m.acceptLocked(n); err != nil {
		return nil, nil, err
	}
	var f *Follower
	if follow {
		f = m.followLocked(n.run, n.run.tasks, true)
	}
	m.startLocked(n)
	return n.run, f, nil
}

// MaxMany is how many submissions SubmitMany takes at a time.
const MaxMany = 10_000

// SubmitMany is Submit for many submissions: all are accepted, or none, which takes
// hardly longer than one. An error says which of them it is about.
func (m *Master) SubmitMany(ctx context.Context, ss []tasks.Submission) ([]*Run, error) {
	if len(ss) > MaxMany {
		return nil, fmt.Errorf("%w: %d at a time; want at most %d", tasks.ErrBadOptions, len(ss), MaxMany)
	}
	news := make([]*submission, len(ss))
	for i := range ss {
		var err error
		if news[i], err = m.prepare(&ss[i]); err != nil {
			return nil, fmt.Errorf("submission %d: %w", i, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, n := range news {
		if err := m.admitLocked(ctx, n); err != nil {
			for _, n := range news[:i] {
				m.undoLocked(n)
			}
			return nil, fmt.Errorf("submission %d: %w", i, err)
		}
		defer m.leaveClassLocked(n.class)
	}
	if err := m.acceptLocked(news...); err != nil {
		return nil, err
	}
	runs := make([]*Run, len(news))
	for i, n := range news {
		runs[i] = n.run
		m.startLocked(n)
	}
	return runs, nil
}

// submission is one on its way to become a run.
type submission struct {
	*tasks.Submission
	spec  []byte
	own   tasks.ID // see classOf
	class *class
	selection
	run *Run
}

// prepare does what needs no lock.
func (m *Master) prepare(s *tasks.Submission) (*submission, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	spec, err := specOf(&s.Task)
	if err != nil {
		return nil, err
	}
	n := &submission{Submission: s, spec: spec}
	if m.keeps(&s.Options) {
		for _, c := range contents(&s.Task) {
			if err := m.cfg.Sync(c); err != nil {
				return nil, fmt.Errorf("%w: %w", tasks.ErrNotKept, err)
			}
		}
	}
	if s.Target.N > 1 {
		n.own = m.ids.Next()
	}
	return n, nil
}

// admitLocked makes the run, when there are workers for it. The lock is given up while
// it waits for them. The caller leaves the class.
func (m *Master) admitLocked(ctx context.Context, n *submission) error {
	c, err := m.classLocked(classOf(n.Submission, nil, n.own), n.Submission, nil)
	if err != nil {
		return err
	}
	n.class = c
	m.enterClassLocked(c) // so that it stays while the lock is given up
	if n.selection, err = m.awaitLocked(ctx, n.Submission, c); err == nil {
		err = m.fullLocked(n.count)
	}
	if err != nil {
		m.leaveClassLocked(c)
		return err
	}
	n.run = m.runLocked(n)
	m.cfg.History.Add(history.Event{Name: history.Submit, Run: n.run.id})
	return nil
}

// submittedLocked writes down that the ids of the tasks of r are given out.
func (m *Master) submittedLocked(n *submission) {
	if !m.cfg.History.On() {
		return
	}
	r := n.run
	if n.bound != nil {
		e := history.Event{Name: history.Targets, Run: r.id}
		for _, w := range n.bound {
			e.Workers = append(e.Workers, w.id)
		}
		m.cfg.History.Add(e)
	}
	for _, t := range r.tasks {
		m.cfg.History.Add(t.submitted())
	}
}

// submitted is what is written down of a task whose id is given out.
func (t *task) submitted() history.Event {
	e := history.Event{Name: history.Submitted, Task: t.id, Run: t.run.id, Kind: t.class.key.kind, Spec: history.HashBytes(t.spec),
		AtMostOnce: t.class.options.AtMostOnce(), Ephemeral: !t.durable()}
	if t.bound != nil {
		e.Worker = t.bound.id
	}
	return e
}

// specOf returns the task as it travels.
func specOf(t *tasks.Task) ([]byte, error) {
	spec := wire.AppendTask(nil, t)
	if len(spec) > tasks.MaxSpecBytes {
		return nil, fmt.Errorf("%w: it takes %d bytes with everything it carries, at most %d; send large contents as blobs",
			tasks.ErrBadTask, len(spec), tasks.MaxSpecBytes)
	}
	return spec, nil
}

// fullLocked says that n more tasks would be too many.
func (m *Master) fullLocked(n int) error {
	if m.open+n > m.cfg.MaxQueued {
		return fmt.Errorf("%w: %d have not ended; wait for some", tasks.ErrFull, m.open)
	}
	return nil
}

// selection is whom a submission goes to: certain workers, or count of whichever
// match.
type selection struct {
	bound []*worker
	count int
}

// awaitLocked resolves the target, waiting for workers if need be. The lock is
// given up while it waits.
func (m *Master) awaitLocked(ctx context.Context, s *tasks.Submission, c *class) (selection, error) {
	var start time.Time
	for {
		if m.closed {
			return selection{}, ErrClosed
		}
		if s.Target.One() && s.Options.Expect <= 1 && c.fitting > 0 {
			return selection{count: 1}, nil
		}
		sel, vague, err := m.resolveLocked(s, c)
		if start.IsZero() {
			start = time.Now()
		}
		since := time.Since(start)
		if err == nil && (!vague || since >= m.cfg.DocumentWait) {
			return sel, nil
		}
		wait := s.Options.WaitWorkers - since
		if err == nil {
			wait = m.cfg.DocumentWait - since
		}
		if wait <= 0 {
			return selection{}, err
		}
		changed := m.changed
		m.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		m.mu.Lock()
		if ctx.Err() != nil {
			return selection{}, context.Cause(ctx)
		}
	}
}

// resolveLocked works out whom a target means now. vague says that documents
// which could change that have not arrived yet.
func (m *Master) resolveLocked(s *tasks.Submission, c *class) (sel selection, vague bool, err error) {
	d := &c.demands
	if len(s.Target.On) > 0 && len(d.only) == 0 {
		sel.bound, err = m.namedLocked(s, d)
		sel.count = len(sel.bound)
		return sel, false, err
	}
	match := m.matchingLocked(c)
	for _, w := range m.workers {
		if w.listed && !w.info.Known && w.info.Available && !slices.Contains(match, w) {
			vague = true
			break
		}
	}
	want := max(1, s.Options.Expect)
	if len(match) < want {
		if len(match) == 0 {
			return sel, vague, fmt.Errorf("%w: %s", tasks.ErrNoMatch, m.explainLocked(d, s.Options.Slots))
		}
		return sel, vague, fmt.Errorf("%w: %d %s and %d are expected", tasks.ErrNoMatch, len(match), plural(len(match), "worker matches", "workers match"), want)
	}
	switch {
	case s.Target.N > 0:
		sel.count = min(s.Target.N, len(match))
		vague = vague && len(match) < s.Target.N
	case s.Target.All || s.Target.Where != "":
		sortWorkers(match)
		sel.bound, sel.count = match, len(match)
	default:
		sel.count, vague = 1, false
	}
	return sel, vague, nil
}

func sortWorkers(ws []*worker) {
	slices.SortFunc(ws, func(a, b *worker) int {
		if c := strings.Compare(a.info.Name, b.info.Name); c != 0 {
			return c
		}
		return strings.Compare(a.info.ID, b.info.ID)
	})
}

// namedLocked finds the workers that the target names.
func (m *Master) namedLocked(s *tasks.Submission, d *demands) ([]*worker, error) {
	var ws []*worker
	for _, name := range s.Target.On {
		var found []*worker
		for _, w := range m.workers {
			if w.listed && (w.info.Name == name || w.info.ID == name) {
				found = append(found, w)
			}
		}
		switch {
		case len(found) == 0:
			return nil, fmt.Errorf("%w: no worker is named %q; there %s", tasks.ErrNoMatch, name, m.namesLocked())
		case len(found) > 1:
			sortWorkers(found)
			var ids []string
			for _, w := range found {
				ids = append(ids, w.info.ID)
			}
			return nil, fmt.Errorf("%w: %d workers are named %q; use one of their ids: %s", tasks.ErrBadTarget, len(found), name, strings.Join(ids, " "))
		}
		w := found[0]
		if why := d.lacks(w); why != "" {
			if why == "unavailable" {
				why += "; -force runs it there all the same"
			}
			return nil, fmt.Errorf("%w: worker %q is %s", tasks.ErrNoMatch, name, why)
		}
		if s.Options.Slots > w.info.Slots {
			return nil, fmt.Errorf("%w: worker %q has %d slots, the task takes %d", tasks.ErrNoMatch, name, w.info.Slots, s.Options.Slots)
		}
		if !slices.Contains(ws, w) {
			ws = append(ws, w)
		}
	}
	return ws, nil
}

func (m *Master) namesLocked() string {
	var names []string
	for _, w := range m.workers {
		if w.listed {
			names = append(names, w.info.Name)
		}
	}
	if len(names) == 0 {
		return "are no workers"
	}
	sort.Strings(names)
	more := ""
	if len(names) > 20 {
		names, more = names[:20], ", …"
	}
	return plural(len(names), "is ", "are ") + strings.Join(names, ", ") + more
}

// runLocked makes the run and its tasks.
func (m *Master) runLocked(s *submission) *Run {
	r := &Run{m: m, id: m.ids.Next(), several: s.Target.Several(), sealed: true, durable: m.keeps(&s.Options), accepting: true}
	if s.Target.N > 1 {
		r.used = map[string]*task{}
	}
	batch := make([]task, s.count)
	if r.tasks = r.one[:]; s.count != 1 {
		r.tasks = make([]*task, s.count)
	}
	for i := range batch {
		t := &batch[i]
		if s.bound != nil {
			t.bound = s.bound[i]
		}
		r.tasks[i] = t
		m.addLocked(r, s.class, t, s.spec)
	}
	if cs := contents(&s.Task); len(cs) > 0 {
		for _, t := range r.tasks {
			m.keepLocked(t, cs)
		}
	}
	if !s.Options.Ephemeral {
		m.keepRunLocked(r)
	}
	return r
}

// addLocked makes t, which may be bound, the next task of r.
func (m *Master) addLocked(r *Run, c *class, t *task, spec []byte) {
	t.id, t.run, t.class, t.spec = m.ids.Next(), r, c, spec
	t.index, t.state, t.queuedAt = uint32(r.count), tasks.StateQueued, stampOf(time.Now())
	r.count++
	r.known++
	for f := range r.followers {
		if f.whole {
			f.left++
		}
	}
	m.enterClassLocked(c)
	m.tasks[t.id] = t
	m.open++
	m.stats.Submitted++
}

// keepLocked holds the contents that t names until it has ended.
func (m *Master) keepLocked(t *task, cs []*tasks.Content) {
	t.more().contents = cs
	for _, c := range cs {
		m.cfg.Hold(c)
	}
}

// startLocked queues the tasks of a new run and gives out what can be.
func (m *Master) startLocked(n *submission) {
	r := n.run
	for _, t := range r.tasks {
		if t.step == none && !t.state.Final() { // else it was cancelled meanwhile
			m.queueLocked(t)
		}
	}
	if n.bound == nil {
		m.spreadLocked(n.class)
		return
	}
	if len(n.bound) > 1 {
		var far []*worker
		for _, w := range n.bound {
			if w.link == nil && !w.dialling && w.info.ID != m.cfg.Node {
				far = append(far, w)
			}
		}
		if len(far) > 0 {
			m.announceLocked(r.id, far)
		}
	}
	for _, w := range n.bound {
		m.dispatchLocked(w)
	}
}

// queueLocked queues a new task.
func (m *Master) queueLocked(t *task) {
	if !t.class.options.Ephemeral {
		m.cfg.Changed(m.resultLocked(t))
	}
	m.enqueueLocked(t, false)
}

// Choice is a worker in a dry run.
type Choice struct {
	Worker tasks.Worker
	Takes  bool
	Why    string // why it would not get the task, or that it matches
}

// DryRun tells for each worker whether it would get the task. An error means
// that submitting would fail; it comes with the choices all the same.
func (m *Master) DryRun(ctx context.Context, s tasks.Submission) ([]Choice, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.classLocked(classOf(&s, nil, tasks.ID{}), &s, nil)
	if err != nil {
		return nil, err
	}
	m.enterClassLocked(c)
	defer m.leaveClassLocked(c)
	d := &c.demands
	sel, err := m.awaitLocked(ctx, &s, c)
	var all []*worker
	for _, w := range m.workers {
		if w.listed {
			all = append(all, w)
		}
	}
	sortWorkers(all)
	cs := make([]Choice, len(all))
	for i, w := range all {
		choice := Choice{Worker: w.info, Why: "matches"}
		switch why := d.lacks(w); {
		case len(s.Target.On) > 0 && !slices.Contains(s.Target.On, w.info.Name) && !slices.Contains(s.Target.On, w.info.ID):
			choice.Why = "not named"
		case why != "":
			choice.Why = why
		case s.Options.Slots > w.info.Slots:
			choice.Why = fmt.Sprintf("with %d slots, the task takes %d", w.info.Slots, s.Options.Slots)
		default:
			choice.Takes = true
			if d.where != nil {
				w.node.Free = w.free()
				choice.Why = d.where.Why(&w.node)
				choice.Takes, _ = c.work(w)
			}
		}
		cs[i] = choice
	}
	if err == nil && sel.bound == nil {
		for i := range cs {
			if cs[i].Takes {
				cs[i].Why += fmt.Sprintf(" (%d of those that match)", sel.count)
			}
		}
	}
	return cs, err
}
