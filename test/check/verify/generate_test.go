package verify

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// material is what a run of a small cluster has left: a history for each agent and
// for the harness, and what the tasks wrote.
type material struct {
	events []history.Event // in order of Mono
	truth  []truthLine
	torn   []string // nodes whose first start has left a torn line
}

type truthLine struct {
	task tasks.ID
	n    uint32
	pid  int
	what string
	at   int64
}

const (
	epoch  = int64(1_700_000_000_000_000_000) // wall of Mono 0
	second = int64(time.Second)
	ms     = int64(time.Millisecond)
)

// The nodes: two masters, three workers of two slots, and the harness.
const (
	m1, m2, w1, w2, w3, harness = "maaaaaaa", "mbbbbbbb", "waaaaaaa", "wbbbbbbb", "wccccccc", "harness"
	slots                       = 2
)

var workerIDs = []string{w1, w2, w3}

// world makes material. Nothing in it is of this machine: one seed, one history.
type world struct {
	material
	r     *rand.Rand
	last  uint64
	boots map[string]int
	many  int                   // flows in each quiet time, at most
	free  map[string][]int64    // of each slot of a worker, since when
	owned map[string][]tasks.ID // what is in the journals of masters
	ends  map[tasks.ID]tasks.State
}

// generate makes a run with faults, brief one in which little else happens, and calm
// one without faults.
func generate(seed uint64) *material { return newWorld(seed, 5*len(flows)).make(true) }

func brief(seed uint64) *material { return newWorld(seed, len(flows)).make(true) }

func calm(seed uint64) *material { return newWorld(seed, len(flows)).make(false) }

func newWorld(seed uint64, many int) *world {
	return &world{
		many: many, r: rand.New(rand.NewPCG(seed, 1)), boots: map[string]int{}, owned: map[string][]tasks.ID{}, ends: map[tasks.ID]tasks.State{},
		free: map[string][]int64{w1: make([]int64, slots), w2: make([]int64, slots), w3: make([]int64, slots)},
	}
}

func (w *world) make(faults bool) *material {
	w.start(second/10, m1, m2, w1, w2, w3, harness)
	w.quiet(1, 20)
	if faults {
		w.workerKilled(20 * second)
		w.masterKilled(29 * second)
		w.quiet(34, 50)
		w.cutOff(50 * second)
		w.paused(62 * second)
		w.quiet(70, 90)
	}
	w.feed()
	for _, n := range []string{m1, w1, w2, w3} { // m2 is killed as the run ends
		w.at(95*second, n, history.Event{Name: history.Stopping})
		w.at(96*second, n, history.Event{Name: history.Stopped})
		w.at(97*second, harness, history.Event{Name: history.Swept, Peer: n})
	}
	w.at(98*second, harness, history.Event{Name: history.Stopped})
	slices.SortStableFunc(w.events, func(a, b history.Event) int { return cmp.Compare(a.Mono, b.Mono) })
	w.nameBoots()
	slices.SortStableFunc(w.truth, func(a, b truthLine) int { return cmp.Compare(a.at, b.at) })
	return &w.material
}

func (w *world) at(t int64, node string, e history.Event) {
	e.Mono, e.Wall, e.Node = t, epoch+t, node
	w.events = append(w.events, e)
}

// nameBoots says of which start each event is.
func (w *world) nameBoots() {
	for i := range w.events {
		e := &w.events[i]
		if e.Name == history.Booted {
			w.boots[e.Node]++
		}
		e.Boot = fmt.Sprintf("boot%d", w.boots[e.Node])
	}
}

// start boots nodes.
func (w *world) start(t int64, nodes ...string) {
	for _, n := range nodes {
		e := history.Event{Name: history.Booted, Host: "host"}
		if n[0] == 'w' {
			e.Slots, e.Kinds = slots, []tasks.Kind{tasks.Command, tasks.Function}
		}
		w.at(t, n, e)
		if n[0] == 'm' {
			if known := w.owned[n]; len(known) > 0 {
				for _, s := range []tasks.State{"", tasks.StateDone, tasks.StateFailed, tasks.StateCancelled, tasks.StateLost} {
					of := slices.DeleteFunc(slices.Clone(known), func(id tasks.ID) bool { return w.ends[id] != s })
					w.at(t+ms, n, history.Event{Name: history.Recovered, Tasks: of, State: s})
				}
			}
			w.at(t+2*ms, n, history.Event{Name: history.JournalOn})
		}
		if n != m1 {
			w.at(t+100*ms, m1, history.Event{Name: history.MemberUp, Peer: n})
		}
	}
}

// flow is one task on its way. Its time moves on with every event.
type flow struct {
	*world
	t     int64
	owner string
	id    tasks.ID
	run   tasks.ID
	key   string
	bound string
	once  bool
	eph   bool
	n     uint32
	at_   string // the worker
	slot  int
}

func (w *world) id(owner string) tasks.ID {
	w.last++
	id, err := tasks.ParseID(owner + strings.Repeat("a", 18))
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint64(id[8:], w.last)
	return id
}

func (w *world) flow(owner string, t int64) *flow {
	return &flow{world: w, t: t, owner: owner, id: w.id(owner), run: w.id(owner)}
}

func (f *flow) tick() int64 { f.t += ms/10 + f.r.Int64N(2*ms); return f.t }

// says adds an event of the owner's, or of the worker's.
func (f *flow) says(name history.Name, e history.Event) {
	node := f.owner
	switch e.Name = name; name {
	case history.Started, history.Finished, history.ResultSent, history.Revoked, history.Killed, history.Rejected:
		node = f.at_
	case history.Offered, history.Accepted, history.Granted, history.GivenBack, history.Reattached, history.LeaseLost, history.ResultReceived, history.ResultAcked:
		e.Worker = f.at_
	}
	if name != history.Submit && name != history.Targets {
		e.Task = f.id
	}
	if e.N == 0 && name != history.Submitted && name != history.Answered && name != history.CancelledTold && name != history.Cancel && e.What != history.TheTask && e.What != history.TheEnd {
		e.N = f.n
	}
	f.at(f.tick(), node, e)
}

func (f *flow) disk(what history.What) {
	if !f.eph {
		f.says(history.Journaled, history.Event{What: what})
	}
}

func (f *flow) submit() {
	f.says(history.Submit, history.Event{Key: f.key, Hash: "body" + f.key})
	f.disk(history.TheTask)
	f.handOut()
	if !f.eph {
		f.owned[f.owner] = append(f.owned[f.owner], f.id)
	}
}

func (f *flow) handOut() {
	f.says(history.Submitted, history.Event{Run: f.run, Kind: tasks.Command, Spec: "spec" + f.id.String(), Key: f.key, Hash: "body" + f.key,
		AtMostOnce: f.once, Ephemeral: f.eph, Worker: f.bound})
}

// offer sends the next attempt to a worker, which has a slot for it from then on.
func (f *flow) offer(worker string) {
	free := f.free[worker]
	f.slot = slices.Index(free, slices.Min(free))
	f.t = max(f.t, free[f.slot]+ms)
	f.n, f.at_ = f.n+1, worker
	f.disk(history.TheAttempt)
	f.says(history.Offered, history.Event{})
	if f.once {
		f.says(history.Accepted, history.Event{})
		f.says(history.Granted, history.Event{})
	}
}

func (f *flow) tell(what string) {
	f.truth = append(f.truth, truthLine{task: f.id, n: f.n, pid: int(f.id[15])<<8 + int(f.n), what: what, at: epoch + f.t})
}

// begin and finish bracket the run of an attempt.
func (f *flow) begin() {
	f.says(history.Started, history.Event{Kind: tasks.Command, Spec: "spec" + f.id.String(), Slots: 1})
	f.tick()
	f.tell("start")
}

func (f *flow) finish(hash string) {
	f.tick()
	f.tell("end")
	f.says(history.Finished, history.Event{Hash: hash})
	f.free[f.at_][f.slot] = f.t
}

func (f *flow) result(hash, why string) {
	f.says(history.ResultSent, history.Event{})
	f.says(history.ResultReceived, history.Event{Hash: hash, Why: why})
}

func (f *flow) end(s tasks.State, hash, why string) {
	f.ends[f.id] = s
	f.disk(history.TheEnd)
	f.says(history.Ended, history.Event{State: s, Hash: hash, Why: why})
}

func (f *flow) ack() { f.says(history.ResultAcked, history.Event{}) }

func (f *flow) pass(atMost int64) { f.t += f.r.Int64N(atMost) }

func (f *flow) hash() string { return fmt.Sprintf("h%d.%d", f.id[15], f.n) }

// whole is an attempt from its offer to the end of its task.
func (f *flow) whole(worker string, s tasks.State, why string) {
	f.offer(worker)
	f.begin()
	f.pass(second)
	f.finish(f.hash())
	f.result(f.hash(), why)
	f.end(s, f.hash(), why)
	f.ack()
	f.says(history.Answered, history.Event{State: s, Hash: f.hash()})
}

// kinds of flow that happen when nothing is the matter.
var flows = []func(f *flow){
	func(f *flow) { f.submit(); f.whole(f.any(), tasks.StateDone, "") },
	func(f *flow) { f.once = true; f.submit(); f.whole(f.any(), tasks.StateDone, "") },
	func(f *flow) { f.submit(); f.whole(f.any(), tasks.StateFailed, "exit") },
	func(f *flow) { f.eph = true; f.submit(); f.whole(f.any(), tasks.StateDone, "") },
	(*flow).retried,
	(*flow).rejected,
	(*flow).givenBack,
	(*flow).cancelled,
	(*flow).cancelledEarly,
	(*flow).neverReached,
	(*flow).keyed,
	(*flow).toAll,
}

func (f *flow) any() string { return workerIDs[f.r.IntN(len(workerIDs))] }

// quiet lets flows of all kinds happen between two seconds.
func (w *world) quiet(from, to int64) {
	for i := range w.many {
		for n := range w.free {
			for s := range w.free[n] {
				w.free[n][s] = max(w.free[n][s], from*second)
			}
		}
		f := w.flow([]string{m1, m2}[w.r.IntN(2)], from*second+w.r.Int64N(second))
		if i < len(flows) && from == 1 {
			flows[i](f) // each at least once
		} else if w.many > len(flows) && soonest(w.free) < (to-6)*second {
			flows[w.r.IntN(len(flows))](f)
		}
		if f.t > to*second {
			panic("the quiet time is over")
		}
	}
}

// soonest is when all slots are free.
func soonest(free map[string][]int64) (t int64) {
	for _, slots := range free {
		t = max(t, slices.Max(slots))
	}
	return t
}

func (f *flow) retried() {
	f.submit()
	f.offer(f.any())
	f.begin()
	f.finish(f.hash())
	f.result(f.hash(), "exit")
	f.disk(history.TheResult)
	f.ack()
	f.whole(f.any(), tasks.StateDone, "")
}

func (f *flow) rejected() {
	f.submit()
	f.offer(w1)
	f.says(history.Rejected, history.Event{Why: "refused"})
	f.whole(w2, tasks.StateDone, "")
}

func (f *flow) givenBack() {
	f.submit()
	f.offer(w1)
	f.says(history.GivenBack, history.Event{})
	f.whole(w3, tasks.StateDone, "")
}

func (f *flow) cancelled() {
	f.submit()
	f.offer(f.any())
	f.begin()
	f.says(history.Cancel, history.Event{})
	f.says(history.CancelledTold, history.Event{})
	f.says(history.Revoked, history.Event{Why: "cancel"})
	f.finish(f.hash())
	f.result(f.hash(), "cancelled")
	f.end(tasks.StateCancelled, f.hash(), "cancelled")
	f.ack()
}

func (f *flow) cancelledEarly() {
	f.submit()
	f.says(history.Cancel, history.Event{})
	f.end(tasks.StateCancelled, "none", "cancelled")
	f.says(history.CancelledTold, history.Event{})
}

func (f *flow) neverReached() {
	f.once = true
	f.submit()
	f.end(tasks.StateLost, "none", "never_reached")
}

func (f *flow) keyed() {
	f.key = "key" + f.id.String()
	f.submit()
	f.says(history.Submit, history.Event{Key: f.key, Hash: "body" + f.key})
	f.handOut() // again, the same
	f.says(history.Submit, history.Event{Key: f.key, Hash: "another"})
	f.says(history.Refused, history.Event{Key: f.key, Why: "used for another submission"})
	f.whole(f.any(), tasks.StateDone, "")
}

func (f *flow) toAll() {
	f.says(history.Targets, history.Event{Run: f.run, Workers: workerIDs})
	for _, w := range workerIDs {
		g := *f
		g.id, g.bound = g.world.id(g.owner), w
		g.submit()
		g.whole(w, tasks.StateDone, "")
	}
}
