package hook

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks/runner/process"
)

// The defaults of a Config.
const (
	DefaultTimeout    = 30 * time.Second
	DefaultGrace      = 2 * time.Second
	DefaultMaxRunning = 8
)

// Source is a subscription to the agent's events. It is used by one goroutine.
type Source interface {
	// Next waits for the next event. When some were lost, an api.EventMissed comes
	// in their place. An error means that there are no more.
	Next(context.Context) (api.Event, error)
	Close()
}

// Config configures Hooks. Start from DefaultConfig.
type Config struct {
	Hooks []Hook // in the order in which they are asked to answer a request
	// Subscribe returns the events whose names match; others may be among them. Its
	// queue is the hook's, and bounded: the oldest events in it are lost first.
	Subscribe func(bus.Pattern) Source

	// Timeout is how long a command may run. Default: 30s.
	Timeout time.Duration
	// Grace is the time between asking a command to end and killing it. Default: 2s.
	Grace time.Duration
	// MaxRunning is how many commands run at once for events, and again how many for
	// requests. Default: 8.
	MaxRunning int

	// Environ is the agent's own environment, and Env what the commands get of the
	// agent beside it, such as its name.
	Environ, Env []string
	// Dir is the directory in which they run; empty: the agent's.
	Dir string
	// Mark begins an entry of the environment of each run, see the function Mark.
	Mark string
	Nets *process.Nets // that hold what commands start; nil: none do

	Logger *log.Logger
}

// DefaultConfig returns a Config without hooks, source, mark and logger.
func DefaultConfig() Config {
	return Config{Timeout: DefaultTimeout, Grace: DefaultGrace, MaxRunning: DefaultMaxRunning}
}

// Stats count what the commands did since the start.
type Stats struct {
	Runs     uint64 // begun
	Failed   uint64 // of those, not ended with 0 by themselves
	TimedOut uint64 // of those, ended because of Config.Timeout
	Missed   uint64 // events that were lost because a hook was slower than they came
	Busy     uint64 // requests that too many others left no room for
	Dropped  uint64 // bytes of output that were not logged
}

// ErrClosed is the answer to a request when the agent ends.
var ErrClosed = errors.New("the agent is shutting down")

// Hooks run the hooks of one agent.
type Hooks struct {
	cfg              Config        // constant
	runners          []*runner     // constant
	environ          []string      // constant
	events, requests chan struct{} // a token for each command that runs; cap is Config.MaxRunning

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the goroutine of each hook, and all calls of Answer

	mu     sync.Mutex // guards closed, and wg.Add against wg.Wait
	closed bool

	runs, failed, timedOut, missed, busy, dropped atomic.Uint64
}

// New checks the configuration and returns Hooks of which none runs.
func New(cfg Config) (*Hooks, error) {
	for _, hook := range cfg.Hooks {
		if err := hook.Check(); err != nil {
			return nil, fmt.Errorf("hook: %s: %w", hook.name(), err)
		}
	}
	switch {
	case cfg.Subscribe == nil || cfg.Logger == nil || cfg.Mark == "":
		return nil, errors.New("hook: Subscribe, Logger or Mark is missing")
	case cfg.Timeout <= 0 || cfg.Grace <= 0:
		return nil, fmt.Errorf("hook: Timeout is %v and Grace %v; want both above 0", cfg.Timeout, cfg.Grace)
	case cfg.MaxRunning < 1:
		return nil, fmt.Errorf("hook: MaxRunning is %d; want at least 1", cfg.MaxRunning)
	}
	h := &Hooks{cfg: cfg, environ: append(inherited(cfg.Environ), cfg.Env...),
		events: make(chan struct{}, cfg.MaxRunning), requests: make(chan struct{}, cfg.MaxRunning)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for _, hook := range cfg.Hooks {
		h.runners = append(h.runners, &runner{
			h: h, Hook: hook, name: hook.name(),
			lines: rate.NewLimiter(lineRate, lineBurst), warnings: rate.NewLimiter(warningRate, warningBurst), told: map[reason]bool{},
		})
	}
	return h, nil
}

// Start subscribes, and runs the hooks from then on. It is to be called once.
func (h *Hooks) Start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	for _, r := range h.runners {
		events := h.cfg.Subscribe(r.Pattern)
		h.wg.Go(func() { r.follow(events) })
	}
}

// Close ends what runs, as after a timeout, and returns when nothing does any more.
// It may be called twice.
func (h *Hooks) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.wg.Wait()
}

// Stats counts what was done.
func (h *Hooks) Stats() Stats {
	return Stats{Runs: h.runs.Load(), Failed: h.failed.Load(), TimedOut: h.timedOut.Load(),
		Missed: h.missed.Load(), Busy: h.busy.Load(), Dropped: h.dropped.Load()}
}

// answerer returns the hook that answers requests of that name, nil if there is none.
func (h *Hooks) answerer(name string) *runner {
	for _, r := range h.runners {
		if r.Pattern.Match(name) {
			return r
		}
	}
	return nil
}
