package verify

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// Config says how much time things may take. Start from DefaultConfig.
type Config struct {
	// Settle is how long after its submission, and after the last fault, a task
	// must have ended; for later ones it is too early to tell. Default: 60s.
	Settle time.Duration
	// Grace is how long what was told to stop may take. Default: 15s, more than
	// the worker's two waits and the lease.
	Grace time.Duration
	// Slack is how much the clocks of two processes of a host may differ. Default:
	// 10ms, since a process may be held up between reading it and acting.
	Slack time.Duration
	// Steady is how long a node must have been up and reachable for it to be wrong
	// to report it as failed. Default: 60s.
	Steady time.Duration
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Settle: time.Minute, Grace: 15 * time.Second, Slack: 10 * time.Millisecond, Steady: time.Minute}
}

// Source is a file to be read.
type Source struct {
	Name string
	Open func() (io.ReadCloser, error)
}

// maxReported bounds the violations of one invariant that a report holds; it counts
// the others.
const maxReported = 50

// checker reads histories, one after the other, and judges them in the end.
type checker struct {
	cfg    Config
	report *Report
	event  history.Event // the event at hand
	at     point         // of it

	hosts   map[string]int32
	nodes   map[string]*node
	tasks   map[tasks.ID]*task
	order   []*task // as they were first heard of, so that reports are alike
	keys    map[ownerKey]*keyed
	runs    map[tasks.ID]*fanOut
	clients map[string]*client
	windows []window // restarts and faults; in order of from when all was read
	downs   []down
	swept   int
	end     int64 // wall of the last event
}

// ErrBadTruth is returned for a line of the tasks' own log that is none.
var ErrBadTruth = errors.New("bad truth log")

// Check reads histories of agents and harnesses, and what tasks wrote down of
// themselves, and says which invariants do not hold. An error means that something
// cannot be read, so that nothing is known. All starts of a node are in one history.
func Check(cfg Config, histories, truth []Source) (*Report, error) {
	c := &checker{
		cfg: cfg, report: &Report{}, hosts: map[string]int32{}, nodes: map[string]*node{}, tasks: map[tasks.ID]*task{},
		keys: map[ownerKey]*keyed{}, runs: map[tasks.ID]*fanOut{}, clients: map[string]*client{},
	}
	for i, s := range histories {
		c.report.files = append(c.report.files, s)
		if err := c.read(int32(i), s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	for _, s := range truth {
		if err := c.readTruth(s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	c.judge(len(truth) > 0)
	return c.report, nil
}

// read applies the events of one history, in their order.
func (c *checker) read(file int32, s Source) error {
	f, err := s.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	r := history.NewReader(f)
	e := &c.event
	for {
		switch err := r.Next(e); err {
		case nil:
		case io.EOF:
			c.report.Torn += r.Torn()
			return nil
		default:
			return err
		}
		c.report.Events++
		n := c.node(e.Node)
		c.at = point{mono: e.Mono, wall: e.Wall, file: file, line: int32(r.Line())}
		if e.Name == history.Booted {
			c.booted(n, e)
		} else if len(n.boots) == 0 || n.boot().name != e.Boot {
			return fmt.Errorf("%w: line %d: %s of the boot %q, which was not said to have booted", history.ErrDamaged, r.Line(), e.Name, e.Boot)
		}
		b := n.boot()
		c.at.host = b.first.host
		if b.last.is() && e.Mono < b.last.mono {
			return fmt.Errorf("%w: line %d is older than the one before it", history.ErrDamaged, r.Line())
		}
		b.last = c.at
		c.end = max(c.end, e.Wall)
		c.apply(n, e)
	}
}

// booted begins a start of a node.
func (c *checker) booted(n *node, e *history.Event) {
	host, ok := c.hosts[e.Host]
	if !ok {
		host = int32(len(c.hosts))
		c.hosts[e.Host] = host
	}
	c.at.host = host
	if len(n.boots) > 0 {
		c.report.Restarts++
		if b := n.boot(); !b.ended {
			c.report.Cut++
			c.windows = append(c.windows, window{what: restart, peer: n.id, from: b.last.wall, up: e.Wall})
		}
	}
	n.boots = append(n.boots, boot{name: e.Boot, first: c.at})
	n.slots, n.inUse, n.worst, n.kinds = e.Slots, 0, 0, slices.Clone(e.Kinds)
	n.running, n.refuses = map[attemptKey]running{}, map[tasks.ID]point{}
}

func (c *checker) node(id string) *node {
	n := c.nodes[id]
	if n == nil {
		n = &node{id: id}
		c.nodes[id] = n
	}
	return n
}

func (c *checker) task(id tasks.ID) *task {
	t := c.tasks[id]
	if t == nil {
		t = &task{id: id}
		c.tasks[id] = t
		c.order = append(c.order, t)
	}
	return t
}

// judge looks at what can be told only when everything was read.
func (c *checker) judge(truth bool) {
	slices.SortFunc(c.windows, func(a, b window) int { return cmp.Compare(a.from, b.from) })
	for _, t := range c.order {
		c.judgeTask(t, truth)
	}
	c.judgeDuplicates()
	c.judgeFanOut()
	c.judgePool()
	for i := range c.windows {
		if c.windows[i].up == math.MaxInt64 {
			c.report.OpenFaults++
		}
	}
	c.report.Nodes, c.report.Hosts, c.report.Sought = len(c.nodes), len(c.hosts), c.swept
}

// fail reports a violation.
func (c *checker) fail(invariant int, t *task, n uint32, at []point, format string, a ...any) {
	r := c.report
	r.Broken[invariant]++
	if r.Broken[invariant] > maxReported {
		return
	}
	v := Violation{Invariant: invariant, N: n, Text: fmt.Sprintf(format, a...)}
	if t != nil {
		v.Task = t.id
	}
	for _, p := range at {
		if p.is() && !slices.Contains(v.at, p) && len(v.at) < 4 {
			v.at = append(v.at, p)
		}
	}
	r.Violations = append(r.Violations, v)
}

// lastFault is the end of the last window; math.MaxInt64 if one is open.
func (c *checker) lastFault() int64 {
	last := int64(math.MinInt64)
	for i := range c.windows {
		last = max(last, c.windows[i].up)
	}
	return last
}
