package master

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// Run is what one submission made: one task, or one for each of several workers,
// or those that were added to a Batch.
type Run struct {
	m       *Master  // constant
	id      tasks.ID // constant
	batch   *Batch   // constant: of which it is the run, or nil
	durable bool     // constant: it is in the journal, or on its way there

	// guarded by Master.mu
	tasks     []*task          // constant; none of a batch
	one       [1]*task         // what tasks are when there is one
	several   bool             // constant: the target could have been several workers
	sealed    bool             // no more tasks come
	accepting bool             // nobody was told that it is submitted: it waits for others, or the journal
	count     int              // tasks that it has had
	known     int              // of them, those that can still be asked for
	used      map[string]*task // by node id: who has which, when its tasks go to different workers; else nil
	followers map[*Follower]struct{}
	results   []*tasks.Result // of those that have ended, in that order; a batch gives them away
	ended     int             // tasks that have ended
	more      chan struct{}   // closed, and made anew, when one ends; nil while nobody waits
}

// ID returns the id of the run.
func (r *Run) ID() tasks.ID { return r.id }

// Several reports whether the target could have been several workers.
func (r *Run) Several() bool { return r.several }

// eachLocked returns the tasks that can still be asked for, in order.
func (r *Run) eachLocked() []*task {
	if r.batch == nil {
		return r.tasks
	}
	var ts []*task
	for _, t := range r.m.tasks {
		if t.run == r {
			ts = append(ts, t)
		}
	}
	slices.SortFunc(ts, func(a, b *task) int { return cmp.Compare(a.index, b.index) })
	return ts
}

// Tasks returns what is known of each task of the run, in order of its index. Of
// a batch, those that have ended and were forgotten are missing.
func (r *Run) Tasks() []tasks.Result {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	ts := r.eachLocked()
	rs := make([]tasks.Result, len(ts))
	for i, t := range ts {
		rs[i] = r.m.resultLocked(t)
		r.m.answered(&rs[i])
	}
	return rs
}

// Results yields the result of each task as it ends. It stops early when ctx
// ends, or the agent that submitted is closed. Of a batch, each result is
// yielded once, to one caller.
func (r *Run) Results(ctx context.Context) iter.Seq[tasks.Result] {
	return func(yield func(tasks.Result) bool) {
		for i := 0; ; {
			rs, err := r.next(ctx, i)
			if err != nil || len(rs) == 0 {
				return
			}
			for _, res := range rs {
				r.m.answered(res)
				if !yield(*res) {
					return
				}
			}
			i += len(rs)
		}
	}
}

// next waits for results from the i-th on, in the order in which tasks end. It
// returns none when there are no more to come. A batch gives them away, whatever
// i is.
func (r *Run) next(ctx context.Context, i int) ([]*tasks.Result, error) {
	r.m.mu.Lock()
	for {
		if r.batch != nil && len(r.results) > 0 {
			rs := r.results
			r.results = nil
			r.batch.takenLocked(len(rs))
			r.m.mu.Unlock()
			return rs, nil
		}
		if m := r.m; m.closed && i >= len(r.results) && (r.ended < r.count || !r.sealed) {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		if i < len(r.results) || r.sealed && r.ended == r.count {
			rs := r.results[min(i, len(r.results)):]
			r.m.mu.Unlock()
			return rs, nil
		}
		if r.more == nil {
			r.more = make(chan struct{})
		}
		more := r.more
		r.m.mu.Unlock()
		select {
		case <-more:
		case <-r.m.ctx.Done():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		r.m.mu.Lock()
	}
}

// Wait waits for all tasks and returns their results in order of their index.
// The error is ctx's; a task that failed says so in its result. For a batch it waits
// until that is sealed, and takes the results if no follower does.
func (r *Run) Wait(ctx context.Context) ([]tasks.Result, error) {
	last := 0
	if r.batch == nil {
		last = r.count - 1
	}
	for {
		rs, err := r.next(ctx, last)
		if err != nil {
			return nil, err
		}
		if r.batch == nil || len(rs) == 0 {
			return r.Tasks(), nil
		}
	}
}

// Cancel stops the tasks of the run that have not ended.
func (r *Run) Cancel(reason tasks.StopReason) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.cancelLocked(reason)
}

// cancelLocked stops the tasks of the run that have not ended, and says how many
// these are. A batch takes no more.
func (r *Run) cancelLocked(reason tasks.StopReason) int {
	if r.batch != nil {
		r.batch.sealLocked()
	}
	return r.m.cancelAllLocked(r.eachLocked(), reason)
}

// endedLocked takes note that t, one of its tasks, has ended.
func (r *Run) endedLocked(t *task) {
	r.ended++
	if r.batch == nil || r.batch.taker == nil {
		r.results = append(r.results, t.result)
	}
	r.wakeLocked()
	r.tellLocked(t)
}

// wakeLocked wakes those who wait in next.
func (r *Run) wakeLocked() {
	if r.more != nil {
		close(r.more)
		r.more = nil
	}
}

// contents returns what t names by hash.
func contents(t *tasks.Task) []*tasks.Content {
	var cs []*tasks.Content
	for _, c := range []*tasks.Content{t.Stdin, t.Content} {
		if c != nil && c.Blob != "" {
			cs = append(cs, c)
		}
	}
	for i := range t.Inputs {
		if t.Inputs[i].Blob != "" {
			cs = append(cs, &t.Inputs[i].Content)
		}
	}
	return cs
}

// Call submits a task for one worker, as an ephemeral one, and waits for its result.
// When ctx ends first the task is cancelled and the error is ctx's.
func (m *Master) Call(ctx context.Context, s *tasks.Submission) (tasks.Result, error) {
	s.Options.Ephemeral = true
	r, _, err := m.submit(ctx, s, false)
	if err != nil {
		return tasks.Result{}, err
	}
	rs, err := r.next(ctx, 0)
	if err != nil {
		r.Cancel(tasks.StopCancel)
		return tasks.Result{}, err
	}
	return *rs[0], nil
}

// keepRunLocked sees to it that r is found by its id. A run of one task is found
// by way of it, if their ids follow on each other: there may be millions.
func (m *Master) keepRunLocked(r *Run) {
	if r.batch != nil || len(r.tasks) != 1 || r.tasks[0].id != r.id.Follow() {
		m.runs[r.id] = r
	}
}

func (m *Master) findRunLocked(id tasks.ID) *Run {
	if r := m.runs[id]; r != nil {
		return r
	}
	if t := m.tasks[id.Follow()]; t != nil && t.run.id == id && !t.class.options.Ephemeral {
		return t.run
	}
	return nil
}

// Cancel stops a task, or all tasks of a run. It reports how many were stopped,
// or ErrUnknown.
func (m *Master) Cancel(id tasks.ID, reason tasks.StopReason) (int, error) {
	m.mu.Lock()
	var ts []*task
	n, known := 0, true
	if r := m.findRunLocked(id); r != nil {
		n = r.cancelLocked(reason)
		ts = r.eachLocked()
	} else if t := m.tasks[id]; t != nil {
		ts = []*task{t}
		n = m.cancelAllLocked(ts, reason)
	} else {
		known = false
	}
	m.mu.Unlock()
	if known {
		m.awaitJournal() // it holds after a restart too
		for _, t := range ts {
			m.cfg.History.Add(history.Event{Name: history.CancelledTold, Task: t.id})
		}
		return n, nil
	}
	_, err := m.loadTask(id)
	if err != nil {
		_, err = m.loadRun(id)
	}
	return 0, err // nil: it has ended
}

// cancelAllLocked stops those of the tasks that have not ended, and says how many
// these are.
func (m *Master) cancelAllLocked(ts []*task, reason tasks.StopReason) int {
	n := 0
	freed := map[*worker]struct{}{}
	for _, t := range ts {
		if t.state.Final() {
			continue
		}
		n++
		m.cfg.History.Add(history.Event{Name: history.Cancel, Task: t.id})
		for _, w := range []*worker{t.at, t.bound, t.class.reserved} {
			if w != nil && (w == t.at || w.reserved == t) {
				freed[w] = struct{}{}
			}
		}
		m.cancelLocked(t, reason)
	}
	for w := range freed { // what was assigned and had no link yet has given its slots back, as has what they were kept for
		m.dispatchLocked(w)
	}
	return n
}
