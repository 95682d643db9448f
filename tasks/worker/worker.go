package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"runtime/debug"
	"sync"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// Runner runs the attempts of one kind. Run returns when nothing of the attempt
// runs any more.
type Runner interface {
	Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome
}

// Config configures a Worker. Start from DefaultConfig; New copies it.
type Config struct {
	Name    string // of this node, for SCAGENT_NODE
	Slots   int    // attempts that run at once. Default: 1
	Runners map[tasks.Kind]Runner

	// Check says why this worker does not run a task, in words that begin with a
	// stable code; see package policy. It must not block. CheckDir is the same, asked
	// when the attempt has its slot, and may take its time. Default: it runs all.
	Check, CheckDir func(*tasks.Task) error
	// MaxRun bounds an attempt's run, whatever its master asks; 0 is no bound.
	MaxRun time.Duration

	// MaxQueued bounds the attempts that wait here, for all masters together;
	// more are rejected as Busy. Default: 8192.
	MaxQueued int
	// Lease is how long an at-most-once attempt runs on without a link to its
	// master. Default: 3s.
	Lease time.Duration
	// KeepOutcome is how long an attempt's outcome, and an attempt whose master
	// is gone, is kept for a master that may come back. Default: 10m.
	KeepOutcome time.Duration

	// Open opens content that a task names by hash, from the node that offered it.
	Open func(ctx context.Context, node string, c *tasks.Content) (io.ReadCloser, error)
	// Keep takes over a file that a task made, into the result if it has at most
	// inline bytes; Release gives it up again.
	Keep    func(path string, inline int64) (tasks.Content, error)
	Release func(c *tasks.Content)
	// Busy is told the number of slots in use when it changes. It must not block.
	Busy func(slots int)

	Logger *log.Logger
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Slots:       1,
		MaxQueued:   8192,
		Lease:       3 * time.Second,
		KeepOutcome: 10 * time.Minute,
		Check:       func(*tasks.Task) error { return nil },
		CheckDir:    func(*tasks.Task) error { return nil },
		Release:     func(*tasks.Content) {},
		Busy:        func(int) {},
		Logger:      log.New(io.Discard, "", 0),
	}
}

// Worker runs attempts. It is the wire.FromMaster of its node.
type Worker struct {
	cfg Config         // constant
	wg  sync.WaitGroup // every attempt that runs

	// mu guards the fields below and those of every attempt. It is not held
	// while a runner runs or an output is written; the sends of a link that are
	// made under it do not block.
	mu       sync.Mutex
	attempts map[wire.Key]*attempt
	queue    queue
	busy     int // slots in use
	running  int // runners that have not returned
	draining bool
	closed   bool
	idle     chan struct{} // closed when running is 0, made by Drain
}

// New checks cfg and returns a Worker; it starts nothing.
func New(cfg Config) (*Worker, error) {
	switch {
	case cfg.Slots < 1:
		return nil, fmt.Errorf("worker: Slots is %d; want at least 1", cfg.Slots)
	case cfg.MaxQueued < 0:
		return nil, fmt.Errorf("worker: MaxQueued is %d; want 0 or more", cfg.MaxQueued)
	case cfg.Lease <= 0 || cfg.KeepOutcome <= 0:
		return nil, fmt.Errorf("worker: Lease is %v and KeepOutcome %v; want both above 0", cfg.Lease, cfg.KeepOutcome)
	}
	return &Worker{cfg: cfg, attempts: map[wire.Key]*attempt{}}, nil
}

// phase is where an attempt stands on this worker.
type phase uint8

const (
	queued        phase = iota + 1 // waits for a slot
	awaitingGrant                  // at most once: holds its slots, waits for the master's word
	running
	finished // its outcome waits for the master's ack
)

func (p phase) wire() wire.AttemptPhase {
	return [...]wire.AttemptPhase{wire.Unknown, wire.Queued, wire.AwaitingGrant, wire.Running, wire.Finished}[p]
}

// attempt is what the worker holds of one. Its fields are guarded by Worker.mu,
// but for those that say otherwise.
type attempt struct {
	key        wire.Key   // constant
	offer      wire.Offer // constant; Spec is not kept
	task       tasks.Task // constant
	master     string     // node id, constant
	slots      int        // constant
	phase      phase
	link       *wire.Link              // nil while there is none
	told       *wire.Link              // the last link on which the outcome was sent
	out        *output                 // constant, has its own lock
	stop       context.CancelCauseFunc // while running
	stopReason tasks.StopReason
	kill       chan struct{} // closed once; see tasks.Attempt
	mute       *time.Timer   // of endLocked, stopped when the runner has returned
	killed     bool
	forsaken   bool // nobody wants the outcome any more
	outcome    tasks.Outcome
	expire     *time.Timer // runs while link is nil and something must end
}

// Load returns what the worker tells its masters now and then.
func (w *Worker) Load() wire.Load {
	w.mu.Lock()
	defer w.mu.Unlock()
	return wire.Load{Slots: uint32(w.cfg.Slots), Busy: uint32(w.busy), Queued: uint32(w.queue.len()), Draining: w.draining}
}

// Drain takes no new attempts and waits until those that run have ended or ctx
// has. Queued ones are given back to their masters.
func (w *Worker) Drain(ctx context.Context) error {
	w.mu.Lock()
	w.draining = true
	for a := w.queue.pop(w.cfg.Slots); a != nil; a = w.queue.pop(w.cfg.Slots) {
		delete(w.attempts, a.key)
		if a.link != nil {
			a.link.SendReject(a.key, tasks.Draining, "the worker is draining")
		}
	}
	if w.running == 0 {
		w.mu.Unlock()
		return nil
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle, n := w.idle, w.running
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain: %d attempts still run: %w", n, context.Cause(ctx))
	}
}

// Resume takes new attempts again after Drain.
func (w *Worker) Resume() {
	w.mu.Lock()
	w.draining = false
	w.mu.Unlock()
}

// Close kills what runs and waits for it. It returns an error that names the
// tasks whose runners have not returned when ctx ends. It may be called twice.
func (w *Worker) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed, w.draining = true, true
	for _, a := range w.attempts {
		if a.expire != nil {
			a.expire.Stop()
		}
		a.forsaken = true
		a.stopLocked(tasks.StopKill)
		a.out.discard()
		if a.phase != running {
			delete(w.attempts, a.key)
		}
	}
	w.queue = queue{}
	w.mu.Unlock()

	done := make(chan struct{})
	go func() { w.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var stuck []string
	for _, a := range w.attempts {
		stuck = append(stuck, a.key.Task.String())
	}
	return fmt.Errorf("worker: %d runners ignore that they were stopped: tasks %v", len(stuck), stuck)
}

// enterLocked starts a, or asks for the grant, now that its slots are taken.
func (w *Worker) enterLocked(a *attempt) {
	w.busy += a.slots
	w.cfg.Busy(w.busy)
	if a.link == nil && !a.offer.AtMostOnce {
		w.expireLocked(a, w.cfg.KeepOutcome) // it may run on without its master
	}
	if a.offer.AtMostOnce {
		a.phase = awaitingGrant
		if a.link != nil {
			a.link.SendAccept(a.key, false)
		}
		return
	}
	w.startLocked(a)
}

func (w *Worker) startLocked(a *attempt) {
	a.phase = running
	w.running++
	if a.link != nil {
		a.link.SendStarted(a.key)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	a.stop, a.kill = stop, make(chan struct{})
	w.wg.Go(func() { w.run(ctx, a) })
}

// run runs the attempt and reports its outcome.
func (w *Worker) run(ctx context.Context, a *attempt) {
	defer a.stop(nil)
	d := a.offer.Timeout
	if m := w.cfg.MaxRun; m > 0 && (d <= 0 || d > m) {
		d = m
	}
	if d > 0 {
		timer := time.AfterFunc(d, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if a.stopReason == 0 {
				a.endLocked(&tasks.StopError{Reason: tasks.StopTimeout, After: d})
			}
		})
		defer timer.Stop()
	}
	started := time.Now()
	o := w.runKind(ctx, a)
	if o.Started.IsZero() {
		o.Started = started
	}
	if o.Finished.IsZero() {
		o.Finished = time.Now()
	}
	o.StdoutBytes, o.StderrBytes = a.out.totals()

	w.mu.Lock()
	a.phase, a.outcome = finished, o
	if a.mute != nil {
		a.mute.Stop()
	}
	w.running--
	w.leaveLocked(a)
	if w.idle != nil && w.running == 0 {
		close(w.idle)
		w.idle = nil
	}
	l := a.link
	switch {
	case a.forsaken || w.closed:
		w.forgetLocked(a)
		l = nil
	case l == nil:
		w.expireLocked(a, w.cfg.KeepOutcome)
	}
	w.mu.Unlock()
	if l != nil {
		w.report(a, l)
	}
}

// report sends on l what was written and not sent, and then, if the attempt has
// ended, its outcome.
func (w *Worker) report(a *attempt, l *wire.Link) {
	a.out.send()
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.link != l || a.told == l || a.phase != finished || w.attempts[a.key] != a {
		return
	}
	a.told = l // once: a second one would overtake output
	if err := l.SendResult(a.key, &a.outcome); errors.Is(err, wire.ErrFrameTooLarge) {
		for i := range a.outcome.Outputs {
			w.cfg.Release(&a.outcome.Outputs[i].Content)
		}
		a.outcome = tasks.Outcome{Code: tasks.Internal, Started: a.outcome.Started, Finished: a.outcome.Finished,
			Text: fmt.Sprintf("the result does not fit into a message: %d files, %d bytes of value; pack the files into an archive", len(a.outcome.Outputs), len(a.outcome.Value))}
		l.SendResult(a.key, &a.outcome)
	}
}

// maxInlineOutputs is how many bytes of files travel inside a result; the rest
// is fetched by hash.
const maxInlineOutputs = 256 << 10

// runKind calls the runner; a panic in it is the attempt's.
func (w *Worker) runKind(ctx context.Context, a *attempt) (o tasks.Outcome) {
	at := &tasks.Attempt{
		Task: &a.task, ID: a.key.Task, Run: a.offer.Run, N: a.key.N, Index: int(a.offer.Index), Slots: a.slots,
		Node: w.cfg.Name, Stdout: a.out.stream(wire.Stdout), Stderr: a.out.stream(wire.Stderr),
		Open: func(ctx context.Context, c *tasks.Content) (io.ReadCloser, error) { return w.open(ctx, a.master, c) },
		Kill: a.kill,
	}
	room := int64(maxInlineOutputs)
	at.Keep = func(path string) (tasks.Content, error) {
		c, err := w.cfg.Keep(path, room/8)
		room -= int64(len(c.Inline))
		return c, err
	}
	if a.task.Stdin != nil {
		in, err := w.open(ctx, a.master, a.task.Stdin)
		if err != nil {
			return tasks.Outcome{Code: tasks.Internal, Text: fmt.Sprintf("standard input: %v", err)}
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

func (w *Worker) open(ctx context.Context, node string, c *tasks.Content) (io.ReadCloser, error) {
	if c.Blob == "" {
		return io.NopCloser(newBytesReader(c.Inline)), nil
	}
	if w.cfg.Open == nil {
		return nil, errors.New("this worker fetches no content")
	}
	return w.cfg.Open(ctx, node, c)
}

// leaveLocked gives back the slots of a and starts whom they fit.
func (w *Worker) leaveLocked(a *attempt) {
	w.busy -= a.slots
	for !w.draining {
		next := w.queue.pop(w.cfg.Slots - w.busy)
		if next == nil {
			break
		}
		w.enterLocked(next)
	}
	w.cfg.Busy(w.busy)
}

// forgetLocked drops an attempt that does not run.
func (w *Worker) forgetLocked(a *attempt) {
	if a.expire != nil {
		a.expire.Stop()
	}
	for i := range a.outcome.Outputs {
		w.cfg.Release(&a.outcome.Outputs[i].Content)
	}
	a.out.discard()
	delete(w.attempts, a.key)
}

// lastWords is how long an attempt that is stopped may wait for its reader.
const lastWords = 5 * time.Second

// endLocked ends the context of a running attempt. A reader that takes nothing
// does not keep it from ending.
func (a *attempt) endLocked(why *tasks.StopError) {
	a.stopReason = why.Reason
	a.stop(why)
	a.mute = time.AfterFunc(lastWords, a.out.discard)
}

// stopLocked asks a running attempt to stop, the first reason being the one that
// it is told, and a later, harder one killing it.
func (a *attempt) stopLocked(r tasks.StopReason) {
	if a.phase != running {
		return
	}
	if (r == tasks.StopKill || a.stopReason != 0 && r != tasks.StopSuperfluous) && !a.killed {
		a.killed = true
		close(a.kill)
		a.out.discard()
	}
	if a.stopReason == 0 {
		a.endLocked(&tasks.StopError{Reason: r})
	}
}

// expireLocked ends a if there is no link to its master by then: what waits is
// dropped, what runs is stopped.
func (w *Worker) expireLocked(a *attempt, after time.Duration) {
	if a.expire != nil {
		a.expire.Stop()
	}
	a.expire = time.AfterFunc(after, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if a.link == nil && w.attempts[a.key] == a {
			w.cfg.Logger.Printf("[WARN] worker: master is gone, attempt given up: task=%s attempt=%d", a.key.Task, a.key.N)
			w.dropLocked(a)
		}
	})
}

// dropLocked gets rid of an attempt that nobody wants.
func (w *Worker) dropLocked(a *attempt) {
	switch a.phase {
	case queued:
		w.queue.remove(a)
		w.forgetLocked(a)
	case awaitingGrant:
		w.forgetLocked(a)
		w.leaveLocked(a)
	case running:
		a.forsaken = true
		a.out.discard()
		a.stopLocked(tasks.StopSuperfluous)
	case finished:
		w.forgetLocked(a)
	}
}
