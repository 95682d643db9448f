package master

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/wire"
)

// Links opens and finds the links to workers; *wire.Hub does.
type Links interface {
	Connect(ctx context.Context, node string) (*wire.Link, error)
}

// Config configures a Master. Start from DefaultConfig; New copies it.
type Config struct {
	Node  string // id of this node, the owner of the tasks
	Links Links

	// Announce asks nodes, by gossip, to dial this one for a run. It must not
	// block. False means that they were not asked, and are to be dialled.
	// Default: they are dialled.
	Announce func(run tasks.ID, nodes []string) bool
	// AnnounceWait is how long announced nodes have before they are dialled.
	// Default: 150ms.
	AnnounceWait time.Duration

	// Fetch brings content that a worker made here; Hold and Release keep content
	// that a queued task names. They may be nil when no task names any.
	Fetch         func(ctx context.Context, node string, c *tasks.Content) error
	Hold, Release func(c *tasks.Content)
	// Full reports whether an error of Fetch says that there is no room here, which may
	// pass: content is fetched again then. Default: none does.
	Full func(err error) bool
	// Sync puts content on disk that a task in the journal names.
	Sync func(c *tasks.Content) error

	// Lease is how long a worker may be silent before its attempts are lost. Default: 3s.
	Lease time.Duration
	// ReachTimeout is how long a worker that a task is bound to is dialled before
	// the task is given up as never reached. Default: 5s.
	ReachTimeout time.Duration
	// DocumentWait is how long a submission waits for documents of members that
	// have not been fetched yet. Default: 2s.
	DocumentWait time.Duration

	// MaxQueued bounds the tasks that have not ended; more are refused with
	// ErrFull. Default: 2,000,000.
	MaxQueued int
	// MaxKept and MaxKeptBytes bound the ended tasks, and what their results and
	// output take together, that can still be asked for; the oldest go first.
	// Default: 10,000 and 256 MiB.
	MaxKept      int
	MaxKeptBytes int64

	// Journal has the tasks on disk that are not ephemeral nor in a batch. They go on
	// after a restart, and ended ones can be asked for until Retain after the end of
	// their run, or until more than MaxRetained tasks have ended since. Default: none;
	// 24h and 100,000.
	Journal     Journal
	Retain      time.Duration
	MaxRetained int
	// Grace is how long after a restart workers have to come back with what they had.
	// Default: 30s.
	Grace time.Duration

	// History has what happens to tasks, for checking. It may be nil.
	History *history.Log

	// Changed is told of each state that a task enters, in order, unless the task
	// is ephemeral. It runs under the Master's lock: it must not block nor call back.
	Changed func(tasks.Result)

	Logger *log.Logger
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		AnnounceWait: 150 * time.Millisecond,
		Lease:        3 * time.Second,
		ReachTimeout: 5 * time.Second,
		DocumentWait: 2 * time.Second,
		MaxQueued:    2_000_000,
		MaxKept:      10_000,
		MaxKeptBytes: 256 << 20,
		Retain:       24 * time.Hour,
		MaxRetained:  100_000,
		Grace:        30 * time.Second,
		Announce:     func(tasks.ID, []string) bool { return false },
		Hold:         func(*tasks.Content) {},
		Release:      func(*tasks.Content) {},
		Sync:         func(*tasks.Content) error { return nil },
		Changed:      func(tasks.Result) {},
		Logger:       log.New(io.Discard, "", 0),
	}
}

// Master is the wire.FromWorker of its node.
type Master struct {
	cfg    Config // constant
	ids    *tasks.IDs
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // goroutines that dial and fetch

	// mu guards the fields below and everything they lead to.
	mu       sync.Mutex
	workers  map[string]*worker
	places   []*worker            // the same by worker.place; nil: free
	over     map[*worker]struct{} // those that were given more than they have slots
	hungry   map[*worker]struct{} // those for which work was asked back, until some comes
	classes  map[classKey]*class
	waiting  []*class // those with a task in their queue, by priority
	live     []*class // those with tasks
	dynamic  int      // of live, those that look at which slots are free
	idles    []*class // those without that are kept, the oldest first
	opened   uint64   // how often a worker got credit again, see openLocked
	tasks    map[tasks.ID]*task
	runs     map[tasks.ID]*Run
	open     int // tasks that have not ended
	kept     keeper
	retained retained
	resumed  bool        // links can be had
	audit    *time.Timer // see Resume
	// journalOff says that the journal refused the last submission.
	journalOff bool
	changed    chan struct{} // closed, and made anew, when the workers change
	closed     bool
	stats      Stats
	random     *rand.Rand // tests seed it
}

// Stats counts since the start.
type Stats struct {
	Submitted, Done, Failed, Cancelled, Lost uint64 // tasks
	Attempts, LostAttempts, Rejected         uint64
	Recalled                                 uint64
	Stuck                                    uint64 // tasks that had to be set going again, see auditLocked
	Open                                     int    // tasks that have not ended
}

// ErrClosed is returned by a Master that has been closed.
var ErrClosed = errors.New("the agent is shutting down")

// New checks cfg and returns a Master, with the tasks that its journal has and
// without workers. It dials none before Resume is called.
func New(cfg Config) (*Master, error) {
	ids, err := tasks.NewIDs(cfg.Node)
	switch {
	case err != nil:
		return nil, fmt.Errorf("master: %w", err)
	case cfg.Links == nil:
		return nil, errors.New("master: Links is nil")
	case cfg.Lease <= 0 || cfg.ReachTimeout <= 0:
		return nil, fmt.Errorf("master: Lease is %v and ReachTimeout %v; want both above 0", cfg.Lease, cfg.ReachTimeout)
	case cfg.MaxQueued < 1:
		return nil, fmt.Errorf("master: MaxQueued is %d; want at least 1", cfg.MaxQueued)
	}
	m := &Master{
		cfg: cfg, ids: ids,
		workers: map[string]*worker{}, over: map[*worker]struct{}{}, hungry: map[*worker]struct{}{}, classes: map[classKey]*class{},
		tasks: map[tasks.ID]*task{}, runs: map[tasks.ID]*Run{},
		changed: make(chan struct{}),
		random:  rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}
	m.kept = keeper{m: m}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if cfg.Journal != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if err := m.restoreLocked(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Close ends every task that has not ended and is in no journal as cancelled, and the
// wait for results that do not come; it waits for the Master's goroutines. What is in
// the journal goes on: workers keep running it, and the next start takes it up. It may
// be called twice.
func (m *Master) Close() {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		if m.audit != nil {
			m.audit.Stop()
		}
		for _, t := range m.tasks {
			if t.durable() {
				if t.step == granting { // it will not be granted any more
					rec := t.attemptRecord()
					m.cfg.Journal.Write(func(error) {}, journal.Record{Kind: kindAttempt, ID: t.id, Value: encodeRecord(&rec)})
				}
				continue
			}
			m.cancelLocked(t, tasks.StopCancel)
			if !t.state.Final() {
				m.endLocked(t, tasks.StateCancelled, &tasks.Outcome{Code: tasks.Cancelled, Text: "the submitting agent was stopped"})
			}
		}
		for _, w := range m.workers {
			w.timer.Stop()
		}
		m.notifyLocked()
	}
	m.mu.Unlock()
	m.cancel()
	m.wg.Wait()
}

// Stats returns the counters.
func (m *Master) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Open = m.open
	return s
}

// notifyLocked wakes the submissions that wait for workers.
func (m *Master) notifyLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}
