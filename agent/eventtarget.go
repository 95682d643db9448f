package agent

import (
	"fmt"
	"slices"

	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/query"
)

// eventPeers are the members that a target of an event means: it is about members,
// where that of a task is about workers.
func (a *Agent) eventPeers(to tasks.Target, event string) ([]bus.Peer, error) {
	if err := a.running(); err != nil {
		return nil, err
	}
	if bus.Reserved(event) {
		return nil, fmt.Errorf("%w: %q is what agents call their own events; choose another", bus.ErrBadName, event)
	}
	if err := checkEventTarget(to); err != nil {
		return nil, err
	}
	except, err := a.named(to.Except)
	if err != nil {
		return nil, err
	}
	var chosen []*membership.Member
	switch {
	case len(to.On) > 0:
		chosen, err = a.named(to.On)
	case to.Where != "":
		chosen, err = a.matching(to.Where)
	default:
		chosen = slices.Collect(a.pool.Present())
	}
	if err != nil {
		return nil, err
	}
	var peers []bus.Peer
	for _, m := range chosen {
		if !contains(except, m) {
			peers = append(peers, peerOf(m))
		}
	}
	if len(peers) == 0 {
		return nil, fmt.Errorf("%w: nobody is left of the target", bus.ErrNoMatch)
	}
	return peers, nil
}

func checkEventTarget(to tasks.Target) error {
	switch {
	case to.N != 0 || to.Prefer != "" || to.Force:
		return fmt.Errorf("%w: n, prefer and force are for tasks; an event goes to all that are meant", tasks.ErrBadTarget)
	case !to.All && len(to.On) == 0 && to.Where == "":
		return fmt.Errorf("%w: %w", tasks.ErrBadTarget, errNobody)
	}
	return to.Validate()
}

// named returns the present members with these names or ids, each once.
func (a *Agent) named(names []string) (found []*membership.Member, err error) {
	for _, name := range names {
		var same []*membership.Member
		for m := range a.pool.Present() {
			if m.ID == name {
				same = []*membership.Member{m}
				break
			}
			if m.Name == name {
				same = append(same, m)
			}
		}
		switch len(same) {
		case 0:
			return nil, fmt.Errorf("%w: %q is not in the pool; see scagent members", bus.ErrNoMatch, name)
		case 1:
			if !contains(found, same[0]) {
				found = append(found, same[0])
			}
		default:
			ids := make([]string, len(same))
			for i, m := range same {
				ids[i] = m.ID
			}
			return nil, fmt.Errorf("%w: several members have the name %q; use one of the ids %q", tasks.ErrBadTarget, name, ids)
		}
	}
	return found, nil
}

// matching returns the present members of which an expression is true.
func (a *Agent) matching(where string) (found []*membership.Member, err error) {
	q, err := query.Compile(where)
	if err != nil {
		return nil, err
	}
	var nodes []query.Node
	for m := range a.pool.Present() {
		n := query.Node{Name: m.Name, Slots: m.Slots, Free: max(0, m.Slots-m.Busy), Known: m.DocumentKnown,
			Data: query.Decode(m.Document.Data), Facts: query.Decode(m.Document.Facts)}
		for _, r := range m.Roles {
			n.Role = append(n.Role, string(r))
		}
		if q.Match(&n) == query.True {
			found = append(found, m)
		}
		nodes = append(nodes, n)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %s", bus.ErrNoMatch, q.Explain("member", nodes))
	}
	return found, nil
}

// contains compares ids: of a member that has changed there are several Members.
func contains(members []*membership.Member, m *membership.Member) bool {
	return slices.ContainsFunc(members, func(x *membership.Member) bool { return x.ID == m.ID })
}
