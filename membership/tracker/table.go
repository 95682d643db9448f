package tracker

import (
	"container/list"
	"fmt"
	"slices"
	"sync"
	"time"
)

// TTL is how long an announced host lives: 2.5 intervals of 3 s.
const TTL = 7500 * time.Millisecond

// Limits on all announced hosts together; a service counts as a host.
const (
	MaxHosts          = 10_000
	MaxTotalDataBytes = 64 << 20
)

// table keeps the announced hosts until they expire. Its zero value is empty.
type table struct {
	// mu guards the fields below.
	mu    sync.Mutex
	byKey map[string]*list.Element // by entry.key
	order list.List                // of *entry, by when they were seen, oldest first
	data  int                      // bytes of all their data
}

// entry is an announced host. It is constant once it is in the table.
type entry struct {
	key   string // host:port, or of a service "service " and its id
	host  Host
	seen  time.Time // as host.LastSeen, but by the clock that nobody sets
	rinfo rinfo     // of a service
	json  []byte    // host as it is listed; set by the table
}

func hostEntry(h Host) *entry { return &entry{key: h.HostPort(), host: h} }

// add adds or renews an entry, seen now. It returns whether it is new, or an
// error when there is no room for it.
func (t *table) add(e *entry) (isNew bool, err error) {
	h := &e.host
	e.seen = time.Now()
	h.LastSeen = e.seen.UTC() // which takes that clock away
	if e.json, err = encode(h); err != nil {
		return false, fmt.Errorf("encode host: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expireLocked(e.seen)
	old := t.byKey[e.key]
	data := t.data + len(h.Data)
	if old != nil {
		data -= len(old.Value.(*entry).host.Data)
	}
	switch {
	case old == nil && len(t.byKey) >= MaxHosts:
		return false, fmt.Errorf("there are %d announced hosts already; try again later", MaxHosts)
	case data > MaxTotalDataBytes:
		return false, fmt.Errorf("the data of all announced hosts would exceed %d bytes; try again later, or with less data", MaxTotalDataBytes)
	}
	if old != nil {
		t.order.Remove(old)
	}
	if t.byKey == nil {
		t.byKey = make(map[string]*list.Element)
	}
	t.byKey[e.key] = t.order.PushBack(e)
	t.data = data
	return old == nil, nil
}

// live returns the hosts that have not expired, oldest first.
func (t *table) live() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expireLocked(time.Now())
	all := make([]*entry, 0, t.order.Len())
	for el := t.order.Front(); el != nil; el = el.Next() {
		all = append(all, el.Value.(*entry))
	}
	return slices.Clip(all)
}

func (t *table) expireLocked(now time.Time) {
	for el := t.order.Front(); el != nil && now.Sub(el.Value.(*entry).seen) >= TTL; el = t.order.Front() {
		e := t.order.Remove(el).(*entry)
		delete(t.byKey, e.key)
		t.data -= len(e.host.Data)
	}
}
