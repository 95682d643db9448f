package master

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// Submit queues a submission and returns its run. When too few workers match, it
// waits for them as the options say, and then fails with ErrNoMatch and the
// reason; nothing was queued then. ctx bounds the wait alone.
func (m *Master) Submit(ctx context.Context, s tasks.Submission) (*Run, error) {
	r, _, err := m.submit(ctx, s, false)
	return r, err
}

// SubmitFollowed is Submit with a follower attached before anything starts.
func (m *Master) SubmitFollowed(ctx context.Context, s tasks.Submission) (*Run, *Follower, error) {
	return m.submit(ctx, s, true)
}

func (m *Master) submit(ctx context.Context, s tasks.Submission, follow bool) (*Run, *Follower, error) {
	if err := s.Validate(); err != nil {
		return nil, nil, err
	}
	d, err := newDemands(&s)
	if err != nil {
		return nil, nil, err
	}
	spec := wire.AppendTask(nil, &s.Task)
	if len(spec) > tasks.MaxSpecBytes {
		return nil, nil, fmt.Errorf("%w: it takes %d bytes with everything it carries, at most %d; send large contents as blobs",
			tasks.ErrBadTask, len(spec), tasks.MaxSpecBytes)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sel, err := m.awaitLocked(ctx, &s, &d)
	if err != nil {
		return nil, nil, err
	}
	if m.open+sel.count > m.cfg.MaxQueued {
		return nil, nil, fmt.Errorf("%w: %d have not ended; wait for some", tasks.ErrFull, m.open)
	}
	r := m.runLocked(&s, d, spec, sel)
	var f *Follower
	if follow {
		f = m.followLocked(r, r.tasks)
	}
	m.startLocked(r, sel)
	return r, f, nil
}

// selection is whom a submission goes to: certain workers, or count of whichever
// match.
type selection struct {
	bound []*worker
	count int
}

// awaitLocked resolves the target, waiting for workers if need be. The lock is
// given up while it waits.
func (m *Master) awaitLocked(ctx context.Context, s *tasks.Submission, d *demands) (selection, error) {
	start := time.Now()
	for {
		if m.closed {
			return selection{}, ErrClosed
		}
		sel, vague, err := m.resolveLocked(s, d)
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
func (m *Master) resolveLocked(s *tasks.Submission, d *demands) (sel selection, vague bool, err error) {
	if len(s.Target.On) > 0 {
		sel.bound, err = m.namedLocked(s, d)
		sel.count = len(sel.bound)
		return sel, false, err
	}
	var match []*worker
	probe := class{slots: s.Options.Slots, demands: *d, verdicts: nil}
	for _, w := range m.workers {
		if ok, _ := probe.work(w); ok {
			match = append(match, w)
		} else if w.listed && !w.info.Known && w.info.Available {
			vague = true
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
func (m *Master) runLocked(s *tasks.Submission, d demands, spec []byte, sel selection) *Run {
	r := &Run{m: m, id: m.ids.Next(), sub: s, spec: spec, distinct: s.Target.N > 1}
	own := ""
	if r.distinct {
		r.used = map[*worker]*task{}
		own = r.id.String()
	}
	r.class = m.classLocked(s, d, own)
	r.class.tasks += sel.count
	now := time.Now()
	batch := make([]task, sel.count)
	r.tasks = make([]*task, sel.count)
	for i := range batch {
		t := &batch[i]
		*t = task{id: m.ids.Next(), run: r, index: uint32(i), state: tasks.StateQueued, queuedAt: now}
		if sel.bound != nil {
			t.bound = sel.bound[i]
		}
		r.tasks[i] = t
		m.tasks[t.id] = t
	}
	if !s.Options.Ephemeral {
		m.runs[r.id] = r
	}
	m.open += sel.count
	m.stats.Submitted += uint64(sel.count)
	for _, c := range contents(&s.Task) {
		m.cfg.Hold(c)
	}
	return r
}

// startLocked queues the tasks of a new run and gives out what can be.
func (m *Master) startLocked(r *Run, sel selection) {
	for _, t := range r.tasks {
		if !r.sub.Options.Ephemeral {
			m.cfg.Changed(m.resultLocked(t))
		}
		m.enqueueLocked(t, false)
	}
	if sel.bound == nil {
		m.spreadLocked(r.class)
		return
	}
	if len(sel.bound) > 1 {
		var far []*worker
		for _, w := range sel.bound {
			if w.link == nil && !w.dialling && w.info.ID != m.cfg.Node {
				far = append(far, w)
			}
		}
		if len(far) > 0 {
			m.announceLocked(r.id, far)
		}
	}
	for _, w := range sel.bound {
		m.dispatchLocked(w)
	}
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
	d, err := newDemands(&s)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sel, err := m.awaitLocked(ctx, &s, &d)
	var all []*worker
	for _, w := range m.workers {
		if w.listed {
			all = append(all, w)
		}
	}
	sortWorkers(all)
	cs := make([]Choice, len(all))
	for i, w := range all {
		c := Choice{Worker: w.info, Why: "matches"}
		switch why := d.lacks(w); {
		case len(s.Target.On) > 0 && !slices.Contains(s.Target.On, w.info.Name) && !slices.Contains(s.Target.On, w.info.ID):
			c.Why = "not named"
		case why != "":
			c.Why = why
		case s.Options.Slots > w.info.Slots:
			c.Why = fmt.Sprintf("with %d slots, the task takes %d", w.info.Slots, s.Options.Slots)
		default:
			c.Takes = true
			if d.where != nil {
				w.node.Free = w.free()
				c.Why = d.where.Why(&w.node)
				probe := class{slots: s.Options.Slots, demands: d}
				c.Takes, _ = probe.work(w)
			}
		}
		cs[i] = c
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
