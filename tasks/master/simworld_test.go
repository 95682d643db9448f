package master

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scagent/scagent/agent/port/memnet"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/journal/memfs"
	"github.com/scagent/scagent/tasks/wire"
	running "github.com/scagent/scagent/tasks/worker"
)

// world is what a plan happens in: masters with journals in memory and workers on a
// network in memory. Except for clients and what belongs to nodes, one goroutine, that
// of the bubble, does everything in it.
type world struct {
	p       *plan
	net     *memnet.Network
	log     *log.Logger
	began   time.Time
	queue   []event // what is to happen, in order
	masters []*simMaster
	workers []*simWorker
	harness *history.Log
	tapes   []*tape // the histories
	clients sync.WaitGroup

	// mu guards the fields below. It is taken after all locks of nodes.
	mu       sync.Mutex
	addrs    map[string]string // by node id
	runs     []*asked          // by submission; nil: not accepted
	final    map[tasks.ID]tasks.State
	begun    map[tasks.ID]int // how often each task was begun
	apart    map[place]tasks.ID
	active   int          // runners that have not returned
	truth    bytes.Buffer // what tasks write down of themselves
	pid      int
	mistakes []string
}

// place is a worker that a run of several has had.
type place struct {
	run    tasks.ID
	worker string
}

type event struct {
	at time.Duration
	do func()
}

// asked is a submission that was accepted, as its client knows.
type asked struct {
	life  *life // of the master that took it
	owner *simMaster
	run   *Run
	ids   []tasks.ID
}

// life is one start of a node.
type life struct {
	dead  chan struct{} // closed when it is killed
	ended atomic.Bool   // likewise
	pen   *pen
}

func (l *life) kill() {
	l.pen.lost.Store(true)
	l.ended.Store(true)
	close(l.dead)
}

// tape is the history of one node, over all its starts.
type tape struct {
	name string
	mu   sync.Mutex
	b    bytes.Buffer
}

// pen is with what one start writes it. What is written after a kill is lost.
type pen struct {
	*tape
	lost atomic.Bool
}

func (p *pen) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.lost.Load() {
		p.b.Write(b)
	}
	return len(b), nil
}

func (w *world) tape(name string) *tape {
	t := &tape{name: name}
	w.tapes = append(w.tapes, t)
	return t
}

func newWorld(p *plan, l *log.Logger) *world {
	w := &world{
		p: p, net: memnet.New(), log: l, began: time.Now(), runs: make([]*asked, len(p.tasks)),
		addrs: map[string]string{}, final: map[tasks.ID]tasks.State{}, begun: map[tasks.ID]int{}, apart: map[place]tasks.ID{},
	}
	w.harness = history.New(&pen{tape: w.tape("harness")}, history.Event{Node: nodeID("harness"), Boot: "1"})
	w.net.SetDelay(p.delay)
	for i := range p.slots {
		sw := &simWorker{w: w, i: i, name: fmt.Sprintf("w%d", i+1), ip: fmt.Sprintf("10.0.0.%d", i+1)}
		sw.id, sw.tape = nodeID(sw.name), w.tape(sw.name)
		w.workers = append(w.workers, sw)
	}
	for i := range p.masters {
		// One has the larger, the other the smaller id: both ends of a link dial.
		sm := &simMaster{w: w, i: i, name: string("mz"[i]), ip: fmt.Sprintf("10.0.1.%d", i+1), fs: memfs.New[journal.File]()}
		sm.id, sm.tape = nodeID(sm.name), w.tape(sm.name)
		w.masters = append(w.masters, sm)
	}
	return w
}

func (w *world) wrong(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mistakes = append(w.mistakes, fmt.Sprintf(format, a...))
}

// Errorf is for who checks as a test does.
func (w *world) Errorf(format string, a ...any) { w.wrong(format, a...) }

func (w *world) now() time.Duration { return time.Since(w.began) }

func (w *world) at(at time.Duration, do func()) {
	i, _ := slices.BinarySearchFunc(w.queue, at, func(e event, at time.Duration) int { return cmp.Or(cmp.Compare(e.at, at), -1) })
	w.queue = slices.Insert(w.queue, i, event{at, do})
}

func (w *world) after(d time.Duration, do func()) { w.at(w.now()+d, do) }

// happen does what is to happen up to a time.
func (w *world) happen(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= until {
		e := w.queue[0]
		w.queue = w.queue[1:]
		time.Sleep(e.at - w.now())
		e.do()
	}
	time.Sleep(until - w.now())
}

func (w *world) newHub(id, name, ip, boot string, cfg wire.Config) *wire.Hub {
	host := w.net.Host(ip)
	addr := ip + ":44201"
	l, p, err := host.Listen(context.Background(), addr)
	if err != nil {
		panic(err)
	}
	p.Close()
	w.mu.Lock()
	w.addrs[id] = addr
	w.mu.Unlock()
	cfg.Self = wire.Hello{Node: id, Boot: boot, Cluster: "test", Name: name}
	cfg.Listener, cfg.Logger = l, w.log
	cfg.Dial = func(ctx context.Context, node string) (net.Conn, error) {
		w.mu.Lock()
		addr := w.addrs[node]
		w.mu.Unlock()
		return host.Dial(ctx, addr)
	}
	hub, err := wire.NewHub(cfg)
	if err != nil {
		panic(err)
	}
	return hub // to be started
}

func newBoot() string { return fmt.Sprint(time.Now().UnixNano()) }

// simMaster is a master over its starts.
type simMaster struct {
	w            *world
	i            int
	id, name, ip string
	tape         *tape
	fs           *memfs.FS[journal.File]
	holds        int // faults that keep it from running
	ill          int // faults that its disk has
	life         *life
	m            *Master // nil while it does not run
	hub          *wire.Hub
	journal      *journal.Journal
	history      *history.Log
}

// hubLinks are the links of one start.
type hubLinks struct{ hub *wire.Hub }

func (l *hubLinks) Connect(ctx context.Context, node string) (*wire.Link, error) {
	return l.hub.Connect(ctx, node)
}

// start starts it, unless it runs, or something keeps it from doing so.
func (s *simMaster) start() {
	if s.m != nil || s.holds > 0 {
		return
	}
	if err := s.open(); err != nil && s.ill == 0 {
		s.w.wrong("master %s cannot be started: %v", s.name, err)
	}
}

func (s *simMaster) open() error {
	p, w := &s.w.p.masters[s.i], s.w
	jc := journal.DefaultConfig()
	jc.Dir, jc.Node, jc.Logger, jc.FS, jc.MinFree = "j", s.id, w.log, s.fs, 1<<20
	jc.SegmentBytes, jc.FileBytes = p.segment, int(min(p.segment/4, 64<<10))
	j, err := journal.Open(jc)
	if err != nil {
		return err
	}
	boot := newBoot()
	l := &life{dead: make(chan struct{}), pen: &pen{tape: s.tape}}
	h := history.New(l.pen, history.Event{Node: s.id, Boot: boot})
	links := &hubLinks{}
	cfg := DefaultConfig()
	cfg.Node, cfg.Links, cfg.Logger, cfg.Journal, cfg.History = s.id, links, w.log, j, h
	cfg.MaxRetained, cfg.MaxKept = p.maxRetained, p.maxKept
	cfg.Changed = func(r tasks.Result) { w.changed(l, r) }
	m, err := New(cfg)
	if err != nil {
		j.Close()
		h.Close()
		return err
	}
	m.random = rand.New(rand.NewPCG(w.p.seed, uint64(s.i)))
	s.m, s.life, s.journal, s.history = m, l, j, h
	links.hub = w.newHub(s.id, s.name, s.ip, boot, wire.Config{Master: m, Events: m})
	s.hub = links.hub
	s.hub.Start()
	m.Resume()
	for i, sw := range w.workers {
		w.after(time.Duration(i)*100*time.Millisecond, func() {
			if s.m == m && sw.worker != nil {
				m.Update(sw.info())
			}
		})
	}
	return nil
}

// changed holds what a master says of a task against what it said before.
func (w *world) changed(l *life, r tasks.Result) {
	if l.ended.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	old, ended := w.final[r.ID]
	switch {
	case ended:
		w.mistakes = append(w.mistakes, fmt.Sprintf("task %s is %s and had ended as %s", r.ID, r.State, old))
	case r.State.Final():
		w.final[r.ID] = r.State
	}
}

// kill ends it as kill -9 does, or as a crash of its machine.
func (s *simMaster) kill(f fault) {
	s.life.kill()
	r := rand.New(rand.NewPCG(f.r, 7))
	s.fs.Mu.Lock()
	var left *memfs.FS[journal.File]
	switch f.r % 3 {
	case 0:
		left = s.fs.Left(nil, true)
	case 1:
		left = s.fs.Left(nil, false)
	default:
		left = s.fs.Left(r, false)
	}
	left.Before = s.fs.Before
	s.fs.Before = func(*memfs.FS[journal.File], string, string) error { return errors.New("the machine is off") }
	s.fs.Mu.Unlock()
	s.fs = left
	s.w.net.Host(s.ip).Kill()
	s.stop()
}

func (s *simMaster) stop() {
	if n := s.m.Stats().Stuck; n > 0 {
		s.w.wrong("%d tasks were stuck on master %s", n, s.name)
	}
	s.m.Close()
	s.hub.Close()
	s.journal.Close()
	s.history.Close()
	s.m = nil
}

var errDisk = errors.New("input/output error")

// disk makes calls of the journal fail; op is empty when they work again.
func (s *simMaster) disk(ops []string, err error) {
	s.fs.Mu.Lock()
	defer s.fs.Mu.Unlock()
	s.fs.Before = func(_ *memfs.FS[journal.File], op, _ string) error {
		if slices.Contains(ops, op) {
			return err
		}
		return nil
	}
}

// simWorker is a worker over its starts.
type simWorker struct {
	w            *world
	i            int
	id, name, ip string
	tape         *tape
	holds        int
	boot         string
	life         *life
	worker       *running.Worker
	hub          *wire.Hub
	history      *history.Log
	drains       []context.CancelFunc
}

func (s *simWorker) info() tasks.Worker {
	return tasks.Worker{ID: s.id, Boot: s.boot, Name: s.name, Slots: s.w.p.slots[s.i], Available: true, Known: true, Kinds: []tasks.Kind{tasks.Command}}
}

func (s *simWorker) start() {
	if s.worker != nil || s.holds > 0 {
		return
	}
	w := s.w
	s.boot = newBoot()
	l := &life{dead: make(chan struct{}), pen: &pen{tape: s.tape}}
	h := history.New(l.pen, history.Event{Node: s.id, Boot: s.boot, Slots: w.p.slots[s.i], Kinds: []tasks.Kind{tasks.Command}})
	cfg := running.DefaultConfig()
	cfg.Name, cfg.Slots, cfg.MaxQueued, cfg.KeepOutcome = s.name, w.p.slots[s.i], w.p.queues[s.i], keepOutcome
	cfg.Retain = keepOutcome // an ack may be lost with a link, and no master dials for that alone
	cfg.Runners = map[tasks.Kind]running.Runner{tasks.Command: runner(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome { return w.run(ctx, l, a) })}
	cfg.Logger, cfg.History = w.log, h
	if n := w.p.picky[s.i]; n > 0 {
		cfg.Check = func(t *tasks.Task) error {
			if number(t.Argv[0])%n == 0 {
				return errors.New("policy: not this one")
			}
			return nil
		}
	}
	worker, err := running.New(cfg)
	if err != nil {
		panic(err)
	}
	s.worker, s.life, s.history = worker, l, h
	s.hub = w.newHub(s.id, s.name, s.ip, s.boot, wire.Config{Worker: worker, Events: workerEvents{worker}, Load: worker.Load})
	s.hub.Start()
	for i, sm := range w.masters {
		w.after(time.Duration(i)*30*time.Millisecond, func() {
			if sm.m != nil && s.worker == worker {
				sm.m.Update(s.info())
			}
		})
	}
}

// keepOutcome is shorter than it usually is, as the time of a world is.
const keepOutcome = time.Minute

func (s *simWorker) stop() {
	for _, cancel := range s.drains {
		cancel()
	}
	s.drains = nil
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.worker.Close(ctx); err != nil {
		s.w.wrong("worker %s: %v", s.name, err)
	}
	s.hub.Close()
	s.history.Close()
	s.worker = nil
}

func (s *simWorker) kill() {
	s.life.kill()
	s.w.net.Host(s.ip).Kill()
	s.stop()
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

// run runs a task as its argv says, and writes down that it does.
func (w *world) run(ctx context.Context, l *life, a *tasks.Attempt) tasks.Outcome {
	argv := a.Task.Argv
	w.mu.Lock()
	w.active++
	w.begun[a.ID]++
	w.pid++
	nth, pid := w.begun[a.ID], w.pid
	fmt.Fprintf(&w.truth, "%s %d %d start %d\n", a.ID, a.N, pid, time.Now().UnixNano())
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.active--
		w.mu.Unlock()
	}()
	a.Stdout.Write(make([]byte, number(argv[2])))
	select {
	case <-time.After(time.Duration(number(argv[1])) * time.Millisecond):
	case <-l.dead:
		return tasks.Outcome{Code: tasks.Internal}
	case <-ctx.Done():
		select {
		case <-l.dead:
		case <-a.Kill:
		case <-time.After(time.Duration(number(argv[4])) * time.Millisecond):
		}
		var stop *tasks.StopError
		if errors.As(context.Cause(ctx), &stop) && stop.Reason == tasks.StopTimeout {
			return tasks.Outcome{Code: tasks.Timeout, Text: stop.Error()}
		}
		return tasks.Outcome{Code: tasks.Cancelled, Text: context.Cause(ctx).Error()}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.ended.Load() {
		return tasks.Outcome{Code: tasks.Internal}
	}
	fmt.Fprintf(&w.truth, "%s %d %d end %d\n", a.ID, a.N, pid, time.Now().UnixNano())
	if nth <= number(argv[3]) {
		return tasks.Outcome{Code: tasks.Exit, Exit: 1}
	}
	return tasks.Outcome{Value: []byte(argv[0]), Encoding: tasks.JSON}
}

// submit is a client that submits.
func (w *world) submit(i int) {
	t := &w.p.tasks[i]
	s := w.masters[t.master]
	m, l := s.m, s.life
	if m == nil {
		return
	}
	w.clients.Go(func() {
		var run *Run
		var f *Follower
		var err error
		if t.follow {
			run, f, err = m.SubmitFollowed(context.Background(), t.sub)
		} else {
			run, err = m.Submit(context.Background(), t.sub)
		}
		if err != nil || l.ended.Load() {
			return
		}
		a := &asked{life: l, owner: s, run: run}
		for _, r := range run.Tasks() {
			a.ids = append(a.ids, r.ID)
		}
		w.mu.Lock()
		w.runs[i] = a
		w.mu.Unlock()
		if f != nil {
			w.follow(f, a)
		}
	})
}

// follow reads all that a follower is given.
func (w *world) follow(f *Follower, a *asked) {
	defer f.Close()
	results := 0
	for {
		e, err := f.Next(context.Background())
		switch {
		case err == io.EOF:
			if results != len(a.ids) {
				w.wrong("a follower of %d tasks was given %d results", len(a.ids), results)
			}
			return
		case err != nil:
			if !errors.Is(err, ErrClosed) {
				w.wrong("a follower was given %v", err)
			}
			return
		case e.Type == EventResult:
			results++
		}
	}
}

// cancel is a client that cancels.
func (w *world) cancel(c cancelPlan) {
	w.mu.Lock()
	a := w.runs[c.of]
	w.mu.Unlock()
	if a == nil || a.owner.m == nil {
		return
	}
	m, l, h := a.owner.m, a.owner.life, a.owner.history
	id, ids := a.run.ID(), a.ids
	if !c.whole {
		id, ids = a.ids[0], a.ids[:1]
	}
	w.clients.Go(func() {
		n, err := m.Cancel(id, tasks.StopCancel)
		if err != nil || n == 0 || l.ended.Load() {
			return
		}
		for _, id := range ids {
			h.Add(history.Event{Name: history.CancelledTold, Task: id})
		}
	})
}
