package nemesis

import (
	"fmt"
	"time"

	"github.com/scagent/scagent/test/chaos/fabric"
)

// Kind is what is done.
type Kind string

// The kinds of faults, and of their ends. They are also the words of fault events in
// histories.
const (
	Kill    Kind = "kill"    // the agent of a node, with signal 9
	Start   Kind = "start"   // it again
	Stop    Kind = "stop"    // pause the agent
	Cont    Kind = "cont"    // let it go on
	Cut     Kind = "cut"     // nothing of Node's arrives at To
	Heal    Kind = "heal"    // it arrives again
	Loss    Kind = "loss"    // Percent of what is sent to the node does not arrive; of UDP or TCP alone with Proto
	Full    Kind = "full"    // the disk of a node is full
	Free    Kind = "free"    // there is room again
	FDs     Kind = "fds"     // the agent of a node can open no more files
	FDsFree Kind = "fdsfree" // it can again
	Shape   Kind = "shape"   // packets from Node to To are treated as Policy says, by the switch
)

// Fault is a fault, or the end of one.
type Fault struct {
	Kind    Kind
	Node    string
	To      string
	Proto   string // of Loss: udp, tcp, or empty for all packets
	Percent float64
	Policy  fabric.Policy
}

func (f Fault) String() string {
	s := fmt.Sprintf("%s %s", f.Kind, f.Node)
	if f.To != "" {
		s += " to " + f.To
	}
	switch f.Kind {
	case Loss:
		s += fmt.Sprintf(" %g%%", f.Percent)
		if f.Proto != "" {
			s += " of " + f.Proto
		}
	case Shape:
		p := f.Policy
		s += fmt.Sprintf(" delay=%v±%v reorder=%g%% duplicate=%g%% corrupt=%g%%", p.Delay, p.Jitter, p.ReorderPercent, p.DuplicatePercent, p.CorruptPercent)
	}
	return s
}

// Step is when a fault is due, from the start of the schedule.
type Step struct {
	At time.Duration
	Fault
}

func (s Step) String() string { return fmt.Sprintf("%8.3fs %s", s.At.Seconds(), s.Fault) }

// Nodes are those of a cluster, by name.
type Nodes struct {
	All     []string // can be cut off, and lose packets
	Victims []string // whose agents and disks are struck too
}
