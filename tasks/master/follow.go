package master

import (
	"bytes"
	"context"
	"io"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// EventType says what an Event tells.
type EventType uint8

// What a follower is told of a task: that it started, what it wrote, that it
// starts anew after it had written something, and how it ended.
const (
	EventStarted EventType = iota + 1
	EventOutput
	EventAgain
	EventResult
)

// Event is one thing that happened to a task that is followed.
type Event struct {
	Type     EventType
	Task     tasks.ID
	Index    int
	Worker   string // name
	WorkerID string
	Attempt  uint32
	Stream   wire.Stream   // of EventOutput
	Output   []byte        // of EventOutput; the receiver may keep it
	Cut      int64         // of EventOutput: bytes missing inside Output, which is a kept copy
	Result   *tasks.Result // of EventResult; not to be changed
}

// Follower gets everything that the tasks of a run write and how they end, in
// order for each task. When Next is not called, the tasks that write more than
// wire.Window bytes wait. It is used by one goroutine, and must be closed.
type Follower struct {
	m      *Master
	run    *Run
	ready  chan struct{} // has a token when queue may not be empty
	queue  []*cursor     // guarded by Master.mu: tasks with something new
	left   int           // guarded by Master.mu: tasks whose result was not given yet
	whole  bool          // constant: of all tasks of the run, also those to come
	mute   bool          // guarded by Master.mu: it wants no output
	closed bool          // guarded by Master.mu

	cursors map[*task]*cursor // guarded by Master.mu
}

// cursor is how far a follower is with a task.
type cursor struct {
	t       *task
	n       uint32  // attempt that it is in
	off     uint64  // bytes of the attempt that were given
	backlog []piece // what the attempt wrote before it was followed, to be given first
	past    *record // of attempt n, when a newer one was sent before all was given; nil: none
	queued  bool
	told    bool // of the start of attempt n
	done    bool
}

// followLocked attaches a new follower to tasks of the run. What a task wrote before is
// given from its kept copy. whole says that these are all that the run has by now.
func (m *Master) followLocked(r *Run, ts []*task, whole bool) *Follower {
	f := &Follower{m: m, run: r, whole: whole, ready: make(chan struct{}, 1), left: len(ts), cursors: make(map[*task]*cursor, len(ts))}
	for _, t := range ts {
		c := &cursor{t: t, n: t.n}
		f.cursors[t] = c
		if rec := t.written(); rec != nil && rec.received > 0 {
			for _, s := range []wire.Stream{wire.Stdout, wire.Stderr} {
				if b, cut := rec.copies[s].bytes(); len(b) > 0 {
					c.backlog = append(c.backlog, piece{stream: s, b: bytes.Clone(b), cut: cut})
				}
			}
			c.off = rec.received
		}
		if t.n > 0 || t.state.Final() {
			f.wakeLocked(c)
		}
	}
	if r.followers == nil {
		r.followers = map[*Follower]struct{}{}
	}
	r.followers[f] = struct{}{}
	return f
}

// Mute says that what tasks write is not wanted: none of it is given, and none of them
// waits for that.
func (f *Follower) Mute() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.mute = true
	for t, c := range f.cursors {
		c.backlog, c.past = nil, nil
		f.m.takenLocked(t)
	}
}

func (f *Follower) wakeLocked(c *cursor) {
	if !c.queued && !c.done {
		c.queued = true
		f.queue = append(f.queue, c)
	}
	f.signal()
}

func (f *Follower) signal() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// ended says that there is nothing more to come.
func (f *Follower) endedLocked() bool { return f.left == 0 && (!f.whole || f.run.sealed) }

// tellLocked wakes the followers of t's run.
func (r *Run) tellLocked(t *task) {
	for f := range r.followers {
		c := f.cursors[t]
		if c == nil && f.whole && r.batch != nil {
			c = &cursor{t: t, n: t.n}
			f.cursors[t] = c
		}
		if c != nil {
			f.wakeLocked(c)
		}
	}
}

// Next waits for the next event. It returns io.EOF after the result of the last
// task, and ErrClosed when the agent is closed before.
func (f *Follower) Next(ctx context.Context) (Event, error) {
	for {
		f.m.mu.Lock()
		for len(f.queue) > 0 {
			c := f.queue[0]
			if e, ok := f.stepLocked(c); ok {
				f.queue = append(f.queue[1:], c) // the others first
				f.m.mu.Unlock()
				return e, nil
			}
			c.queued = false
			f.queue = f.queue[1:]
		}
		ended, closed := f.endedLocked(), f.m.closed
		f.m.mu.Unlock()
		switch {
		case ended:
			return Event{}, io.EOF
		case closed: // what was not in the queue by then does not come
			return Event{}, ErrClosed
		}
		select {
		case <-f.ready:
		case <-f.m.ctx.Done():
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// stepLocked returns the next event of one task.
func (f *Follower) stepLocked(c *cursor) (Event, bool) {
	t := c.t
	if c.done {
		return Event{}, false
	}
	e := Event{Task: t.id, Index: int(t.index), Attempt: t.n}
	switch {
	case t.result != nil:
		e.Worker, e.WorkerID = t.result.Worker, t.result.WorkerID
	case t.at != nil:
		e.Worker, e.WorkerID = t.at.info.Name, t.at.info.ID
	}
	c.enter()
	if c.n != t.n {
		if !f.mute {
			if p := c.rest(); p.b != nil {
				e.Type, e.Attempt, e.Stream, e.Output, e.Cut = EventOutput, c.n, p.stream, p.b, p.cut
				return e, true
			}
		}
		again := c.off > 0
		c.n, c.off, c.told, c.past = t.n, 0, false, nil
		if again {
			e.Type = EventAgain
			return e, true
		}
	}
	if !c.told && (t.state == tasks.StateRunning || t.state.Final() && t.result.Attempt > 0) {
		c.told = true
		e.Type = EventStarted
		return e, true
	}
	if len(c.backlog) > 0 {
		e.Type, e.Stream, e.Output, e.Cut = EventOutput, c.backlog[0].stream, c.backlog[0].b, c.backlog[0].cut
		c.backlog = c.backlog[1:]
		return e, true
	}
	if rec := t.written(); rec != nil && c.off < rec.received && !f.mute {
		if p := rec.after(c.off); p.b != nil {
			c.off = p.at + uint64(len(p.b))
			f.m.takenLocked(t)
			e.Type, e.Stream, e.Output = EventOutput, p.stream, p.b
			return e, true
		}
		c.off = rec.received
	}
	if t.state.Final() {
		c.done = true
		f.left--
		if t.run.batch != nil {
			delete(f.cursors, t)
			if t.run.batch.taker == f {
				t.run.batch.takenLocked(1)
			}
		}
		e.Type, e.Result = EventResult, t.result
		f.m.answered(t.result)
		return e, true
	}
	return Event{}, false
}

// enter moves a cursor that was given no output yet to the attempt of the record, which
// may be over by now.
func (c *cursor) enter() {
	if r := c.t.rec; r != nil && c.n < r.n && c.off == 0 && c.past == nil {
		c.n, c.told = r.n, false
	}
}

// rest returns the next of what the attempt wrote and was not given before a newer one
// came: that it starts anew is told after all that it wrote before.
func (c *cursor) rest() piece {
	if len(c.backlog) > 0 {
		p := c.backlog[0]
		c.backlog = c.backlog[1:]
		return p
	}
	r := c.past
	if r == nil {
		r = c.t.rec
	}
	if r == nil || r.n != c.n {
		return piece{}
	}
	p := r.after(c.off)
	c.off = max(c.off, p.at+uint64(len(p.b)))
	return p
}

// Close detaches the follower: its tasks no longer wait for it.
func (f *Follower) Close() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return
	}
	f.closed = true
	delete(f.run.followers, f)
	ended := 0
	for t := range f.cursors {
		f.m.takenLocked(t)
		if t.state.Final() {
			ended++
		}
	}
	if b := f.run.batch; b != nil && b.taker == f { // what was not given never will be
		b.taker = nil
		b.takenLocked(ended)
	}
}
