package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/tracker"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// Members returns a copy of the member list, by name; nothing before Start.
func (a *Agent) Members() []membership.Member {
	if a.running() != nil {
		return nil
	}
	return a.pool.Members()
}

// Self returns this node as others see it, the zero Member before Start.
func (a *Agent) Self() membership.Member {
	if a.running() != nil {
		return membership.Member{}
	}
	return a.pool.Self()
}

// onEvent hands what happens in the pool on: to the master, as workers, to the
// bus, as somebody to tell of events, to the API's event feed, and to the program.
func (a *Agent) onEvent(e membership.Event) {
	m := &e.Member
	if m.Status.Present() && m.Has(membership.RoleWorker) {
		a.master.Update(workerOf(m))
	} else {
		a.master.Remove(m.ID)
	}
	if a.history.On() {
		a.writeMember(m)
	}
	if !m.Self && m.Status.Present() && e.Type != membership.MemberUpdate {
		a.bus.Greet(m.ID)
	}
	am := apiMember(m)
	a.feed.Append(api.Event{Event: string(e.Type), Member: &am})
	if a.cfg.OnEvent != nil {
		a.cfg.OnEvent(e)
	}
}

// writeMember writes down what became of a member.
func (a *Agent) writeMember(m *membership.Member) {
	e := history.Event{Name: history.MemberUp, Peer: m.ID}
	switch {
	case m.Self, m.Status == membership.Suspect, m.Status == membership.External:
		return
	case !m.Status.Present():
		e.Name, e.What = history.MemberDown, history.MemberFailed
		if m.Status == membership.Left {
			e.What = history.MemberLeft
		}
	}
	a.history.Add(e)
}

// workerOf is what tasks need to know of a member.
func workerOf(m *membership.Member) tasks.Worker {
	w := tasks.Worker{
		ID: m.ID, Boot: m.Boot, Name: m.Name, Slots: m.Slots, Busy: m.Busy, Available: m.Available,
		Data: m.Document.Data, Facts: m.Document.Facts, Known: m.DocumentKnown,
		Functions: m.Document.Functions, Interpreters: m.Document.Interpreters,
	}
	for _, r := range m.Roles {
		w.Roles = append(w.Roles, string(r))
	}
	for _, k := range m.Document.Kinds {
		w.Kinds = append(w.Kinds, tasks.Kind(k))
	}
	return w
}

// APIMembers returns the members as the API shows them, and after them the hosts
// that are none, see externals.
func (a *Agent) APIMembers() []api.Member {
	ms := a.pool.Members()
	list := make([]api.Member, len(ms))
	for i := range ms {
		list[i] = apiMember(&ms[i])
	}
	return append(list, a.externals()...)
}

func apiMember(m *membership.Member) api.Member {
	am := api.Member{
		ID: m.ID, Name: m.Name, Addr: m.AddrPort.Addr().String(), Port: int(m.AddrPort.Port()), Status: string(m.Status),
		Available: m.Available, Slots: m.Slots, Busy: m.Busy, Data: object(m.Document.Data), Facts: object(m.Document.Facts),
		Version: m.Version, Self: m.Self, Roles: []string{},
	}
	for _, r := range m.Roles {
		am.Roles = append(am.Roles, string(r))
	}
	return am
}

// object returns b or, where there is nothing, the object without keys: who reads the
// members asks for a key of their data and facts without looking first.
func object(b json.RawMessage) json.RawMessage {
	if len(b) == 0 {
		return json.RawMessage("{}")
	}
	return b
}

// hosts are the members as a tracker lists them: workers that want no tasks are
// not among its workers.
func (a *Agent) hosts() []tracker.Host {
	var hs []tracker.Host
	for _, m := range a.pool.Members() {
		if !m.Status.Present() {
			continue
		}
		h := tracker.Host{ID: m.ID, Name: m.Name, Addr: m.AddrPort.Addr().String(), Port: int(m.AddrPort.Port()), Data: m.Document.Data,
			Available: m.Available, Slots: m.Slots}
		for _, r := range m.Roles {
			if r != membership.RoleWorker || m.Available {
				h.Roles = append(h.Roles, string(r))
			}
		}
		if len(h.Roles) > 0 {
			hs = append(hs, h)
		}
	}
	return hs
}

// present is how many members take part in the pool now.
func (a *Agent) present() int {
	n := 0
	for range a.pool.Present() {
		n++
	}
	return n
}

// dialNode opens a connection of a sort to a member.
func (a *Agent) dialNode(ctx context.Context, sort port.Sort, node string) (net.Conn, error) {
	m, ok := a.pool.Member(node)
	if !ok {
		return nil, fmt.Errorf("node %s is not a member", node)
	}
	return a.dial(ctx, sort, node, m.AddrPort.String())
}

// Join joins the pool of which an address is a member, and says how many of the
// addresses answered. The addresses are tried once; see Config.Join for those
// that are tried until they answer.
func (a *Agent) Join(ctx context.Context, addrs ...string) (int, error) {
	if err := a.running(); err != nil {
		return 0, err
	}
	return a.pool.Join(ctx, addrs...)
}
