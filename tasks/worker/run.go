package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/wire"
)

// startedDelay is how long a master is not told that an attempt runs: one that
// has ended by then costs it no message.
const startedDelay = time.Millisecond

// enterLocked takes slots for a. It asks for the grant if there must be one, else
// it reports that a is to be started.
func (w *Worker) enterLocked(a *attempt) bool {
	w.busy += a.slots
	if a.link == nil && !a.atMostOnce {
		w.expireLocked(a, w.cfg.KeepOutcome) // it may run on without its master
	}
	if !a.atMostOnce {
		return true
	}
	a.phase = awaitingGrant
	if a.link != nil {
		a.link.SendAccept(a.key, false)
	}
	return false
}

// startLocked starts a, in a lane that has nothing to do, or in a new one.
func (w *Worker) startLocked(a *attempt) {
	w.readyLocked(a)
	w.laneLocked(a)
}

func (w *Worker) laneLocked(a *attempt) {
	select {
	case w.hand <- a:
	default:
		w.wg.Go(func() { w.lane(a) })
	}
}

func (w *Worker) readyLocked(a *attempt) {
	a.phase = running
	if w.cfg.History.On() {
		w.cfg.History.Add(history.Event{Name: history.Started, Task: a.key.Task, Run: a.run, N: a.key.N, Kind: a.task.Kind, Spec: a.spec, Slots: a.slots})
	}
	if w.cfg.Received != nil {
		w.cfg.Received(a.master, a.link, a.key, a.run, a.task.Kind)
	}
	if w.fresh = append(w.fresh, a); len(w.fresh) == 1 {
		w.started.Reset(startedDelay)
	}
	if a.task.Kind != tasks.Function {
		a.kill = make(chan struct{})
	}
}

// tellStarted tells masters of attempts that were started and still run.
func (w *Worker) tellStarted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.fresh {
		if a.phase == running && a.link != nil {
			a.link.SendStarted(a.key)
		}
	}
	clear(w.fresh)
	w.fresh = w.fresh[:0]
}

// lane runs an attempt, and then others, one after the other, for as long as
// there are some. A new goroutine for each would begin with a small stack, which
// takes longer to grow than a small task does to run.
func (w *Worker) lane(a *attempt) {
	var seen tasks.Attempt
	defer func() {
		if a == nil {
			return
		}
		// The runner has ended this goroutine (runtime.Goexit), so another goes on.
		w.wg.Go(func() {
			w.lane(w.finish(a, &tasks.Outcome{Code: tasks.Panic, Text: "panic: the function ended its goroutine", Started: time.Now()}))
		})
	}()
	for a != nil {
		if a = w.run(a, &seen); a == nil {
			a = w.rest()
		}
	}
}

// rest waits for an attempt. It returns nil when enough lanes wait already, or
// the worker is closed.
func (w *Worker) rest() *attempt {
	w.mu.Lock()
	enough := w.waiting >= 2*runtime.GOMAXPROCS(0)
	if !enough {
		w.waiting++
	}
	w.mu.Unlock()
	if enough {
		return nil
	}
	var a *attempt
	select {
	case a = <-w.hand:
	case <-w.quit:
	}
	w.mu.Lock()
	w.waiting--
	w.mu.Unlock()
	return a
}

// run runs an attempt and reports its outcome. It returns one that is to be run
// next, if there is one. seen is what the runner is shown, for the time of the run.
func (w *Worker) run(a *attempt, seen *tasks.Attempt) *attempt {
	defer a.ctx.stop(over)
	d := a.timeout
	if m := w.cfg.MaxRun; m > 0 && (d <= 0 || d > m) {
		d = m
	}
	if d > 0 {
		timer := time.AfterFunc(d, func() { a.timeUp(d) })
		defer timer.Stop()
	}
	started := time.Now()
	o := w.runKind(&a.ctx, a, seen)
	if o.Started.IsZero() {
		o.Started = started
	}
	return w.finish(a, &o)
}

// finish reports the outcome of an attempt whose runner has returned. It returns one
// that is to be run next, if there is one.
func (w *Worker) finish(a *attempt, o *tasks.Outcome) *attempt {
	if o.Finished.IsZero() {
		o.Finished = time.Now()
	}
	out := a.out.Load()
	if out != nil {
		o.StdoutBytes, o.StderrBytes = out.totals()
	}
	result, files := w.encode(a.key, o)
	record := w.recordOf(a, o, files)

	w.mu.Lock()
	if w.cfg.History.On() {
		e := history.Event{Name: history.Finished, Task: a.key.Task, N: a.key.N, Hash: history.Hash(o)}
		if o.Code != tasks.OK {
			e.Why = o.Code.String()
		}
		w.cfg.History.Add(e)
	}
	a.phase, a.result, a.files = finished, result, files
	if a.patience != nil {
		a.patience.Stop()
	}
	l := a.link
	if record != nil && !a.forsaken && !w.closed {
		w.keepLocked(a, record)
	}
	switch {
	case a.forsaken || w.closed:
		w.forgetLocked(a)
		l = nil
	case l == nil:
		w.expireLocked(a, w.patience(a))
	case out == nil || out.sent():
		a.tellLocked(l)
		l = nil
	}
	next := w.leaveLocked(a)
	w.mu.Unlock()
	if l != nil {
		w.report(a, l)
	}
	return next
}

// report sends on l what was written and not sent, and then, if the attempt has
// ended, its outcome.
func (w *Worker) report(a *attempt, l *wire.Link) {
	if o := a.out.Load(); o != nil {
		o.send()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.link == l && a.phase == finished && w.attempts[a.key] == a {
		a.tellLocked(l)
	}
}

// tellLocked sends the outcome on l, behind all that was written: once, since a
// second one would overtake output.
func (a *attempt) tellLocked(l *wire.Link) {
	if a.told != l {
		a.told = l
		a.w.cfg.History.Add(history.Event{Name: history.ResultSent, Task: a.key.Task, N: a.key.N})
		l.SendResult(a.result)
	}
}

// encode returns an outcome as it travels, and the files that it names by hash. One that
// is too large becomes one that says so.
func (w *Worker) encode(k wire.Key, o *tasks.Outcome) (wire.Result, []tasks.Content) {
	r, err := wire.NewResult(k, o)
	if err != nil {
		for i := range o.Outputs {
			w.cfg.Release(&o.Outputs[i].Content)
		}
		*o = tasks.Outcome{Code: tasks.Internal, Started: o.Started, Finished: o.Finished,
			Text: fmt.Sprintf("the result does not fit into a message: %d files, %d bytes of value; pack the files into an archive", len(o.Outputs), len(o.Value))}
		r, _ = wire.NewResult(k, o)
		return r, nil
	}
	var files []tasks.Content
	for i := range o.Outputs {
		if c := o.Outputs[i].Content; c.Blob != "" {
			files = append(files, c)
		}
	}
	return r, files
}

// maxInlineOutputs is how many bytes of files travel inside a result; the rest
// is fetched by hash.
const maxInlineOutputs = 256 << 10

// runKind calls the runner; a panic in it is the attempt's.
func (w *Worker) runKind(ctx context.Context, a *attempt, at *tasks.Attempt) (o tasks.Outcome) {
	*at = tasks.Attempt{
		Task: &a.task, ID: a.key.Task, Run: a.run, N: a.key.N, Index: int(a.index), Slots: a.slots,
		Node: w.cfg.Name, Stdout: (*stdout)(a), Stderr: (*stderr)(a), Kill: a.kill,
	}
	if a.task.Kind != tasks.Function { // which has no files, and is over before these were made
		at.Open = func(ctx context.Context, c *tasks.Content) (io.ReadCloser, error) { return w.open(ctx, a.master, c) }
		room := int64(maxInlineOutputs)
		at.Keep = func(path string) (tasks.Content, error) {
			c, err := w.cfg.Keep(path, room/8)
			room -= int64(len(c.Inline))
			return c, err
		}
	}
	if a.task.Stdin != nil {
		in, err := w.open(ctx, a.master, a.task.Stdin)
		if err != nil {
			return noInput(ctx, err)
		}
		defer in.Close()
		at.Stdin = in
	}
	if err := w.cfg.CheckDir(&a.task); err != nil {
		return tasks.Outcome{Code: tasks.Refused, Text: err.Error()}
	}
	defer func() {
		if r := recover(); r != nil {
			w.cfg.Logger.Printf("[ERR] worker: runner panicked: task=%s kind=%s panic=%q stack=%q", a.key.Task, a.task.Kind, fmt.Sprint(r), debug.Stack())
			o = tasks.Outcome{Code: tasks.Panic, Text: fmt.Sprintf("panic: %v", r)}
		}
	}()
	return w.cfg.Runners[a.task.Kind].Run(ctx, at)
}

// noInput is the outcome of an attempt whose standard input could not be had.
func noInput(ctx context.Context, err error) tasks.Outcome {
	var why *tasks.StopError
	switch {
	case !errors.As(context.Cause(ctx), &why):
		return tasks.Outcome{Code: tasks.Internal, Text: fmt.Sprintf("standard input: %v", err)}
	case why.Reason == tasks.StopTimeout:
		return tasks.Outcome{Code: tasks.Timeout, Text: why.Error()}
	}
	return tasks.Outcome{Code: tasks.Cancelled, Text: why.Error()}
}

func (w *Worker) open(ctx context.Context, node string, c *tasks.Content) (io.ReadCloser, error) {
	if c.Blob == "" {
		return io.NopCloser(newBytesReader(c.Inline)), nil
	}
	if w.cfg.Open == nil {
		return nil, errors.New("this worker fetches no content")
	}
	return w.cfg.Open(ctx, node, c)
}

// leaveLocked gives back the slots of a, and starts whom they fit, but for the
// first, which it returns.
func (w *Worker) leaveLocked(a *attempt) (first *attempt) {
	w.busy -= a.slots
	if w.idle != nil && w.busy == 0 {
		close(w.idle)
		w.idle = nil
	}
	for !w.draining {
		next := w.queue.pop(w.cfg.Slots - w.busy)
		switch {
		case next == nil:
			w.busyLocked()
			return first
		case !w.enterLocked(next): // it waits for the grant
		case first == nil:
			first = next
			w.readyLocked(next)
		default:
			w.startLocked(next)
		}
	}
	w.busyLocked()
	return first
}

// busyLocked tells of the slots in use if that has changed.
func (w *Worker) busyLocked() {
	if w.busy != w.told {
		w.told = w.busy
		w.cfg.Busy(w.busy)
	}
}
