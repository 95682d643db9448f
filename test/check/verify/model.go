package verify

import (
	"math"
	"slices"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// point is when and where something was written down; the zero point is nowhere.
type point struct {
	mono, wall int64
	host       int32 // whose clock mono is
	file, line int32 // line counts from 1
}

func (p point) is() bool { return p.line > 0 }

// after says that p certainly comes later than q by more than slack: across hosts
// nothing is certain.
func (p point) after(q point, slack int64) bool {
	return p.is() && q.is() && p.host == q.host && p.mono-q.mono > slack
}

// node is what is known of one. Its events come in its own order.
type node struct {
	id      string
	boots   []boot
	durable bool // it has used a journal

	owned   []*task                // tasks that it has given out ids of
	slots   int                    // of the boot
	inUse   int                    // of them, by what runs
	worst   int                    // of the boot: the most of them that were too many
	running map[attemptKey]running // of the boot
	refuses map[tasks.ID]point     // of the boot: what it will not run
	kinds   []tasks.Kind           // of the boot: what it runs; nil: not said
}

type running struct {
	slots int
	at    point
}

type attemptKey struct {
	task tasks.ID
	n    uint32
}

// boot is one start of a node.
type boot struct {
	name        string
	first, last point
	leaving     point // when it said that it stops
	ended       bool  // it has said so; else its last events may be missing
}

func (n *node) boot() *boot { return &n.boots[len(n.boots)-1] }

// blind says that events of the node between the two points may be missing, as a
// start of it was cut short: what came after the last that it wrote.
func (n *node) blind(from, to point) bool {
	for i := range n.boots {
		b := &n.boots[i]
		if b.ended || !to.after(b.last, 0) && to.host == b.last.host {
			continue
		}
		if i+1 == len(n.boots) || !from.after(n.boots[i+1].first, 0) {
			return true
		}
	}
	return len(n.boots) == 0 // there is no history of it
}

// task is what is known of one.
type task struct {
	id         tasks.ID
	owner      *node // nil while nobody has said so
	run        tasks.ID
	kind       tasks.Kind
	spec       string
	bound      *node
	atMostOnce bool
	ephemeral  bool
	durable    bool // journaled
	endOnDisk  bool
	gone       bool // forgotten, or missed already

	submitted point
	boot      int // of the owner, when it was submitted
	recovered int // last boot of the owner that found it, from 1
	highest   uint32
	told      point // that it is being cancelled
	end       *end  // the first
	answers   []end
	attempts  []attempt // by number
	runs      []run     // what the task itself says
}

type end struct {
	at    point
	state tasks.State
	hash  string
	why   string
	n     uint32
	found bool // by a restart, which says nothing of the result
}

type attempt struct {
	n         uint32
	worker    *node // to whom it was offered
	journaled bool
	failed    bool // its result is on disk, or another attempt after it
	retried   bool // it failed, and that another is to be made is on disk
	boot      int  // of the owner, when it was offered
	offered   point
	granted   point
	lost      point // its owner gave it up
	revoked   []outcome
	starts    []start
	finished  []outcome
	received  []outcome
	killed    []outcome
}

type start struct {
	at   point
	node *node
	boot int
	spec string
	void bool // its worker could not start it after all
}

type outcome struct {
	at   point
	node *node
	hash string
	bad  bool
}

// run is a process of the task, by its own word: Unix nanoseconds, 0 for none.
type run struct {
	n          uint32
	pid        int64
	start, end int64
}

// attempt returns the attempt of that number, which it makes if there is none.
func (t *task) attempt(n uint32) *attempt {
	i, ok := slices.BinarySearchFunc(t.attempts, n, func(a attempt, n uint32) int { return int(int64(a.n) - int64(n)) })
	if !ok {
		t.attempts = slices.Insert(t.attempts, i, attempt{n: n})
	}
	return &t.attempts[i]
}

// window is a time in which something was done to nodes: a fault, or a restart.
// Unix nanoseconds.
type window struct {
	what     history.What
	peer, to string // empty: all
	from, up int64  // up is math.MaxInt64 while it lasts
}

// restart is the window between the last event of a start that was cut short and
// the first of the next.
const restart history.What = "restart"

// touches says that the window had to do with one of the nodes.
func (w *window) touches(nodes ...*node) bool {
	if w.peer == "" {
		return true
	}
	for _, n := range nodes {
		if n != nil && (n.id == w.peer || n.id == w.to) {
			return true
		}
	}
	return false
}

// disturbed says that something was done to one of the nodes between the two times.
func (c *checker) disturbed(from, to int64, nodes ...*node) bool {
	for i := range c.windows {
		w := &c.windows[i]
		if w.from <= to && w.up >= from && w.touches(nodes...) {
			return true
		}
	}
	return false
}

// patience returns until when something may take that begins now: the grace, and
// once more after whatever was done to the nodes meanwhile.
func (c *checker) patience(from int64, nodes ...*node) int64 {
	until := from + int64(c.cfg.Grace)
	for i := range c.windows { // in order of from
		w := &c.windows[i]
		if w.from > until {
			break
		}
		if w.up < from || !w.touches(nodes...) {
			continue
		}
		if w.up == math.MaxInt64 {
			return w.up
		}
		until = max(until, w.up+int64(c.cfg.Grace))
	}
	return until
}
