package membership

import (
	"slices"
	"sync"
)

// view is the member list as readers see it. Only the pool's keeper changes it,
// and gossip never touches it, so a slow reader delays nobody but the keeper.
// The members themselves are replaced, never changed.
type view struct {
	mu     sync.RWMutex
	byID   map[string]*Member
	sorted []*Member // by name, then id; nil when it must be made anew
}

func newView() *view { return &view{byID: make(map[string]*Member)} }

func (v *view) get(id string) *Member {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.byID[id]
}

// set puts m in place of the member with its id and reports whether anything
// that can be seen changed.
func (v *view) set(m *Member) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.byID[m.ID]
	if old != nil && equalMembers(old, m) {
		return false
	}
	v.byID[m.ID] = m
	v.sorted = nil
	return true
}

// drop removes a member and reports whether there was one.
func (v *view) drop(id string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, had := v.byID[id]
	delete(v.byID, id)
	v.sorted = nil
	return had
}

// all returns the members, sorted. The slice is shared and must only be read.
func (v *view) all() []*Member {
	v.mu.RLock()
	sorted := v.sorted
	v.mu.RUnlock()
	if sorted != nil {
		return sorted
	}
	v.mu.Lock()
	list := make([]*Member, 0, len(v.byID))
	for _, m := range v.byID {
		list = append(list, m)
	}
	v.mu.Unlock()

	slices.SortFunc(list, compareMembers)

	// Keep the result unless a member changed while it was sorted.
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(list) == len(v.byID) {
		for _, m := range list {
			if v.byID[m.ID] != m {
				return list
			}
		}
		v.sorted = list
	}
	return list
}

func equalMembers(a, b *Member) bool {
	return a.Boot == b.Boot && a.Name == b.Name && a.AddrPort == b.AddrPort &&
		a.Status == b.Status && a.Available == b.Available &&
		a.Slots == b.Slots && a.Busy == b.Busy && a.Version == b.Version &&
		a.DocumentKnown == b.DocumentKnown && a.digest == b.digest &&
		slices.Equal(a.Roles, b.Roles)
}
