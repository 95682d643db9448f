package master

import (
	"context"
	"fmt"
	"slices"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// Batch is a run to which tasks are added as they come up. Each goes to one of
// the workers that the target allows, whichever has room. Its methods may be
// called by any goroutine.
//
// At most Limit of its tasks are open, which means that they have not ended or
// that their results were not taken: Add waits then. So somebody has to take the
// results, by Results or a Follower.
type Batch struct {
	*Run
	common tasks.Submission // target and options
	only   []string         // names of the workers, empty: all
	limit  int

	// guarded by Master.mu
	key   classKey
	class *class           // of the last task that was added, which is counted in its tasks; or nil
	taken int              // results that were taken
	taker *Follower        // who takes the results; nil: Results does
	held  []*tasks.Content // until it is sealed, see Hold
	room  chan struct{}    // closed, and made anew, when a result is taken; nil while nobody waits
}

// MaxBatchLimit is the largest limit of a batch.
const MaxBatchLimit = 1_000_000

// OpenBatch begins a batch for any one of the workers that the target allows: all,
// those that it names, or those that its query matches. limit is how many tasks may be
// open; 0 means 10,000. Nothing is checked against the workers before the first task.
func (m *Master) OpenBatch(target tasks.Target, options tasks.Options, limit int) (*Batch, error) {
	b, _, err := m.openBatch(target, options, limit, false)
	return b, err
}

// OpenBatchFollowed is OpenBatch with a follower, by which the results are taken.
func (m *Master) OpenBatchFollowed(target tasks.Target, options tasks.Options, limit int) (*Batch, *Follower, error) {
	return m.openBatch(target, options, limit, true)
}

func (m *Master) openBatch(target tasks.Target, options tasks.Options, limit int, follow bool) (*Batch, *Follower, error) {
	if limit == 0 {
		limit = 10_000
	}
	if limit < 1 || limit > MaxBatchLimit {
		return nil, nil, fmt.Errorf("%w: limit is %d; want 1 to %d tasks", tasks.ErrBadOptions, limit, MaxBatchLimit)
	}
	if target.N > 1 {
		return nil, nil, fmt.Errorf("%w: n is %d; each task of a batch goes to one worker", tasks.ErrBadTarget, target.N)
	}
	if err := target.Validate(); err != nil {
		return nil, nil, err
	}
	if err := options.Validate(); err != nil {
		return nil, nil, err
	}
	b := &Batch{Run: &Run{m: m, id: m.ids.Next(), several: true}, only: target.On, limit: limit}
	b.common = tasks.Submission{Target: target, Options: options}
	b.common.Target.N = 1 // any one of those that match
	b.batch = b
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, nil, ErrClosed
	}
	if !options.Ephemeral {
		m.keepRunLocked(b.Run)
	}
	var f *Follower
	if follow {
		f = m.followLocked(b.Run, nil, true)
		b.taker = f
	}
	return b, f, nil
}

// Add queues a task, with the interpreters that it needs, as soon as there is
// room for it. Its index is how many were added before it. Errors: of the task,
// ErrNoMatch when no worker fits it, ErrFull, ErrSealed, or the cause of ctx.
func (b *Batch) Add(ctx context.Context, t *tasks.Task, needs ...string) (tasks.ID, error) {
	return b.add(ctx, -1, t, needs)
}

// AddAt is Add for a task with an index of the caller's choice, which results,
// events and SCAGENT_INDEX have.
func (b *Batch) AddAt(ctx context.Context, index uint32, t *tasks.Task, needs ...string) (tasks.ID, error) {
	return b.add(ctx, int64(index), t, needs)
}

func (b *Batch) add(ctx context.Context, index int64, t *tasks.Task, needs []string) (tasks.ID, error) {
	if err := t.Validate(); err != nil {
		return tasks.ID{}, err
	}
	spec, err := specOf(t)
	if err != nil {
		return tasks.ID{}, err
	}
	s := b.common // a copy
	s.Needs = needs
	s.Task.Kind, s.Task.Name = t.Kind, t.Name
	key := classOf(&s, b.only, tasks.ID{})

	m := b.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := b.roomLocked(ctx); err != nil {
		return tasks.ID{}, err
	}
	c, err := b.classLocked(&s, key)
	if err != nil {
		return tasks.ID{}, err
	}
	if c.fitting == 0 {
		m.enterClassLocked(c) // so that it stays while the lock is given up
		_, err := m.awaitLocked(ctx, &s, c)
		m.leaveClassLocked(c)
		if err == nil && b.sealed { // meanwhile
			err = tasks.ErrSealed
		}
		if err != nil {
			return tasks.ID{}, err
		}
	}
	if err := m.fullLocked(1); err != nil {
		return tasks.ID{}, err
	}
	added := &task{}
	m.addLocked(b.Run, c, added, spec)
	if index >= 0 {
		added.index = uint32(index)
	}
	if cs := contents(t); len(cs) > 0 {
		m.keepLocked(added, cs)
	}
	if m.cfg.History.On() {
		m.cfg.History.Add(added.submitted())
	}
	m.queueLocked(added)
	m.spreadLocked(c)
	return added.id, nil
}

// roomLocked waits until another task may be open. The lock is given up meanwhile.
func (b *Batch) roomLocked(ctx context.Context) error {
	for {
		switch {
		case b.m.closed:
			return ErrClosed
		case b.sealed:
			return tasks.ErrSealed
		case b.count-b.taken < b.limit:
			return nil
		}
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.m.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		case <-b.m.ctx.Done():
		}
		b.m.mu.Lock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// classLocked returns the class of a task. That of the last task is kept at hand.
func (b *Batch) classLocked(s *tasks.Submission, key classKey) (*class, error) {
	if b.class != nil && b.key == key {
		return b.class, nil
	}
	c, err := b.m.classLocked(key, s, b.only)
	if err != nil {
		return nil, err
	}
	b.m.enterClassLocked(c)
	if b.class != nil {
		b.m.leaveClassLocked(b.class)
	}
	b.key, b.class = key, c
	return c, nil
}

// takenLocked takes note that n more results were taken.
func (b *Batch) takenLocked(n int) {
	b.taken += n
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// Seal says that no more tasks come. Results and Followers end when the last has
// ended. It may be called more than once.
func (b *Batch) Seal() {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.sealLocked()
}

func (b *Batch) sealLocked() {
	if b.sealed {
		return
	}
	m := b.m
	b.sealed = true
	for _, c := range b.held {
		m.cfg.Release(c)
	}
	b.held = nil
	if b.class != nil {
		m.leaveClassLocked(b.class)
		b.class = nil
	}
	b.wakeLocked()
	for f := range b.followers {
		f.signal()
	}
	b.takenLocked(0) // whoever waits in Add
	if b.known == 0 {
		delete(m.runs, b.id)
	}
}

// Hold keeps the contents that t names until the batch is sealed: for tasks to come
// that name them too.
func (b *Batch) Hold(t *tasks.Task) {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	if b.sealed {
		return
	}
	for _, c := range contents(t) {
		b.held = append(b.held, c)
		b.m.cfg.Hold(c)
	}
}

// Drop stops the tasks of a run that have not started, and says how many these may
// be; those that have go on, and are not run again when they fail. Workers are asked
// to give back what they were sent ahead, so that nothing is stopped that runs
// already. A batch takes no more tasks. ErrUnknown if there is no such run.
func (m *Master) Drop(id tasks.ID) (int, error) {
	m.mu.Lock()
	r := m.findRunLocked(id)
	if r == nil {
		m.mu.Unlock()
		return 0, tasks.ErrUnknown
	}
	n := m.dropLocked(r)
	m.mu.Unlock()
	if r.durable {
		m.awaitJournal() // it holds after a restart too
	}
	return n, nil
}

// dropLocked is Drop.
func (m *Master) dropLocked(r *Run) int {
	if r.batch != nil {
		r.batch.sealLocked()
	}
	var waiting []*task
	ahead := map[*wire.Link][]wire.Key{}
	for _, t := range r.eachLocked() {
		switch {
		case t.state.Final():
		case t.step <= recording:
			waiting = append(waiting, t)
		case t.step == offered || t.step == accepted:
			if l := t.at.link; l != nil {
				ahead[l] = append(ahead[l], t.key())
			}
			fallthrough
		default:
			if t.stop == 0 {
				t.stop, t.dropped = tasks.StopCancel, true
			}
		}
	}
	n := m.cancelAllLocked(waiting, tasks.StopCancel)
	for l, keys := range ahead {
		for part := range slices.Chunk(keys, 1000) {
			l.SendRecall(part)
		}
		n += len(keys)
	}
	return n
}

// Limit returns how many tasks may be open.
func (b *Batch) Limit() int { return b.limit }
