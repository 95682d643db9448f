//go:build linux

package cluster

import (
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/test/chaos/nemesis"
)

// fault is one as histories have it.
type fault struct {
	what     history.What
	peer, to string // ids
}

// words are the histories' for what is done.
var words = map[nemesis.Kind]history.What{
	nemesis.Kill: history.Kill,
	nemesis.Stop: history.Pause, nemesis.Cont: history.Pause,
	nemesis.Cut: history.Cut, nemesis.Heal: history.Cut,
	nemesis.Loss: history.Loss,
	nemesis.Full: history.Disk, nemesis.Free: history.Disk,
	nemesis.FDs: "fds", nemesis.FDsFree: "fds",
	nemesis.Shape: "shape",
}

// told returns a fault, or its end, as histories have it.
func (c *Cluster) told(f nemesis.Fault) fault {
	id := func(name string) string {
		if n := c.Node(name); n != nil && n.id != "" {
			return n.id
		}
		return name
	}
	what := words[f.Kind]
	if f.Proto != "" {
		what = history.What("no " + f.Proto) // more than loss: nothing of it arrives
	}
	return fault{what, id(f.Node), id(f.To)}
}

// begins writes down that a fault is about to be done.
func (c *Cluster) begins(f nemesis.Fault) {
	t := c.told(f)
	if !c.open[t] {
		c.history.Add(history.Event{Name: history.Fault, What: t.what, Peer: t.peer, To: t.to})
	}
	if f.Kind != nemesis.Kill {
		c.open[t] = true
	}
}

// over writes down that a fault is over, if it lasted.
func (c *Cluster) over(f nemesis.Fault) { c.overs(c.told(f)) }

func (c *Cluster) overs(t fault) {
	if c.open[t] {
		delete(c.open, t)
		c.history.Add(history.Event{Name: history.FaultOver, What: t.what, Peer: t.peer, To: t.to})
	}
}
