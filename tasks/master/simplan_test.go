package master

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
)

// plan is all that happens in a simulated world, drawn from a seed before it begins, so
// that faults can be left out and the rest stays as it is.
type plan struct {
	seed    uint64
	masters []masterPlan
	slots   []int // of each worker
	queues  []int // attempts that may wait at each
	picky   []int // which worker refuses one in so many tasks, 0: none
	delay   time.Duration
	tasks   []taskPlan
	cancels []cancelPlan
	faults  []fault
}

type masterPlan struct {
	maxRetained, maxKept int
	segment              int64 // of the journal
}

type taskPlan struct {
	at     time.Duration
	master int
	sub    tasks.Submission
	follow bool
}

type cancelPlan struct {
	at    time.Duration
	of    int // which submission
	whole bool
}

// fault is something that goes wrong for a while.
type fault struct {
	kind  faultKind
	at    time.Duration
	lasts time.Duration
	node  int // master or worker, as the kind has it
	other int // a master
	r     uint64
}

type faultKind int

const (
	killMaster faultKind = iota // and a crash of its machine, or not
	stopMaster
	diskLow    // nothing new is taken
	diskFull   // nothing is written
	diskFails  // a sync fails; the master is started again
	killWorker // is away, or at once back
	stopWorker
	cutLink // both ways
	cutFromMaster
	cutFromWorker
	silence // a worker hears and says nothing
	resetLink
	slowNet
	drainWorker
	removeMember
	faultKinds
)

var faultNames = [faultKinds]string{"killMaster", "stopMaster", "diskLow", "diskFull", "diskFails", "killWorker", "stopWorker",
	"cutLink", "cutFromMaster", "cutFromWorker", "silence", "resetLink", "slowNet", "drainWorker", "removeMember"}

func (f fault) String() string {
	return fmt.Sprintf("{%s, %d, %d, %d, %d, %d}", faultNames[f.kind], f.at.Nanoseconds(), f.lasts.Nanoseconds(), f.node, f.other, f.r)
}

// drawPlan draws a small world. Each has some kinds of faults only, so that none hides
// what another leads to ("swarm testing": Groce et al., ISSTA 2012).
func drawPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 0x5ca6))
	p := &plan{seed: seed, delay: []time.Duration{0, 0, 500 * time.Microsecond, 20 * time.Millisecond}[r.IntN(4)]}
	for range 1 + r.IntN(4)/3 {
		m := masterPlan{maxRetained: 1000, maxKept: 1000, segment: 4096 << r.IntN(6)}
		if r.IntN(4) == 0 {
			m.maxRetained, m.maxKept = 1+r.IntN(20), 1+r.IntN(20)
		}
		p.masters = append(p.masters, m)
	}
	for range 2 + r.IntN(3) {
		p.slots = append(p.slots, 1+r.IntN(3))
		p.queues = append(p.queues, []int{8192, 8192, 8192, r.IntN(4)}[r.IntN(4)])
		p.picky = append(p.picky, r.IntN(8)/7*(2+r.IntN(6)))
	}
	p.drawTasks(r, 20*time.Second)
	p.drawFaults(r, 20*time.Second)
	return p
}

func (p *plan) drawTasks(r *rand.Rand, span time.Duration) {
	often := func(n int) bool { return r.IntN(n) == 0 }
	onceIn := 1 + r.IntN(5)
	long := 50 + r.IntN(3000)
	for i := range 10 + r.IntN(30) {
		target := tasks.Any()
		switch r.IntN(8) {
		case 0, 1:
			target = tasks.On(fmt.Sprintf("w%d", 1+r.IntN(len(p.slots))))
		case 2:
			target = tasks.All()
		case 3:
			target = tasks.Target{N: 1 + r.IntN(3)}
		case 4:
			target = tasks.Target{Except: []string{"w1"}}
		}
		opt := tasks.DefaultOptions()
		opt.WaitWorkers = time.Duration(r.IntN(2)*r.IntN(5)) * time.Second
		opt.Attempts, opt.Priority = 1+r.IntN(5), r.IntN(3)
		if often(onceIn) {
			opt.Attempts = 1
		}
		if often(5) {
			opt.Slots += r.IntN(3)
		}
		fails := 0
		if often(5) {
			opt.Retry, fails = r.IntN(4), 1+r.IntN(3)
		}
		opt.Ephemeral = often(6)
		ms, bytes, stubborn := 0, 0, 0
		if !often(3) {
			ms = r.IntN(long)
		}
		if often(3) {
			bytes = r.IntN(400)
			if often(10) {
				bytes = r.IntN(400 << 10)
			}
		}
		if often(6) {
			stubborn = r.IntN(2000)
		}
		if often(8) {
			opt.Timeout = time.Duration(1+r.IntN(1000)) * time.Millisecond
		}
		argv := []string{fmt.Sprint(i), fmt.Sprint(ms), fmt.Sprint(bytes), fmt.Sprint(fails), fmt.Sprint(stubborn)}
		t := taskPlan{at: time.Duration(r.Int64N(int64(span * 3 / 4))), master: r.IntN(len(p.masters)), follow: often(4),
			sub: tasks.Submission{Task: tasks.Task{Kind: tasks.Command, Argv: argv}, Target: target, Options: opt}}
		p.tasks = append(p.tasks, t)
		if often(6) {
			p.cancels = append(p.cancels, cancelPlan{at: t.at + time.Duration(r.IntN(3000))*time.Millisecond, of: i, whole: often(2)})
		}
	}
}

func (p *plan) drawFaults(r *rand.Rand, span time.Duration) {
	var kinds []faultKind
	for k := range faultKinds {
		if r.IntN(3) == 0 {
			kinds = append(kinds, k)
		}
	}
	if len(kinds) == 0 {
		return
	}
	longest := []time.Duration{200 * time.Millisecond, 2 * time.Second, 5 * time.Second, 12 * time.Second}[r.IntN(4)]
	for range r.IntN(12) {
		f := fault{kind: kinds[r.IntN(len(kinds))], other: r.IntN(len(p.masters)), r: r.Uint64(),
			at: time.Duration(r.Int64N(int64(span))), lasts: time.Duration(r.Int64N(int64(longest)))}
		switch f.kind {
		case killMaster, stopMaster, diskLow, diskFull, diskFails:
			f.node = r.IntN(len(p.masters))
		default:
			f.node = r.IntN(len(p.slots))
		}
		if r.IntN(4) == 0 && f.kind <= stopWorker {
			f.lasts = 0
		}
		p.faults = append(p.faults, f)
	}
	slices.SortFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
}

// describe prints the faults so that they can be pasted into a test.
func describe(fs []fault) string {
	var b strings.Builder
	for _, f := range fs {
		fmt.Fprintf(&b, "\n\t%v, // at %v, for %v", f, f.at, f.lasts)
	}
	return b.String()
}
