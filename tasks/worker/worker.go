package worker

import (
	"context"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
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

	// Journal has the outcomes of tasks that their masters have on disk, until the
	// acks. They are kept for Retain then, over restarts of this agent, and at most
	// so many, and so many bytes; the oldest go first. All that are kept are in memory
	// too, and a new link takes them at once. Default: none; 24h, 10,000 and 32 MiB.
	Journal          Journal
	Retain           time.Duration
	MaxRetained      int
	MaxRetainedBytes int

	// Open opens content that a task names by hash, from the node that offered it.
	Open func(ctx context.Context, node string, c *tasks.Content) (io.ReadCloser, error)
	// Keep takes over a file that a task made, into the result if it has at most
	// inline bytes; Release gives it up again.
	Keep    func(path string, inline int64) (tasks.Content, error)
	Release func(c *tasks.Content)
	// Busy is told the number of slots in use when it changes. It must not block.
	Busy func(slots int)

	// Received is told of each attempt that starts, and of its master's link; nil when
	// that is broken. It is called under a lock: it must not block. Default: nobody is told.
	Received func(master string, l *wire.Link, k wire.Key, run tasks.ID, kind tasks.Kind)

	// History has what happens to attempts, for checking. It may be nil.
	History *history.Log

	Logger *log.Logger
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Slots:       1,
		MaxQueued:   8192,
		Lease:       3 * time.Second,
		KeepOutcome: 10 * time.Minute,
		Retain:      24 * time.Hour,
		MaxRetained: 10_000,
		Check:       func(*tasks.Task) error { return nil },
		CheckDir:    func(*tasks.Task) error { return nil },
		Release:     func(*tasks.Content) {},
		Busy:        func(int) {},
		Logger:      log.New(io.Discard, "", 0),

		MaxRetainedBytes: 32 << 20,
	}
}

// Worker runs attempts. It is the wire.FromMaster of its node.
type Worker struct {
	cfg  Config         // constant
	wg   sync.WaitGroup // every lane, and what reports on a new link
	hand chan *attempt  // to a lane that has nothing to do
	quit chan struct{}  // closed by Close

	// mu guards the fields below and those of every attempt. It is not held
	// while a runner runs or an output is written; the sends of a link that are
	// made under it do not block.
	mu       sync.Mutex
	attempts map[wire.Key]*attempt
	queue    queue
	outbox   outbox
	busy     int         // slots in use
	told     int         // Config.Busy was told
	waiting  int         // lanes that have nothing to do
	fresh    []*attempt  // started since started was set, and not told of
	started  *time.Timer // tells masters of fresh; it runs while there are some
	draining bool
	closed   bool
	idle     chan struct{} // closed when busy is 0, made by Drain
}

// New checks cfg and returns a Worker, with the outcomes that its journal has; it
// starts nothing.
func New(cfg Config) (*Worker, error) {
	switch {
	case cfg.Slots < 1:
		return nil, fmt.Errorf("worker: Slots is %d; want at least 1", cfg.Slots)
	case cfg.MaxQueued < 0:
		return nil, fmt.Errorf("worker: MaxQueued is %d; want 0 or more", cfg.MaxQueued)
	case cfg.Lease <= 0 || cfg.KeepOutcome <= 0:
		return nil, fmt.Errorf("worker: Lease is %v and KeepOutcome %v; want both above 0", cfg.Lease, cfg.KeepOutcome)
	}
	w := &Worker{cfg: cfg, attempts: map[wire.Key]*attempt{}, hand: make(chan *attempt), quit: make(chan struct{})}
	w.started = time.AfterFunc(time.Hour, w.tellStarted)
	w.started.Stop()
	if cfg.Journal != nil {
		w.outbox.all = map[uint64]*attempt{}
		w.mu.Lock()
		defer w.mu.Unlock()
		if err := w.restoreLocked(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Load returns what the worker tells its masters now and then.
func (w *Worker) Load() wire.Load {
	w.mu.Lock()
	defer w.mu.Unlock()
	return wire.Load{Slots: uint32(w.cfg.Slots), Busy: uint32(w.busy), Queued: uint32(w.queue.len()), Draining: w.draining}
}

// Drain takes no new attempts and waits until those that have slots have ended or
// ctx has. Queued ones are given back to their masters.
func (w *Worker) Drain(ctx context.Context) error {
	w.mu.Lock()
	w.draining = true
	for a := w.queue.pop(w.cfg.Slots); a != nil; a = w.queue.pop(w.cfg.Slots) {
		delete(w.attempts, a.key)
		if a.link != nil {
			w.rejectLocked(a.link, a.key, tasks.Draining, "the worker is draining")
		}
	}
	if w.busy == 0 {
		w.mu.Unlock()
		return nil
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain: %d slots are in use still: %w", w.Load().Busy, context.Cause(ctx))
	}
}

// Resume takes new attempts again after Drain.
func (w *Worker) Resume() {
	w.mu.Lock()
	w.draining = false
	w.mu.Unlock()
}

// Close kills what runs and waits for it; outcomes on disk stay there. It returns an error that names the
// tasks whose runners have not returned when ctx ends. It may be called twice.
func (w *Worker) Close(ctx context.Context) error {
	w.mu.Lock()
	if !w.closed {
		close(w.quit)
		w.started.Stop()
	}
	w.closed, w.draining = true, true
	for _, a := range w.attempts {
		if a.expire != nil {
			a.expire.Stop()
		}
		a.forsaken = true
		a.stopLocked(tasks.StopKill)
		a.discardLocked()
		if a.phase == awaitingGrant {
			w.leaveLocked(a)
		}
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

// Outcomes returns how many outcomes wait for the acks of their masters.
func (w *Worker) Outcomes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, a := range w.attempts {
		if a.phase == finished {
			n++
		}
	}
	return n
}
