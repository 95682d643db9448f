package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/home"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/beacon"
	"github.com/scagent/scagent/membership/facts"
	"github.com/scagent/scagent/membership/tracker"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/blob"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/master"
	"github.com/scagent/scagent/tasks/runner/command"
	"github.com/scagent/scagent/tasks/runner/file"
	"github.com/scagent/scagent/tasks/runner/git"
	"github.com/scagent/scagent/tasks/runner/js"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/supervisor"
	"github.com/scagent/scagent/tasks/runner/workdir"
	"github.com/scagent/scagent/tasks/wire"
	"github.com/scagent/scagent/tasks/worker"
)

// open opens the parts from the bottom up.
func (a *Agent) open(ctx context.Context) (err error) {
	a.started = time.Now()
	if err := a.openHome(); err != nil {
		return err
	}
	if err := a.openHistory(); err != nil {
		return err
	}
	if err := a.openPosture(); err != nil {
		return err
	}
	if err := a.checkSeeds(a.cfg.Join); err != nil {
		return err
	}
	if err := a.listenHTTP(ctx); err != nil {
		return err
	}
	if a.cfg.has(membership.RoleWorker) {
		if err := a.openRunAs(); err != nil {
			return err
		}
	}
	if err := a.openPort(ctx); err != nil {
		return err
	}
	if a.blobs, err = blob.Open(a.home.Path("blobs"), a.cfg.CacheBytes); err != nil {
		return err
	}
	a.http, a.bulk = a.newHTTPClients()
	a.owners = a.newOwners()
	a.trackers = a.newTrackerClient()
	if err := a.openTasks(); err != nil {
		return err
	}
	if err := a.openPool(ctx); err != nil {
		return err
	}
	a.hub.Start()
	a.master.Resume()
	a.serve(a.port.HTTP(), a.publicServer())
	if a.keys != nil {
		a.wg.Go(a.watchSecret)
	}
	if err := a.openBeacon(ctx); err != nil {
		return err
	}
	if err := a.openAPI(); err != nil {
		return err
	}
	return a.openHooks()
}

func (a *Agent) openHome() (err error) {
	if a.cfg.Temporary {
		a.home, err = home.Temporary()
	} else {
		a.home, err = home.Claim(home.Options{StateDir: a.cfg.StateDir, Group: a.cfg.APIGroup})
	}
	if err != nil {
		return err
	}
	if a.id, err = loadIdentity(a.home.StateDir); err != nil {
		return err
	}
	if a.name = a.cfg.Name; a.name == "" {
		a.name = hostName(a.home.N)
	}
	return nil
}

// openHistory begins to write down what happens to tasks, if that is wanted.
func (a *Agent) openHistory() (err error) {
	if a.cfg.History == "" {
		return nil
	}
	first := history.Event{Node: a.id.id, Boot: a.id.boot}
	if a.cfg.has(membership.RoleWorker) {
		first.Slots = a.cfg.Slots
		for _, k := range []tasks.Kind{tasks.Command, tasks.File, tasks.Function, tasks.Git, tasks.JS} {
			if a.cfg.Policy.Allows(k) {
				first.Kinds = append(first.Kinds, k)
			}
		}
	}
	a.history, err = history.Open(a.cfg.History, a.cfg.Logger, first)
	return err
}

func (a *Agent) openPort(ctx context.Context) error {
	bind, written, err := port.ParseBind(a.cfg.Bind)
	if err != nil {
		return err
	}
	cfg := port.DefaultConfig()
	cfg.Bind, cfg.Network, cfg.Logger = bind.String(), a.cfg.Network, a.cfg.Logger
	cfg.Strict = written || a.cfg.has(membership.RoleTracker)
	a.portConfig(&cfg)
	a.port, err = port.Open(ctx, cfg)
	return err
}

// openTasks makes the worker, the master and the links between them and others.
func (a *Agent) openTasks() error {
	var err error
	hc := wire.Config{}
	if !a.cfg.Temporary {
		jc := journal.DefaultConfig()
		// Each has its own: an agent that is given another key, by certificates of its own,
		// is another node.
		jc.Dir, jc.Node, jc.Logger = filepath.Join(a.home.Path("journal"), a.id.id), a.id.id, a.cfg.Logger
		if a.journal, err = journal.Open(jc); err != nil {
			return err
		}
	}
	if a.cfg.has(membership.RoleWorker) {
		runners, err := a.runners()
		if err != nil {
			return err
		}
		wc := worker.DefaultConfig()
		wc.Name, wc.Slots, wc.Lease, wc.Logger = a.name, a.cfg.Slots, a.cfg.Lease, a.cfg.Logger
		wc.Runners = runners
		wc.Check, wc.CheckDir, wc.MaxRun = a.cfg.Policy.Check, a.cfg.Policy.CheckDir, a.cfg.Policy.Limits.Wall()
		if a.journal != nil {
			wc.Journal = a.journal
		}
		wc.History, wc.Received = a.history, a.taskReceived
		wc.Open, wc.Keep, wc.Release = a.openContent, a.keep, a.release
		b := newBusy()
		wc.Busy = b.set
		a.wg.Go(func() { b.run(a.ctx, func(slots int) { a.pool.SetBusy(slots) }) })
		if a.worker, err = worker.New(wc); err != nil {
			return err
		}
		hc.Worker, hc.Load = a.worker, a.worker.Load
	}
	mc := master.DefaultConfig()
	mc.Node, mc.Links, mc.Announce, mc.Lease, mc.Logger = a.id.id, links{a}, a.announce, a.cfg.Lease, a.cfg.Logger
	mc.History = a.history
	mc.Fetch, mc.Hold, mc.Release, mc.Sync = a.receive, a.hold, a.release, a.syncContent
	mc.Full = func(err error) bool { return errors.Is(err, blob.ErrFull) }
	mc.Changed = func(r tasks.Result) {
		st := api.BriefOf(&r)
		a.feed.Append(api.Event{Event: api.EventTask, Task: &st})
		if r.State.Final() && a.feed.Wants(api.EventComplete) {
			a.feed.Append(api.Event{Event: api.EventComplete, Task: &st})
		}
	}
	if a.journal != nil && a.cfg.has(membership.RoleMaster) {
		mc.Journal, mc.Retain, mc.MaxRetained = a.journal, a.cfg.Retain, a.cfg.RetainTasks
	}
	if a.master, err = master.New(mc); err != nil {
		return err
	}
	hc.Self = wire.Hello{Node: a.id.id, Boot: a.id.boot, Cluster: a.cfg.Cluster, Name: a.name}
	hc.Listener, hc.Check = a.port.Links(), a.checkLink
	hc.Dial = func(ctx context.Context, node string) (net.Conn, error) { return a.dialNode(ctx, port.SortLink, node) }
	if a.cfg.has(membership.RoleMaster) {
		hc.Master = a.master
	}
	hc.Events, hc.Lease, hc.Logger = linkEvents{a}, a.cfg.Lease, a.cfg.Logger
	a.hub, err = wire.NewHub(hc)
	return err
}

// runners makes a runner for each kind of task.
func (a *Agent) runners() (map[tasks.Kind]worker.Runner, error) {
	sc := supervisor.Config{Root: a.home.Path("work"), User: a.runAs, Logger: a.cfg.Logger}
	sc.Helper = a.cfg.Network == port.Machine // on a test's own, waiting for a process stops the clock
	if a.cfg.Temporary {
		sc.Remove = a.home.StateDir
	}
	var err error
	if a.supervisor, err = supervisor.Open(sc); err != nil {
		return nil, err
	}
	p := &a.cfg.Policy
	limits := process.Limits{
		Memory: p.Limits.MemoryBytes, Processes: p.Limits.Processes, OpenFiles: p.Limits.OpenFiles,
		FileBytes: p.Limits.FileBytes, Output: p.Limits.OutputBytes,
	}
	root, nets := a.supervisor.Dir(), a.supervisor.Nets()
	work := workdir.Config{Root: root, Grace: a.cfg.Grace, Nets: nets, User: a.runAs, Limits: limits}
	work.Spares = workdir.NewSpares(root, a.runAs)
	commands, err := command.New(command.Config{Config: work})
	if err != nil {
		return nil, err
	}
	files, err := file.New(work)
	if err != nil {
		return nil, err
	}
	repositories, err := git.New(git.Config{
		Root: root, MirrorRoot: a.home.Path("git"), Grace: a.cfg.Grace, Nets: nets, User: a.runAs, Limits: limits,
		AllowFile: p.Allows(tasks.Command), // who may run commands can read the files anyway
		Schemes:   p.Git.Schemes, Hosts: p.Git.Hosts,
	})
	if err != nil {
		return nil, err
	}
	a.wg.Go(repositories.Clear)
	a.scripts = js.New(js.Config{User: a.runAs, MemoryBytes: p.Limits.MemoryBytes})
	rs := map[tasks.Kind]worker.Runner{
		tasks.Command:  commands,
		tasks.File:     files,
		tasks.Git:      repositories,
		tasks.Function: a.functions,
		tasks.JS:       a.scripts,
	}
	for kind := range rs {
		if !p.Allows(kind) {
			delete(rs, kind)
			continue
		}
		a.document.Kinds = append(a.document.Kinds, string(kind))
	}
	slices.Sort(a.document.Kinds)
	return rs, nil
}

// links is the hub as the master uses it; the hub is made after the master.
type links struct{ a *Agent }

func (l links) Connect(ctx context.Context, node string) (*wire.Link, error) {
	return l.a.hub.Connect(ctx, node)
}

// linkEvents tells both ends of this node what happens to its links. Who is no
// master must not even greet as one: a worker token does not allow it.
type linkEvents struct{ a *Agent }

func (e linkEvents) Up(l *wire.Link) {
	if e.a.cfg.has(membership.RoleMaster) {
		e.a.master.Up(l)
	}
}

func (e linkEvents) Load(l *wire.Link, ld wire.Load) {
	if e.a.cfg.has(membership.RoleMaster) {
		e.a.master.Load(l, ld)
	}
}

func (e linkEvents) Down(l *wire.Link, err error) {
	if e.a.cfg.has(membership.RoleMaster) {
		e.a.master.Down(l, err)
	}
	if e.a.worker != nil {
		e.a.worker.LinkDown(l)
	}
}

func (a *Agent) openPool(ctx context.Context) error {
	addr, err := a.reach()
	if err != nil {
		return err
	}
	f, err := json.Marshal(facts.Collect(ctx))
	if err != nil {
		return fmt.Errorf("facts: %w", err)
	}
	a.document.Data, a.document.Facts = a.cfg.Data, f
	if a.cfg.has(membership.RoleWorker) {
		if a.cfg.Policy.Allows(tasks.Function) {
			a.document.Functions = a.functions.Names()
		}
		a.document.Interpreters = facts.Interpreters()
	}
	pc := membership.DefaultConfig()
	pc.ID, pc.Boot, pc.Name, pc.Cluster, pc.Roles, pc.Version = a.id.id, a.id.boot, a.name, a.cfg.Cluster, a.cfg.Roles, a.cfg.Version
	if a.worker != nil {
		pc.Slots = a.cfg.Slots
	}
	pc.Available, pc.Document = a.available, a.document
	pc.Listener, pc.Packets, pc.Advertise = a.port.Gossip(), a.port.Packets(), addr
	pc.Dial = func(ctx context.Context, node, addr string) (net.Conn, error) {
		return a.dial(ctx, port.SortGossip, node, addr)
	}
	pc.DialHTTP = func(ctx context.Context, addr string) (net.Conn, error) { return a.dial(ctx, port.SortHTTP, "", addr) }
	pc.GossipKeys, pc.Allow = a.gossipKeys(), a.allow()
	pc.Seeds, pc.Hosts, pc.Profile, pc.Logger = a.cfg.Join, a.askTracker, a.cfg.Profile, a.cfg.Logger
	if !a.cfg.Temporary {
		pc.PeersFile = a.home.Path("peers.json")
	}
	pc.OnEvent, pc.OnMessage = a.onEvent, a.onMessage
	if a.pool, err = membership.New(pc); err != nil {
		return err
	}
	a.bus = a.newBus()
	if err := a.pool.Start(ctx); err != nil {
		return err
	}
	a.bus.Start()
	return nil
}

// askTracker announces this node to a tracker known by URL, and returns the
// addresses of the hosts that it lists.
func (a *Agent) askTracker(ctx context.Context, url string) ([]string, error) {
	if err := a.checkSeeds([]string{url}); err != nil { // one that came with Join
		return nil, err
	}
	self := a.pool.Self()
	h := tracker.Host{ID: self.ID, Name: self.Name, Addr: self.AddrPort.Addr().String(), Port: int(self.AddrPort.Port()), Data: self.Document.Data,
		Available: self.Available, Slots: self.Slots}
	for _, r := range self.Roles {
		h.Roles = append(h.Roles, string(r))
	}
	hosts, err := tracker.Announce(ctx, a.trackers, url, h)
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, h := range slices.Concat(hosts.Masters, hosts.Workers) {
		if h.ID != a.id.id && !h.External {
			addrs = append(addrs, net.JoinHostPort(h.Addr, fmt.Sprint(h.Port)))
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs), nil
}

func (a *Agent) openBeacon(ctx context.Context) (err error) {
	if !a.cfg.Multicast {
		return nil
	}
	bc := beacon.Config{
		Cluster: a.cfg.Cluster, Node: a.id.id, Boot: a.id.boot, Name: a.name, Addr: a.pool.Self().AddrPort, Network: a.cfg.BeaconNetwork, Logger: a.cfg.Logger,
		Known: func(node string) bool {
			m, ok := a.pool.Member(node)
			return ok && m.Status.Present()
		},
		OnStranger: a.onStranger,
		Services:   a.services,
		Members:    a.present,
	}
	if a.keys != nil {
		bc.Keys = a.keys.BeaconKeys
	}
	switch {
	case a.cfg.Iface != "":
		bc.Interfaces = []string{a.cfg.Iface}
	case bc.Addr.Addr().IsLoopback(): // whoever hears it elsewhere could not come
		bc.Interfaces = loopbacks()
	}
	if a.beacon, err = beacon.New(bc); err != nil {
		return err
	}
	return a.beacon.Start(ctx)
}

// loopbacks are the names of the loopback interfaces.
func loopbacks() (names []string) {
	all, _ := net.Interfaces() // unknown: all are used
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 {
			names = append(names, i.Name)
		}
	}
	return names
}

// onStranger joins the pool of a node that announced itself on the LAN.
func (a *Agent) onStranger(h beacon.Heard) {
	select {
	case a.dials <- struct{}{}:
	default: // it will be heard again
		return
	}
	a.wg.Go(func() {
		defer func() { <-a.dials }()
		ctx, cancel := context.WithTimeout(a.ctx, announceTimeout)
		defer cancel()
		if _, err := a.pool.Join(ctx, h.Addr.String()); err != nil && a.ctx.Err() == nil {
			a.notJoined.Do(func() {
				a.cfg.Logger.Printf("[WARN] agent: a node that announced itself was not joined: name=%q addr=%s err=%q", h.Name, h.Addr, fmt.Sprint(err))
			})
		}
	})
}
