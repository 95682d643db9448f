package membership

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// farewellWindow is how far apart a node's leave message and gossip's word that
// it is gone may arrive. Either alone means nothing: the first could be forged
// about a node that is well, the second is what a crash looks like too.
const farewellWindow = 30 * time.Second

// foldWindow is how long the newest boot of a node must have been gone before an
// older one that is alive counts again. By then gossip has buried what is really
// dead; what still lives was started by a clock that had gone back.
const foldWindow = 30 * time.Second

// process is one start of a node, what memberlist calls a node.
type process struct {
	boot  string
	addr  netip.AddrPort
	meta  *meta // replaced, never changed
	alive bool
	since time.Time // of the last change of alive
	left  bool      // it is gone, and it said so

	farewell time.Time // when its leave message came; zero: none

	latest   uint64 // version of the newest message of which only the latest matters
	latestAt time.Time

	suspect     bool
	suspectedAt uint32 // incarnation that is under suspicion
	aliveAt     uint32 // highest incarnation seen alive
}

func (p *process) status() Status {
	switch {
	case p.alive && p.suspect:
		return Suspect
	case p.alive:
		return Alive
	case p.left:
		return Left
	default:
		return Failed
	}
}

// roster is what gossip has said, by node id. It holds no lock and reads no
// clock; Pool.mu guards it. This node itself is not in it, only other processes
// that run under its id.
type roster struct {
	nodes map[string][]*process // by id; the processes with the newest boot last
	self  string                // our name in gossip

	names int                 // processes that are alive
	dirty map[string]struct{} // ids whose member may have changed

	early map[string]time.Time // leave messages of processes not heard of yet, by name in gossip
}

// maxEarly bounds roster.early; further leave messages of strangers are not kept.
const maxEarly = 1024

func newRoster(self string) *roster {
	return &roster{
		nodes: make(map[string][]*process), self: self,
		dirty: make(map[string]struct{}), early: make(map[string]time.Time),
	}
}

// newer notes the version of a message of which only the latest matters, and reports
// whether it is newer than what was heard. Of a process that is not known to be alive
// none is. When none has come for latestTTL any is: none is on its way for so long, and
// one with a forged version must not keep out those that follow for good.
func (r *roster) newer(name string, version uint64, now time.Time) bool {
	p := r.find(name)
	if p == nil || !p.alive || version <= p.latest && now.Sub(p.latestAt) < latestTTL {
		return false
	}
	p.latest, p.latestAt = version, now
	return true
}

const latestTTL = 10 * time.Second

// find returns the process with the given name in gossip, or nil.
func (r *roster) find(name string) *process {
	id, boot, ok := splitGossipName(name)
	if !ok {
		return nil
	}
	for _, p := range r.nodes[id] {
		if p.boot == boot {
			return p
		}
	}
	return nil
}

// join notes that a process is alive, new or back.
func (r *roster) join(name string, addr netip.AddrPort, m *meta, now time.Time) {
	id, boot, ok := splitGossipName(name)
	if !ok || name == r.self {
		return
	}
	p := r.find(name)
	if p == nil {
		p = &process{boot: boot, farewell: r.early[name]}
		delete(r.early, name)
		list := append(r.nodes[id], p)
		slices.SortFunc(list, func(a, b *process) int { return compareBoots(a.boot, b.boot) })
		r.nodes[id] = list
	}
	if !p.alive {
		r.names++
		p.alive, p.since = true, now
	}
	p.addr, p.meta = addr, m
	p.suspect = false
	if p.left { // its farewell was not true
		p.left, p.farewell = false, time.Time{}
	}
	r.dirty[id] = struct{}{}
}

// update notes new metadata of a process that is alive.
func (r *roster) update(name string, addr netip.AddrPort, m *meta) {
	if p := r.find(name); p != nil {
		p.addr, p.meta = addr, m
		r.touch(name)
	}
}

// gone notes that gossip buried a process.
func (r *roster) gone(name string, now time.Time) {
	p := r.find(name)
	if p == nil || !p.alive {
		return
	}
	r.names--
	p.alive, p.suspect, p.since = false, false, now
	p.left = !p.farewell.IsZero() && now.Sub(p.farewell) <= farewellWindow
	r.touch(name)
}

// said notes a leave message of a process, or one about a process that had
// failed before. A node that stays for a moment may be heard to leave before it
// is heard to have come: gossip has no order.
func (r *roster) said(name string, now time.Time) {
	p := r.find(name)
	if p == nil {
		if len(r.early) < maxEarly {
			r.early[name] = now
		}
		return
	}
	p.farewell = now
	if !p.alive && !p.left {
		p.left, p.since = true, now
		r.touch(name)
	}
}

// suspected notes that memberlist took up a suspicion.
func (r *roster) suspected(name string, incarnation uint32) {
	if p := r.find(name); p != nil && p.alive && !p.suspect && incarnation >= p.aliveAt {
		p.suspect, p.suspectedAt = true, incarnation
		r.touch(name)
	}
}

// cleared notes that memberlist believes a process to be alive.
func (r *roster) cleared(name string, incarnation uint32) {
	p := r.find(name)
	if p == nil {
		return
	}
	p.aliveAt = max(p.aliveAt, incarnation)
	if p.suspect && incarnation > p.suspectedAt {
		p.suspect = false
		r.touch(name)
	}
}

func (r *roster) touch(name string) { r.dirty[name[:idChars]] = struct{}{} }

// current returns the process that stands for a node: the newest boot, whatever
// older ones do.
func (r *roster) current(id string, now time.Time) *process {
	list := r.nodes[id]
	if len(list) == 0 {
		return nil
	}
	newest := list[len(list)-1]
	if newest.alive || newest.left || now.Sub(newest.since) <= foldWindow {
		return newest
	}
	for _, p := range slices.Backward(list) {
		if p.alive {
			return p
		}
	}
	return newest
}

// expire forgets what is over, and of those that are gone whoever is so for longest
// when there are too many. It marks nodes for which time alone changes the answer.
func (r *roster) expire(now time.Time, leftTTL, failedTTL time.Duration) {
	maps.DeleteFunc(r.early, func(_ string, at time.Time) bool { return now.Sub(at) > farewellWindow })
	absent := make(map[string]time.Time)
	for id, list := range r.nodes {
		newest := list[len(list)-1]
		kept := slices.DeleteFunc(list, func(p *process) bool {
			switch {
			case p.alive:
				return false
			case p != newest:
				return true
			case p.left:
				return now.Sub(p.since) > leftTTL
			default:
				return now.Sub(p.since) > failedTTL
			}
		})
		if len(list) > 1 || len(kept) == 0 {
			r.dirty[id] = struct{}{}
		}
		if len(kept) == 0 {
			delete(r.nodes, id)
		} else {
			r.nodes[id] = kept
			if !slices.ContainsFunc(kept, func(p *process) bool { return p.alive }) {
				absent[id] = kept[len(kept)-1].since
			}
		}
	}
	for _, id := range tooMany(absent) {
		delete(r.nodes, id)
		r.dirty[id] = struct{}{}
	}
}

// maxAbsent bounds those that are gone and still remembered, who do not count as
// members: whoever can announce members can have them come and go without end.
const maxAbsent = MaxMembers

// tooMany returns whom to forget of those that are gone, by when they went.
func tooMany(absent map[string]time.Time) []string {
	if len(absent) <= maxAbsent {
		return nil
	}
	ids := slices.SortedFunc(maps.Keys(absent), func(a, b string) int { return absent[a].Compare(absent[b]) })
	return ids[:len(ids)-maxAbsent]
}

// twin reports whether another process has run under this node's id for longer
// than a restart explains.
func (r *roster) twin(now time.Time) bool {
	for _, p := range r.nodes[r.self[:idChars]] {
		if p.alive && now.Sub(p.since) > foldWindow {
			return true
		}
	}
	return false
}
