package agent

import (
	"cmp"
	"slices"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/beacon"
)

// Hosts that speak only the discovery protocol of the original, sc-discovery, are
// shown beside the members. They are none, and get no tasks.

// externals are those that announced themselves to this tracker or on this LAN.
func (a *Agent) externals() []api.Member {
	var list []api.Member
	seen := map[string]bool{}
	for _, m := range a.pool.Members() {
		seen[m.ID] = true
		seen[m.AddrPort.String()] = true
	}
	add := func(m api.Member, addr string) {
		if seen[m.ID] || seen[addr] {
			return
		}
		seen[m.ID] = true
		m.Status = string(membership.External)
		m.Data, m.Facts = object(m.Data), object(m.Facts)
		list = append(list, m)
	}
	if a.tracker != nil {
		for _, h := range a.tracker.Announced() {
			roles := h.Roles
			if roles == nil {
				roles = []string{}
			}
			id := cmp.Or(h.ID, h.HostPort())
			add(api.Member{ID: id, Name: cmp.Or(h.Name, id), Addr: h.Addr, Port: h.Port, Roles: roles, Data: h.Data, Available: h.Available, Slots: h.Slots}, h.HostPort())
		}
	}
	if a.beacon != nil {
		for _, e := range a.beacon.Externals() {
			m := api.Member{ID: e.ID, Name: e.Name, Addr: e.Addr.Addr().String(), Port: int(e.Addr.Port()), Roles: []string{}, Data: e.Data, Available: e.Available}
			if r := membership.Role(e.Name); r == membership.RoleWorker || r == membership.RoleMaster || r == membership.RoleTracker {
				m.Roles = append(m.Roles, e.Name)
			}
			add(m, e.Addr.String())
		}
	}
	slices.SortFunc(list, func(x, y api.Member) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID)) })
	return list
}

// services are what sc-discovery's clients on the LAN see of this node: one for
// each role.
func (a *Agent) services() []beacon.Service {
	self := a.pool.Self()
	var list []beacon.Service
	for _, r := range self.Roles {
		list = append(list, beacon.Service{Name: string(r), Data: self.Document.Data, Available: r != membership.RoleWorker || self.Available})
	}
	return list
}
