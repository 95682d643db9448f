package beacon

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits on what other hosts' maps can cause.
const (
	maxExternals  = 1000                   // further ones are dropped until some have gone
	mapsPerSecond = 1000                   // looked at; what is beyond is dropped unread
	externalsPace = 100 * time.Millisecond // at least, between calls of OnExternals
)

// External is a service of a host that speaks only sc-discovery. It is nothing
// but what that host says.
type External struct {
	ID        string          // 1 to 256 bytes
	Name      string          // the role, for hosts of supercluster; 1 to 256 bytes
	Data      json.RawMessage // any JSON, at most MaxMapBytes; not to be changed
	Available bool
	// Addr is where its maps come from, link-local with its zone, and the port
	// that Data has as port, or 0.
	Addr netip.AddrPort
}

// same reports whether nothing of e is news to who knows x.
func (e *External) same(x *External) bool {
	return e.ID == x.ID && e.Name == x.Name && e.Available == x.Available && e.Addr == x.Addr && bytes.Equal(e.Data, x.Data)
}

// externals are the services that live. Its methods may be called from any
// goroutine.
type externals struct {
	changed chan struct{} // cap 1, full: OnExternals is to be called anyway

	// mu guards the field below.
	mu   sync.Mutex
	byID map[string]*external // at most maxExternals
}

// external is a service and when it goes unless it is heard again.
type external struct {
	External
	until time.Time
}

// hear takes in what a map from an address says. An id is that address's until
// it has gone: a host on two networks is heard twice. It returns false if there
// was no room for some.
func (x *externals) hear(all []External, from netip.Addr) bool {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	room, changed := true, false
	for _, e := range all {
		e.Addr = netip.AddrPortFrom(from, portOf(e.Data))
		old := x.byID[e.ID]
		switch {
		case old != nil && now.Before(old.until) && old.Addr.Addr() != from:
			continue
		case old == nil && len(x.byID) >= maxExternals:
			room = false
			continue
		case old == nil || !old.same(&e):
			changed = true
		}
		x.byID[e.ID] = &external{External: e, until: now.Add(mapTTL)}
	}
	if changed {
		x.change()
	}
	return room
}

// portOf returns the port that a service has in its data, or 0.
func portOf(data json.RawMessage) uint16 {
	var d struct{ Port uint16 }
	if json.Unmarshal(data, &d) != nil {
		return 0
	}
	return d.Port
}

// expire forgets what has gone, and returns when the next one will; the zero
// time: none.
func (x *externals) expire() (next time.Time) {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	before := len(x.byID)
	for id, e := range x.byID {
		switch {
		case !now.Before(e.until):
			delete(x.byID, id)
		case next.IsZero() || e.until.Before(next):
			next = e.until
		}
	}
	if len(x.byID) < before {
		x.change()
	}
	return next
}

// change makes OnExternals be called.
func (x *externals) change() {
	select {
	case x.changed <- struct{}{}:
	default:
	}
}

// list returns what lives, by id.
func (x *externals) list() []External {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]External, 0, len(x.byID))
	for _, e := range x.byID {
		if now.Before(e.until) {
			all = append(all, e.External)
		}
	}
	slices.SortFunc(all, func(a, b External) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Externals returns the services of hosts that speak only sc-discovery, by id.
func (b *Beacon) Externals() []External { return b.externals.list() }

// reportExternals calls OnExternals until Close.
func (b *Beacon) reportExternals() {
	for {
		select {
		case <-b.done:
			return
		case <-b.externals.changed:
			b.cfg.OnExternals(b.Externals())
		}
		select {
		case <-b.done:
			return
		case <-time.After(externalsPace):
		}
	}
}
