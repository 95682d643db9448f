package master

import (
	"context"
	"fmt"
	"log"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/port/memnet"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/wire"
	running "github.com/scagent/scagent/tasks/worker"
	"github.com/scagent/scagent/test/bounds"
)

// runner runs every task of a test.
type runner func(ctx context.Context, a *tasks.Attempt) tasks.Outcome

func (r runner) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	start := time.Now()
	o := r(ctx, a)
	o.Started, o.Finished = start, time.Now()
	return o
}

// bench is a master and some workers on an in-memory network, in a bubble.
type bench struct {
	t       testing.TB
	log     *log.Logger
	net     *memnet.Network
	m       *Master
	hub     *wire.Hub
	workers map[string]*benchWorker
	change  func(*Config) // of the master
	dir     string        // of the master's journal, "" for none
	journal *journal.Journal
	lazy    *lazy  // what the master has for it, see lazily
	boxes   string // directory of the workers' journals, "" for none
	mu      sync.Mutex
	addrs   map[string]string // by node id
}

type benchWorker struct {
	id, name, ip string
	journal      *journal.Journal // nil if it has none
	w            *running.Worker
	hub          *wire.Hub
}

// masterHost is the master's address.
const masterHost = "10.0.0.100"

// inBubble runs a test with a master and n workers of two slots that run r.
func inBubble(t *testing.T, n int, r runner, test func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, bounds.Log(t, testLog{t}))
		for i := range n {
			b.add(fmt.Sprintf("w%d", i+1), r)
		}
		defer b.close()
		test(t, b)
	})
}

// durably is inBubble for a master and workers with journals.
func durably(t *testing.T, n int, r runner, test func(t *testing.T, b *bench)) {
	dir, boxes := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, bounds.Log(t, testLog{t}), func(b *bench) { b.dir, b.boxes = dir, boxes })
		for i := range n {
			b.add(fmt.Sprintf("w%d", i+1), r)
		}
		defer b.close()
		test(t, b)
	})
}

// newBench makes a master without workers.
func newBench(t testing.TB, l *log.Logger, options ...func(*bench)) *bench {
	b := &bench{t: t, log: l, net: memnet.New(), workers: map[string]*benchWorker{}, addrs: map[string]string{}, change: func(*Config) {}}
	for _, o := range options {
		o(b)
	}
	b.startMaster()
	return b
}

func (b *bench) startMaster() {
	b.t.Helper()
	b.makeMaster()
	b.linkMaster()
}

// makeMaster makes a master that can have no links yet.
func (b *bench) makeMaster() {
	b.t.Helper()
	cfg := DefaultConfig()
	cfg.Node, cfg.Links, cfg.Logger = nodeID("m"), (*benchLinks)(b), b.log
	var err error
	if b.dir != "" {
		b.journal = b.openJournal(b.dir, cfg.Node)
		cfg.Journal = b.journal
	}
	b.change(&cfg)
	if b.m, err = New(cfg); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) linkMaster() {
	b.t.Helper()
	b.hub = b.newHub(nodeID("m"), "m", masterHost, wire.Config{Master: b.m, Events: b.m})
	b.m.Resume()
}

func (b *bench) openJournal(dir, node string) *journal.Journal {
	b.t.Helper()
	cfg := journal.DefaultConfig()
	cfg.Dir, cfg.Node, cfg.Logger = dir, node, b.log
	j, err := journal.Open(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return j
}

// killMaster ends the master as kill -9 does; what it has accepted is on disk.
func (b *bench) killMaster() {
	b.t.Helper()
	b.net.Host(masterHost).Kill()
	b.stopMaster()
}

func (b *bench) stopMaster() {
	b.m.Close()
	b.hub.Close()
	if b.journal != nil {
		if err := b.journal.Close(); err != nil {
			b.t.Error(err)
		}
	}
}

// restartMaster starts the master that was killed, which then hears of the workers.
func (b *bench) restartMaster() {
	b.t.Helper()
	b.startMaster()
	for _, w := range b.workers {
		b.m.Update(w.info())
	}
}

type benchLinks bench

func (b *benchLinks) Connect(ctx context.Context, node string) (*wire.Link, error) {
	return b.hub.Connect(ctx, node)
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// nodeID makes an id of the right form from a short name.
func nodeID(name string) string {
	name = strings.NewReplacer("0", "z", "1", "y", "8", "x", "9", "v").Replace(name)
	return (name + strings.Repeat("a", 26))[:26]
}

func (b *bench) newHub(id, name, ip string, cfg wire.Config) *wire.Hub {
	b.t.Helper()
	host := b.net.Host(ip)
	l, p, err := host.Listen(b.t.Context(), ip+":44201")
	if err != nil {
		b.t.Fatal(err)
	}
	p.Close()
	b.mu.Lock()
	b.addrs[id] = ip + ":44201"
	b.mu.Unlock()
	cfg.Self = wire.Hello{Node: id, Boot: fmt.Sprint(time.Now().UnixNano()), Cluster: "test", Name: name}
	cfg.Listener = l
	cfg.Dial = func(ctx context.Context, node string) (net.Conn, error) {
		b.mu.Lock()
		addr := b.addrs[node]
		b.mu.Unlock()
		return host.Dial(ctx, addr)
	}
	hub, err := wire.NewHub(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	hub.Start()
	return hub
}

// workerEvents are the events of a worker's hub.
type workerEvents struct{ w *running.Worker }

func (e workerEvents) Up(*wire.Link)              {}
func (e workerEvents) Load(*wire.Link, wire.Load) {}
func (e workerEvents) Down(l *wire.Link, _ error) { e.w.LinkDown(l) }

// add starts a worker, anew if it was killed.
func (b *bench) add(name string, r runner, change ...func(*running.Config)) *benchWorker {
	b.t.Helper()
	cfg := running.DefaultConfig()
	cfg.Name, cfg.Slots = name, 2
	cfg.Runners = map[tasks.Kind]running.Runner{tasks.Command: r, tasks.Function: r}
	cfg.Logger = b.log
	var j *journal.Journal
	if b.boxes != "" {
		j = b.openJournal(filepath.Join(b.boxes, name), nodeID(name))
		cfg.Journal = j
	}
	for _, f := range change {
		f(&cfg)
	}
	w, err := running.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, "w"))
	if err != nil {
		b.t.Fatal(err)
	}
	ip := fmt.Sprintf("10.0.%d.%d", n/100, n%100) // below the master's
	bw := &benchWorker{id: nodeID(name), name: name, ip: ip, w: w, journal: j}
	bw.hub = b.newHub(bw.id, name, ip, wire.Config{Worker: w, Events: workerEvents{w}, Load: w.Load})
	b.workers[name] = bw
	b.m.Update(bw.info())
	return bw
}

func (w *benchWorker) info() tasks.Worker {
	return tasks.Worker{ID: w.id, Boot: "1", Name: w.name, Slots: 2, Available: true, Known: true,
		Kinds: []tasks.Kind{tasks.Command, tasks.Function}, Functions: []string{"f"}}
}

// kill ends a worker as kill -9 does; what it has put on disk is there.
func (b *bench) kill(name string) {
	w := b.workers[name]
	delete(b.workers, name)
	b.net.Host(w.ip).Kill()
	w.stop(b.t)
}

func (w *benchWorker) stop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.w.Close(ctx); err != nil {
		t.Error(err)
	}
	w.hub.Close()
	if w.journal != nil {
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (b *bench) close() {
	b.stopMaster()
	for _, w := range b.workers {
		w.stop(b.t)
	}
}

// cmd is a submission of a command whose argv[0] tells the runner what to do.
func cmd(what string, target tasks.Target, change ...func(*tasks.Options)) tasks.Submission {
	s := tasks.Submission{Task: tasks.Task{Kind: tasks.Command, Argv: []string{what}}, Target: target, Options: tasks.DefaultOptions()}
	for _, f := range change {
		f(&s.Options)
	}
	return s
}

func (b *bench) submit(s tasks.Submission) *Run {
	b.t.Helper()
	r, err := b.m.Submit(b.t.Context(), s)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bench) wait(r *Run) []tasks.Result {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Hour)
	defer cancel()
	rs, err := r.Wait(ctx)
	if err != nil {
		b.t.Fatalf("run has not ended after an hour: %+v", r.Tasks())
	}
	return rs
}

// ended is the outcome of a run that went well.
func ended() tasks.Outcome { return tasks.Outcome{} }

// stopped waits for the end of an attempt's context.
func stopped(ctx context.Context) tasks.Outcome {
	<-ctx.Done()
	return tasks.Outcome{Code: tasks.Cancelled, Text: context.Cause(ctx).Error()}
}

// sendResult sends an outcome as a worker does.
func sendResult(l *wire.Link, k wire.Key, o *tasks.Outcome) error {
	r, err := wire.NewResult(k, o)
	if err != nil {
		return err
	}
	return l.SendResult(r)
}
