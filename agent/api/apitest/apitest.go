// Package apitest is an agent as the API sees it, for tests of the API and of what
// talks to it: a real master with two workers on an in-memory network, which work
// in a testing/synctest bubble too, real blobs, and everything else as fields.
package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/port/memnet"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/blob"
	"github.com/scagent/scagent/tasks/master"
	"github.com/scagent/scagent/tasks/wire"
	"github.com/scagent/scagent/tasks/worker"
)

// Run is how a worker of a test runs a task.
type Run func(ctx context.Context, a *tasks.Attempt) tasks.Outcome

// runner makes a Run a worker.Runner.
type runner struct{ run Run }

func (r runner) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	o := r.run(ctx, a)
	if o.Started.IsZero() {
		o.Started, o.Finished = time.Now(), time.Now()
	}
	return o
}

// Backend is an api.Backend.
type Backend struct {
	*master.Master
	Store *blob.Store
	Self  api.Info
	Pool  []api.Member
	// Fail is what SetData, SetAvailable, Drain, Join and Leave return.
	Fail error
	// OnBench is what Bench calls; nil: nothing is measured.
	OnBench func(ctx context.Context, r api.BenchRequest, report func(api.Figure) error) error

	// OnSend and OnRequest are what SendEvent and RequestEvent call; nil: to all, and
	// nobody replies.
	OnSend    func(ctx context.Context, r api.SendRequest) (api.Sent, error)
	OnRequest func(ctx context.Context, r api.SendRequest, reply func(api.Reply) error) error

	feed *api.Feed

	mu        sync.Mutex // guards the fields below
	data      json.RawMessage
	available bool
	drained   bool
	joined    []string
	left      bool
}

var _ api.Backend = (*Backend)(nil)

// New starts a backend with the workers w1 and w2, which have two slots each and
// run commands and functions with run. It is stopped when the test ends.
func New(t testing.TB, run Run) *Backend {
	t.Helper()
	store, err := blob.Open(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	b := &Backend{Store: store, feed: api.NewFeed(), available: true,
		Self: api.Info{ID: nodeID("m"), Name: "m", Roles: []string{"master"}},
		Pool: []api.Member{{ID: nodeID("m"), Name: "m", Roles: []string{"master"}, Status: "alive", Self: true}}}
	c := &cluster{t: t, net: memnet.New(), addrs: map[string]string{}}
	cfg := master.DefaultConfig()
	cfg.Node, cfg.Links = nodeID("m"), c
	cfg.Hold = func(c *tasks.Content) { store.Hold(c.Blob) }
	cfg.Release = func(c *tasks.Content) { store.Release(c.Blob) }
	cfg.Changed = func(r tasks.Result) {
		s := api.BriefOf(&r)
		b.feed.Append(api.Event{Event: "task", Task: &s})
	}
	if b.Master, err = master.New(cfg); err != nil {
		t.Fatal(err)
	}
	c.hub = c.newHub("m", wire.Config{Master: b.Master, Events: b.Master})
	b.Master.Resume()
	stops := []func(){b.Master.Close}
	for _, name := range []string{"w1", "w2"} {
		stops = append(stops, c.worker(name, b.Master, run))
	}
	t.Cleanup(func() {
		for _, stop := range stops {
			stop()
		}
		c.hub.Close()
		b.feed.Close()
		store.Close()
	})
	return b
}

// cluster is the master's node and its workers.
type cluster struct {
	t   testing.TB
	net *memnet.Network
	hub *wire.Hub // the master's

	mu    sync.Mutex
	addrs map[string]string // by node id
}

// Connect makes a cluster the master's Links.
func (c *cluster) Connect(ctx context.Context, node string) (*wire.Link, error) {
	return c.hub.Connect(ctx, node)
}

func (c *cluster) newHub(name string, cfg wire.Config) *wire.Hub {
	c.t.Helper()
	c.mu.Lock()
	ip := fmt.Sprintf("10.0.0.%d", len(c.addrs)+1)
	c.addrs[nodeID(name)] = ip + ":44201"
	c.mu.Unlock()
	host := c.net.Host(ip)
	l, p, err := host.Listen(c.t.Context(), ip+":44201")
	if err != nil {
		c.t.Fatal(err)
	}
	p.Close()
	cfg.Self = wire.Hello{Node: nodeID(name), Boot: "1", Cluster: "test", Name: name}
	cfg.Listener = l
	cfg.Dial = func(ctx context.Context, node string) (net.Conn, error) {
		c.mu.Lock()
		addr := c.addrs[node]
		c.mu.Unlock()
		return host.Dial(ctx, addr)
	}
	hub, err := wire.NewHub(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	hub.Start()
	return hub
}

// workerEvents are the events of a worker's hub.
type workerEvents struct{ w *worker.Worker }

func (e workerEvents) Up(*wire.Link)              {}
func (e workerEvents) Load(*wire.Link, wire.Load) {}
func (e workerEvents) Down(l *wire.Link, _ error) { e.w.LinkDown(l) }

func (c *cluster) worker(name string, m *master.Master, run Run) (stop func()) {
	c.t.Helper()
	cfg := worker.DefaultConfig()
	cfg.Name, cfg.Slots = name, 2
	cfg.Runners = map[tasks.Kind]worker.Runner{tasks.Command: runner{run}, tasks.Function: runner{run}}
	w, err := worker.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	hub := c.newHub(name, wire.Config{Worker: w, Events: workerEvents{w}, Load: w.Load})
	m.Update(tasks.Worker{ID: nodeID(name), Boot: "1", Name: name, Slots: 2, Available: true, Known: true,
		Kinds: []tasks.Kind{tasks.Command, tasks.Function}, Functions: []string{"f"}})
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Close(ctx); err != nil {
			c.t.Error(err)
		}
		hub.Close()
	}
}

// nodeID makes an id of the right form from a short name.
func nodeID(name string) string {
	return (strings.NewReplacer("1", "y", "2", "z").Replace(name) + strings.Repeat("a", 26))[:26]
}

// Info returns Self.
func (b *Backend) Info() api.Info { return b.Self }

// APIMembers returns Pool.
func (b *Backend) APIMembers() []api.Member { return b.Pool }

// Tasks is the master's List.
func (b *Backend) Tasks(after tasks.ID, states []tasks.State, limit int) []tasks.Result {
	return b.List(after, states, limit)
}

// batch is a batch of the master, whose tasks need no interpreters.
type batch struct{ *master.Batch }

// AddAt is the master's.
func (b batch) AddAt(ctx context.Context, index uint32, t *tasks.Task) (tasks.ID, error) {
	return b.Batch.AddAt(ctx, index, t)
}

// APIBatch is the master's OpenBatchFollowed.
func (b *Backend) APIBatch(target tasks.Target, options tasks.Options, limit int) (api.Batch, *master.Follower, error) {
	m, f, err := b.OpenBatchFollowed(target, options, limit)
	return batch{m}, f, err
}

// SetData remembers the data.
func (b *Backend) SetData(data json.RawMessage) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Fail == nil {
		b.data = data
	}
	return b.Fail
}

// Data returns what was last given to SetData.
func (b *Backend) Data() json.RawMessage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data
}

// SetAvailable remembers whether the worker is available.
func (b *Backend) SetAvailable(available bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Fail == nil {
		b.available = available
	}
	return b.Fail
}

// Available returns what was last given to SetAvailable; true at first.
func (b *Backend) Available() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.available
}

// Drain remembers that it was called.
func (b *Backend) Drain(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drained = b.Fail == nil
	return b.Fail
}

// Drained reports whether Drain was called.
func (b *Backend) Drained() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.drained
}

// Join remembers the addresses, all of which answer.
func (b *Backend) Join(_ context.Context, addrs ...string) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Fail != nil {
		return 0, b.Fail
	}
	b.joined = append(b.joined, addrs...)
	return len(addrs), nil
}

// Joined returns the addresses given to Join.
func (b *Backend) Joined() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.joined
}

// Leave remembers that it was called.
func (b *Backend) Leave(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = b.Fail == nil
	return b.Fail
}

// Left reports whether Leave was called.
func (b *Backend) Left() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// PutBlob stores content in Store.
func (b *Backend) PutBlob(ctx context.Context, r io.Reader) (hash string, size int64, err error) {
	return b.Store.Put(ctx, r, 1<<40)
}

// OpenBlob opens content of Store.
func (b *Backend) OpenBlob(hash string) (io.ReadSeekCloser, int64, error) {
	f, size, err := b.Store.Get(hash)
	if err != nil {
		return nil, 0, err
	}
	return f, size, nil
}

// Feed returns the events of tasks, and what tests add.
func (b *Backend) Feed() *api.Feed { return b.feed }

// Bench calls OnBench.
func (b *Backend) Bench(ctx context.Context, r api.BenchRequest, report func(api.Figure) error) error {
	if b.OnBench == nil {
		return nil
	}
	return b.OnBench(ctx, r, report)
}

// SendEvent calls OnSend.
func (b *Backend) SendEvent(ctx context.Context, r api.SendRequest) (api.Sent, error) {
	if b.OnSend == nil {
		return api.Sent{Sent: len(b.Pool)}, nil
	}
	return b.OnSend(ctx, r)
}

// RequestEvent calls OnRequest.
func (b *Backend) RequestEvent(ctx context.Context, r api.SendRequest, reply func(api.Reply) error) error {
	if b.OnRequest == nil {
		return nil
	}
	return b.OnRequest(ctx, r, reply)
}
