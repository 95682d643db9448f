package master

import (
	"context"
	"iter"
	"slices"

	"github.com/scagent/scagent/tasks"
)

// Run is what one submission made: one task, or one for each of several workers.
type Run struct {
	m        *Master           // constant
	id       tasks.ID          // constant
	sub      *tasks.Submission // constant
	spec     []byte            // constant: the task as it travels
	class    *class            // constant
	tasks    []*task           // constant
	distinct bool              // constant: its tasks go to different workers

	// guarded by Master.mu
	used      map[*worker]*task   // distinct: who has which
	recalled  map[tasks.ID]uint32 // attempts that were asked back
	followers map[*Follower]struct{}
	ended     []*task       // in the order in which they ended
	more      chan struct{} // closed, and made anew, when one ends; nil while nobody waits
}

// ID returns the id of the run.
func (r *Run) ID() tasks.ID { return r.id }

// Several reports whether the target could have been several workers.
func (r *Run) Several() bool { return r.sub.Target.Several() }

// Tasks returns what is known of each task of the run, in order of its index.
func (r *Run) Tasks() []tasks.Result {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	rs := make([]tasks.Result, len(r.tasks))
	for i, t := range r.tasks {
		rs[i] = r.m.resultLocked(t)
	}
	return rs
}

// Results yields the result of each task as it ends. It stops early when ctx
// ends, or the agent that submitted is closed.
func (r *Run) Results(ctx context.Context) iter.Seq[tasks.Result] {
	return func(yield func(tasks.Result) bool) {
		for i := range r.tasks {
			res, err := r.next(ctx, i)
			if err != nil || !yield(*res) {
				return
			}
		}
	}
}

// next waits for the i-th task to end.
func (r *Run) next(ctx context.Context, i int) (*tasks.Result, error) {
	for {
		r.m.mu.Lock()
		if i < len(r.ended) {
			res := r.ended[i].result
			r.m.mu.Unlock()
			return res, nil
		}
		if r.more == nil {
			r.more = make(chan struct{})
		}
		more := r.more
		r.m.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Wait waits for all tasks and returns their results in order of their index.
// The error is ctx's; a task that failed says so in its result.
func (r *Run) Wait(ctx context.Context) ([]tasks.Result, error) {
	if _, err := r.next(ctx, len(r.tasks)-1); err != nil {
		return nil, err
	}
	return r.Tasks(), nil
}

// Cancel stops the tasks of the run that have not ended.
func (r *Run) Cancel(reason tasks.StopReason) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	for _, t := range r.tasks {
		r.m.cancelLocked(t, reason)
	}
}

func (r *Run) endedLocked(t *task) {
	r.ended = append(r.ended, t)
	if r.more != nil {
		close(r.more)
		r.more = nil
	}
	r.tellLocked(t)
	if len(r.ended) == len(r.tasks) {
		for _, c := range contents(&r.sub.Task) {
			r.m.cfg.Release(c)
		}
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

// Call submits a task for one worker and waits for its result, which is not kept.
// When ctx ends first the task is cancelled and the error is ctx's.
func (m *Master) Call(ctx context.Context, s tasks.Submission) (tasks.Result, error) {
	s.Options.Ephemeral = true
	r, err := m.Submit(ctx, s)
	if err != nil {
		return tasks.Result{}, err
	}
	res, err := r.next(ctx, 0)
	if err != nil {
		r.Cancel(tasks.StopCancel)
		return tasks.Result{}, err
	}
	return *res, nil
}

// Task returns what is known of a task; ErrUnknown if nothing is.
func (m *Master) Task(id tasks.ID) (tasks.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.tasks[id]; t != nil {
		return m.resultLocked(t), nil
	}
	return tasks.Result{}, tasks.ErrUnknown
}

// Run returns a run that has tasks that can still be asked for; ErrUnknown if it
// has none.
func (m *Master) Run(id tasks.ID) (*Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runs[id]; r != nil {
		return r, nil
	}
	return nil, tasks.ErrUnknown
}

// List returns tasks in order of submission: those after the given id (zero: from
// the first), in one of the states (none: all), at most limit of them.
func (m *Master) List(after tasks.ID, states []tasks.State, limit int) []tasks.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ts []*task
	for _, t := range m.tasks {
		if t.run.sub.Options.Ephemeral || string(t.id[:]) <= string(after[:]) || len(states) > 0 && !slices.Contains(states, t.state) {
			continue
		}
		ts = append(ts, t)
	}
	slices.SortFunc(ts, func(a, b *task) int {
		if older(a, b) {
			return -1
		}
		return 1
	})
	if len(ts) > limit {
		ts = ts[:limit]
	}
	rs := make([]tasks.Result, len(ts))
	for i, t := range ts {
		rs[i] = m.resultLocked(t)
	}
	return rs
}

// Cancel stops a task, or all tasks of a run. It reports how many were stopped,
// or ErrUnknown.
func (m *Master) Cancel(id tasks.ID, reason tasks.StopReason) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ts := []*task{m.tasks[id]}
	if r := m.runs[id]; r != nil {
		ts = r.tasks
	}
	if ts[0] == nil {
		return 0, tasks.ErrUnknown
	}
	n := 0
	for _, t := range ts {
		if !t.state.Final() {
			n++
			m.cancelLocked(t, reason)
		}
	}
	return n, nil
}

// Follow attaches a follower to a run, or to one task.
func (m *Master) Follow(id tasks.ID) (*Follower, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runs[id]; r != nil {
		return m.followLocked(r, r.tasks), nil
	}
	if t := m.tasks[id]; t != nil {
		return m.followLocked(t.run, []*task{t}), nil
	}
	return nil, tasks.ErrUnknown
}

// keeper remembers the tasks that have ended, the oldest first, and forgets them
// when they are too many or too large.
type keeper struct {
	m     *Master
	ended []*task
	bytes int64
}

// keptOverhead is what an ended task takes beside its output and value.
const keptOverhead = 1 << 10

func (k *keeper) addLocked(t *task) {
	if t.run.sub.Options.Ephemeral {
		k.forgetLocked(t)
		return
	}
	k.ended = append(k.ended, t)
	k.bytes += t.weight()
	drop := 0
	for drop < len(k.ended)-1 && (len(k.ended)-drop > k.m.cfg.MaxKept || k.bytes > k.m.cfg.MaxKeptBytes) {
		k.bytes -= k.ended[drop].weight()
		k.forgetLocked(k.ended[drop])
		k.ended[drop] = nil
		drop++
	}
	k.ended = k.ended[drop:]
}

func (k *keeper) forgetLocked(t *task) {
	if t.result != nil {
		for i := range t.result.Outputs {
			if t.result.Outputs[i].Blob != "" {
				k.m.cfg.Release(&t.result.Outputs[i].Content)
			}
		}
	}
	delete(k.m.tasks, t.id)
	for _, o := range t.run.tasks {
		if k.m.tasks[o.id] != nil {
			return
		}
	}
	delete(k.m.runs, t.run.id)
}

func (t *task) weight() int64 {
	return keptOverhead + int64(len(t.result.Stdout)+len(t.result.Stderr)+len(t.result.Value))
}
