package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/home"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/beacon"
	"github.com/scagent/scagent/membership/tracker"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/blob"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/master"
	"github.com/scagent/scagent/tasks/runner/function"
	"github.com/scagent/scagent/tasks/runner/js"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/supervisor"
	"github.com/scagent/scagent/tasks/wire"
	"github.com/scagent/scagent/tasks/worker"
	"golang.org/x/time/rate"
)

// Agent is a node of the pool. Its methods may be called from any goroutine;
// those that need the pool fail before Start and after Close.
type Agent struct {
	cfg       Config // constant
	functions *function.Registry

	// The parts, constant from Start on. Each is nil until it is open, so that
	// close can be called at any time.
	home     *home.Home
	id       identity
	name     string
	port     *port.Port
	blobs    *blob.Store
	history  *history.Log     // nil: none is written
	journal  *journal.Journal // nil in an agent that keeps no tasks
	http     *http.Client     // to nodes, by id
	bulk     *http.Client     // the same, for large contents
	trackers *http.Client     // to trackers, by URL
	owners   *http.Transport  // to the owners of tasks, by id

	// The posture; both nil: insecure.
	keys       *secret.Keyring  // nil without a secret
	secretRead string           // secretModified when its file was read
	neighbours *port.Neighbours // nil but in the open posture

	supervisor *supervisor.Supervisor // nil without the role worker
	runAs      *process.User          // as whom tasks run; nil: as the agent
	worker     *worker.Worker         // nil without the role
	scripts    *js.Runner             // the worker's; nil without the role
	master     *master.Master
	hub        *wire.Hub
	pool       *membership.Pool
	bus        *bus.Bus
	beacon     *beacon.Beacon   // nil without Config.Multicast
	tracker    *tracker.Handler // nil without the role
	feed       *api.Feed
	hooks      hooks
	servers    []*http.Server
	local      localAPI
	started    time.Time

	ctx         context.Context // ends with Close
	cancel      context.CancelFunc
	opened      chan struct{}  // closed when Start opens nothing more
	wg          sync.WaitGroup // goroutines of the agent itself
	dials       chan struct{}  // a token for each dial that an announcement caused
	notJoined   rate.Sometimes // of log lines about announcements that led nowhere: strangers can cause them
	badMessages atomic.Uint64  // gossip messages that mean nothing
	httpRefused atomic.Uint64  // requests to the public server of who may not make them
	httpCrowded atomic.Uint64  // connections to it closed because there were too many
	apiRefusals atomic.Uint64  // the same of the local API
	benching    atomic.Bool    // Bench measures
	rotated     chan struct{}  // has a token when a member has said that there is a newer secret

	// mu guards the fields below. It is not held while parts start or stop.
	mu        sync.Mutex
	state     state
	document  membership.Document
	available bool
	draining  bool
	answerers []*answerer   // of requests, in the order in which they are asked
	done      chan struct{} // closed when the agent is to end because Leave was asked for
}

type state uint8

const (
	fresh state = iota
	starting
	up
	closed
)

// Errors of an agent that is not up.
var (
	ErrNotStarted = errors.New("the agent is not started")
	ErrClosed     = errors.New("the agent is closed")
)

// New checks the configuration and returns an Agent that has not opened anything.
func New(cfg Config) (*Agent, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Agent{
		cfg: cfg, functions: function.NewRegistry(), feed: api.NewFeed(),
		ctx: ctx, cancel: cancel, opened: make(chan struct{}), dials: make(chan struct{}, announceDials), notJoined: rate.Sometimes{First: 10, Interval: 10 * time.Second}, rotated: make(chan struct{}, 1), done: make(chan struct{}),
		available: !cfg.Unavailable,
	}, nil
}

// Start opens the agent's port and joins the pool. It returns when others can
// reach the agent, which may be before it has found others. ctx bounds the start
// alone. When it fails everything is closed again. Close ends it.
func (a *Agent) Start(ctx context.Context) error {
	a.mu.Lock()
	if a.state != fresh {
		a.mu.Unlock()
		return errors.New("agent: Start was called twice")
	}
	a.state = starting
	a.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	err := a.open(ctx)
	close(a.opened)
	a.mu.Lock()
	if a.state == closed { // by Close, which waits no more
		a.mu.Unlock()
		return ErrClosed
	}
	if err == nil {
		a.state = up
	}
	a.mu.Unlock()
	if err != nil {
		a.Close()
	}
	return err
}

func (a *Agent) running() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case up:
		return nil
	case closed:
		return ErrClosed
	}
	return ErrNotStarted
}

// Ready reports whether the agent is up.
func (a *Agent) Ready() bool { return a.running() == nil }

// Feed is the stream of events that the API shows.
func (a *Agent) Feed() *api.Feed { return a.feed }

// Done is closed when someone has asked the agent to leave, see Leave: the
// program should close it then.
func (a *Agent) Done() <-chan struct{} { return a.done }

// SetData replaces the user's data about this node, any JSON. Other members see
// it within seconds. Data that is too large fails with
// membership.ErrDocumentTooLarge and changes nothing.
func (a *Agent) SetData(data json.RawMessage) error {
	if err := a.running(); err != nil {
		return err
	}
	if !json.Valid(data) {
		return errors.New("data is not JSON")
	}
	a.mu.Lock()
	defer a.mu.Unlock() // so that two calls do not cross; SetDocument does not wait for the network
	d := a.document
	d.Data = append(json.RawMessage(nil), data...)
	if err := a.pool.SetDocument(d); err != nil {
		return err
	}
	a.document = d
	return nil
}

// Data returns what SetData or the configuration set.
func (a *Agent) Data() json.RawMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.document.Data
}

// SetAvailable takes this node's worker out of the list of available workers, or
// puts it back. Tasks that run go on. What drains is not put back.
func (a *Agent) SetAvailable(available bool) error {
	if err := a.running(); err != nil {
		return err
	}
	a.mu.Lock()
	if available && a.draining {
		a.mu.Unlock()
		return fmt.Errorf("%w, which ends when the agent is started anew", tasks.ErrDraining)
	}
	a.available = available
	a.mu.Unlock()
	a.pool.SetAvailable(available)
	return nil
}

// Drain takes no new tasks and waits until those that run here have ended, or
// ctx has.
func (a *Agent) Drain(ctx context.Context) error {
	if err := a.running(); err != nil {
		return err
	}
	a.mu.Lock()
	a.draining = true
	a.mu.Unlock()
	a.pool.SetAvailable(false)
	if a.worker == nil {
		return nil
	}
	return a.worker.Drain(ctx)
}

// Leave tells the pool that this node goes, and asks the program to close the
// agent by closing Done. ctx bounds how long the word may take to spread.
func (a *Agent) Leave(ctx context.Context) error {
	if err := a.running(); err != nil {
		return err
	}
	a.history.Add(history.Event{Name: history.Stopping})
	err := a.pool.Leave(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.done:
	default:
		close(a.done)
	}
	return err
}

// answerTimeout bounds how long Close waits for answers that are being written.
const answerTimeout = 200 * time.Millisecond

// closeTimeout bounds how long Close waits for runners that were told to end.
const closeTimeout = 10 * time.Second

// Close stops everything: tasks that run here are killed, tasks submitted here
// are cancelled, others see the node fail unless Leave was called. When it
// returns nothing of the agent runs any more, or its error names what does. It
// may be called twice.
func (a *Agent) Close() error {
	a.mu.Lock()
	if a.state == closed {
		a.mu.Unlock()
		return nil
	}
	wasStarting := a.state == starting
	a.state = closed
	a.mu.Unlock()
	if wasStarting { // what it opens after this would stay open
		a.cancel()
		<-a.opened
	}

	a.history.Add(history.Event{Name: history.Stopping})
	a.cancel()
	a.feed.Close() // ends the streams of events, which would hold the servers up
	if a.bus != nil {
		a.bus.Close()
	}
	errs := []error{a.closeHooks()}
	for _, s := range a.servers {
		// Who asked for the end is answered still; who takes longer is cut off.
		ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
		cancel()
	}
	if a.local.tcp != nil {
		a.local.tcp.Close() // when it was not served yet
	}
	if a.beacon != nil {
		errs = append(errs, a.beacon.Close())
	}
	if a.master != nil {
		a.master.Close()
	}
	if a.worker != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		errs = append(errs, a.worker.Close(ctx))
		cancel()
	}
	if a.scripts != nil {
		errs = append(errs, a.scripts.Close())
	}
	if a.hub != nil {
		errs = append(errs, a.hub.Close())
	}
	if a.pool != nil {
		errs = append(errs, a.pool.Close())
	}
	if a.port != nil {
		errs = append(errs, a.port.Close())
	}
	if a.http != nil {
		a.http.CloseIdleConnections()
		a.owners.CloseIdleConnections()
	}
	a.wg.Wait()
	if a.supervisor != nil {
		errs = append(errs, a.supervisor.Close())
	}
	defer func() { a.history.Close() }() // an error was logged
	if a.journal != nil {
		errs = append(errs, a.journal.Close())
	}
	if a.blobs != nil {
		errs = append(errs, a.blobs.Close())
	}
	if a.home != nil {
		errs = append(errs, a.home.Release())
	}
	return errors.Join(errs...)
}

// serve answers HTTP on a listener until Close.
func (a *Agent) serve(l net.Listener, s *http.Server) {
	s.ErrorLog = a.cfg.Logger
	a.servers = append(a.servers, s)
	a.wg.Go(func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && a.ctx.Err() == nil {
			a.cfg.Logger.Printf("[ERR] agent: HTTP server ended: addr=%s err=%q", l.Addr(), fmt.Sprint(err))
		}
	})
}
