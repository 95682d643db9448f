//go:build linux

package cluster

import (
	"errors"
	"fmt"

	"github.com/scagent/scagent/test/chaos/fabric"
	"github.com/scagent/scagent/test/chaos/nemesis"
)

// Apply does a fault, or ends one, and writes it down: its begin before it is done, its
// end after that. What is done to an agent that does
// not run, as another fault has killed it, is skipped.
func (c *Cluster) Apply(f nemesis.Fault) error {
	n, to := c.Node(f.Node), c.Node(f.To)
	if n == nil || f.To != "" && to == nil {
		return fmt.Errorf("%s: there is no such node", f)
	}
	var do func() error
	ends := false
	switch f.Kind {
	case nemesis.Kill:
		do = n.kill
	case nemesis.Start:
		do, ends = n.start, true
	case nemesis.Stop:
		do = func() error { return n.pause(true) }
	case nemesis.Cont:
		do, ends = func() error { return n.pause(false) }, true
	case nemesis.FDs:
		do = n.useUpFDs
	case nemesis.FDsFree:
		do, ends = n.freeFDs, true
	case nemesis.Full:
		do = n.fillDisk
	case nemesis.Free:
		do, ends = n.freeDisk, true
	case nemesis.Cut, nemesis.Heal:
		if to == nil || to == n {
			return fmt.Errorf("%s: from whom to whom?", f)
		}
		ends = f.Kind == nemesis.Heal
		do = func() error {
			if to.cut[f.Node] = true; ends {
				delete(to.cut, f.Node)
			}
			return to.filter()
		}
	case nemesis.Loss:
		if f.Percent < 0 || f.Percent > 100 {
			return fmt.Errorf("%s: want 0 to 100 %%", f)
		}
		ends = f.Percent == 0
		do = func() error {
			if n.loss[f.Proto] = f.Percent; ends {
				delete(n.loss, f.Proto)
			}
			return n.filter()
		}
	case nemesis.Shape:
		if c.fabric == nil || to == nil || to == n {
			return fmt.Errorf("%s: needs two nodes, and the switch between them", f)
		}
		ends = f.Policy == fabric.Policy{}
		do = func() error { c.fabric.Set(f.Node, f.To, f.Policy); return nil }
	default:
		return fmt.Errorf("there is no fault %q", f.Kind)
	}
	if !ends {
		c.begins(f)
	}
	err := do()
	nothing := errors.Is(err, errNothing)
	switch {
	case err != nil && !nothing:
		return err
	case f.Kind == nemesis.Kill: // what was done to the agent ends with it
		c.over(nemesis.Fault{Kind: nemesis.Stop, Node: f.Node})
		c.over(nemesis.Fault{Kind: nemesis.FDs, Node: f.Node})
	case ends || nothing:
		c.over(f)
	}
	return nil
}

// Heal ends all faults, and starts the agents that do not run.
func (c *Cluster) Heal() error {
	var errs []error
	do := func(f nemesis.Fault) { errs = append(errs, c.Apply(f)) }
	for _, n := range c.nodes {
		for from := range n.cut {
			do(nemesis.Fault{Kind: nemesis.Heal, Node: from, To: n.Name})
		}
		for proto := range n.loss {
			do(nemesis.Fault{Kind: nemesis.Loss, Node: n.Name, Proto: proto})
		}
		if c.fabric != nil {
			for _, to := range c.nodes {
				if to != n && c.fabric.Policy(n.Name, to.Name) != (fabric.Policy{}) {
					do(nemesis.Fault{Kind: nemesis.Shape, Node: n.Name, To: to.Name})
				}
			}
		}
		n.mu.Lock()
		full, up := n.full, n.proc != nil
		n.mu.Unlock()
		if full {
			do(nemesis.Fault{Kind: nemesis.Free, Node: n.Name})
		}
		if up {
			do(nemesis.Fault{Kind: nemesis.Cont, Node: n.Name})
			do(nemesis.Fault{Kind: nemesis.FDsFree, Node: n.Name})
		} else {
			do(nemesis.Fault{Kind: nemesis.Start, Node: n.Name})
		}
	}
	for f := range c.open { // of agents that ended by themselves
		c.overs(f)
	}
	return errors.Join(errs...)
}
