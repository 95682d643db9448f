package nemesis

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/scagent/scagent/test/chaos/fabric"
)

// span is a range of durations, of which each is as likely.
type span struct{ least, most time.Duration }

func (s span) draw(r *rand.Rand) time.Duration {
	return s.least + time.Duration(r.Int64N(int64(s.most-s.least)+1))
}

// source makes one sort of fault.
type source struct {
	name  string
	every span // from the begin of one to that of the next; of those that come once, till the begin
	once  bool // there is one
	lasts span
	// strike picks whom it strikes. A subject is struck by one of the source's
	// faults at a time. No faults: there is nobody.
	strike func(r *rand.Rand, n Nodes) (subject string, begin, end []Fault)
}

const (
	ms = time.Millisecond
	s  = time.Second
)

var (
	kills  = again("kills", span{500 * ms, 1500 * ms}, span{50 * ms, 3 * s}, onVictim(Kill, Start))
	pauses = again("pauses", span{1 * s, 4 * s}, span{250 * ms, 8 * s}, onVictim(Stop, Cont))
	disk   = again("disk", span{3 * s, 8 * s}, span{1 * s, 5 * s}, onVictim(Full, Free))
	fds    = again("fds", span{3 * s, 8 * s}, span{1 * s, 5 * s}, onVictim(FDs, FDsFree))
	cuts   = again("cuts", span{2 * s, 6 * s}, span{500 * ms, 8 * s}, cut)
	loss   = again("loss", span{2 * s, 6 * s}, span{2 * s, 10 * s}, lose)
	shapes = again("shapes", span{2 * s, 6 * s}, span{2 * s, 8 * s}, shape)

	// In the long run: a kill a minute; packets lost all the time; two halves.
	minutely = again("minutely", span{45 * s, 75 * s}, span{1 * s, 5 * s}, onVictim(Kill, Start))
	halves   = source{name: "halves", every: span{5 * s, 5 * s}, once: true, lasts: span{10 * m, 10 * m}, strike: halve}
)

const m = 60 * s

// always has all nodes lose so much of what is sent to them, to the end.
func always(percent float64) source {
	return source{name: "always", every: span{5 * s, 5 * s}, once: true, lasts: span{1e4 * m, 1e4 * m},
		strike: func(_ *rand.Rand, n Nodes) (subject string, begin, end []Fault) {
			for _, node := range n.All {
				begin = append(begin, Fault{Kind: Loss, Node: node, Percent: percent})
				end = append(end, Fault{Kind: Loss, Node: node})
			}
			return "all", begin, end
		}}
}

// profiles by name. All but kills of the mixed one come at half their pace, as they
// come together.
var profiles = map[string][]source{
	"none":   nil,
	"kills":  {kills},
	"cuts":   {cuts},
	"loss":   {loss},
	"pauses": {pauses},
	"disk":   {disk},
	"fds":    {fds},
	"shapes": {shapes},
	"loss5":  {always(5)},
	"loss10": {always(10)},
	"halves": {halves},
	"soak":   {always(5), minutely},
	"mixed":  {kills, rarer(cuts), rarer(loss), rarer(pauses), rarer(disk), rarer(fds), rarer(shapes)},
}

func rarer(f source) source {
	f.every = span{2 * f.every.least, 2 * f.every.most}
	return f
}

// again is a source of faults for ever.
func again(name string, every, lasts span, strike func(*rand.Rand, Nodes) (string, []Fault, []Fault)) source {
	return source{name: name, every: every, lasts: lasts, strike: strike}
}

// Profiles returns the names of the profiles.
func Profiles() []string { return slices.Sorted(maps.Keys(profiles)) }

// Needs reports whether a profile has faults that need the switch, and such that
// need small disks.
func Needs(profile string) (fabric, disks bool) {
	for _, f := range profiles[profile] {
		fabric = fabric || f.name == shapes.name
		disks = disks || f.name == disk.name
	}
	return fabric, disks
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func onVictim(begin, end Kind) func(*rand.Rand, Nodes) (string, []Fault, []Fault) {
	return func(r *rand.Rand, n Nodes) (string, []Fault, []Fault) {
		if len(n.Victims) == 0 {
			return "", nil, nil
		}
		node := pick(r, n.Victims)
		return node, []Fault{{Kind: begin, Node: node}}, []Fault{{Kind: end, Node: node}}
	}
}

// cut cuts a node off from one other or from all, in both directions or one.
func cut(r *rand.Rand, n Nodes) (subject string, begin, end []Fault) {
	node, all, direction := pick(r, n.All), r.IntN(2) == 0, r.IntN(4)
	only := pick(r, n.All)
	for _, other := range n.All {
		if other == node || !all && other != only {
			continue
		}
		if direction != 0 {
			begin = append(begin, Fault{Kind: Cut, Node: node, To: other})
		}
		if direction != 1 {
			begin = append(begin, Fault{Kind: Cut, Node: other, To: node})
		}
	}
	for _, f := range begin {
		f.Kind = Heal
		end = append(end, f)
	}
	// The ends of cuts that overlap would heal what is another's.
	return "the network", begin, end
}

// halve cuts every other node off from the rest.
func halve(_ *rand.Rand, n Nodes) (subject string, begin, end []Fault) {
	for i, a := range n.All {
		for j, b := range n.All {
			if i%2 != j%2 {
				begin = append(begin, Fault{Kind: Cut, Node: a, To: b})
				end = append(end, Fault{Kind: Heal, Node: a, To: b})
			}
		}
	}
	return "the network", begin, end
}

func lose(r *rand.Rand, n Nodes) (subject string, begin, end []Fault) {
	f := Fault{Kind: Loss, Node: pick(r, n.All), Percent: pick(r, []float64{1, 5, 10, 20, 30})}
	if proto := r.IntN(8); proto < 2 { // one protocol is blocked
		f.Proto, f.Percent = []string{"udp", "tcp"}[proto], 100
	}
	over := f
	over.Percent = 0
	return f.Node, []Fault{f}, []Fault{over}
}

func shape(r *rand.Rand, n Nodes) (subject string, begin, end []Fault) {
	if len(n.All) < 2 {
		return "", nil, nil
	}
	delay := pick(r, []time.Duration{0, 50 * ms, 200 * ms, s})
	p := fabric.Policy{Delay: delay, Jitter: delay / 2, DuplicatePercent: 5, CorruptPercent: 1}
	if r.IntN(2) == 0 {
		p.ReorderPercent = 25
	}
	pair := r.Perm(len(n.All))
	f := Fault{Kind: Shape, Node: n.All[pair[0]], To: n.All[pair[1]], Policy: p}
	over := f
	over.Policy = fabric.Policy{}
	return f.Node + " to " + f.To, []Fault{f}, []Fault{over}
}

// Schedule returns the schedule of a profile, in order of time: endless, unless all
// that it has comes once.
func Schedule(profile string, seed uint64, n Nodes) (iter.Seq[Step], error) {
	sources, ok := profiles[profile]
	if !ok {
		return nil, fmt.Errorf("there is no profile %q; want one of %s", profile, strings.Join(Profiles(), ", "))
	}
	return func(yield func(Step) bool) {
		var plans []*plan
		for _, f := range sources {
			plans = append(plans, newPlan(f, seed))
		}
		for len(plans) > 0 {
			p := slices.MinFunc(plans, func(a, b *plan) int { return cmp.Compare(a.due(), b.due()) })
			if p.due() >= never {
				return
			}
			for _, step := range p.next(n) {
				if !yield(step) {
					return
				}
			}
		}
	}, nil
}

// plan is what one source has in mind.
type plan struct {
	source
	rng   *rand.Rand
	begin time.Duration // of the next fault
	open  []ending      // the next first
}

// ending is the end of a fault that has begun.
type ending struct {
	subject string
	at      time.Duration
	faults  []Fault
}

func newPlan(f source, seed uint64) *plan {
	h := fnv.New64a()
	h.Write([]byte(f.name))
	p := &plan{source: f, rng: rand.New(rand.NewPCG(seed, h.Sum64()))}
	p.begin = p.every.draw(p.rng)
	return p
}

// due returns when there is something next.
func (p *plan) due() time.Duration {
	if len(p.open) > 0 {
		return min(p.begin, p.open[0].at)
	}
	return p.begin
}

// never is when what comes once comes again.
const never = 1e6 * time.Hour

// next returns what is due: the end of a fault, or another, unless whom it would
// strike is struck already.
func (p *plan) next(n Nodes) (steps []Step) {
	at, faults := p.begin, []Fault(nil)
	if len(p.open) > 0 && p.open[0].at <= p.begin {
		at, faults = p.open[0].at, p.open[0].faults
		p.open = p.open[1:]
	} else {
		subject, begin, end := p.strike(p.rng, n)
		over := at + p.lasts.draw(p.rng)
		if p.begin += p.every.draw(p.rng); p.once {
			p.begin = never
		}
		if len(begin) > 0 && !slices.ContainsFunc(p.open, func(e ending) bool { return e.subject == subject }) {
			faults = begin
			p.open = append(p.open, ending{subject, over, end})
			slices.SortStableFunc(p.open, func(a, b ending) int { return cmp.Compare(a.at, b.at) })
		}
	}
	for _, f := range faults {
		steps = append(steps, Step{at, f})
	}
	return steps
}

// Run has each step of a schedule applied when it is due, until ctx ends or one
// cannot be.
func Run(ctx context.Context, steps iter.Seq[Step], apply func(Step) error) error {
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for step := range steps {
		timer.Reset(time.Until(begin.Add(step.At)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		if err := apply(step); err != nil {
			return fmt.Errorf("%s: %w", step.Fault, err)
		}
	}
	return nil
}
