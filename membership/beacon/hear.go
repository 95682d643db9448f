package beacon

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// Limits on what strangers can cause, and on what is remembered of anyone.
const (
	strangersPerSecond = 20                    // reports
	maxWaiting         = 64                    // strangers to be reported later, and waiting for OnStranger
	maxRemembered      = 4096                  // nodes
	forgetAfter        = time.Minute           // of silence
	reportEvery        = time.Second           // the same stranger
	delayPerMember     = 20 * time.Millisecond // see Config.Members
	maxDelay           = 2 * time.Second
)

// ear decides what becomes of a datagram. It belongs to the goroutine run.
type ear struct {
	b        *Beacon
	onLink   func(netip.Addr) bool
	nodes    map[string]*last // by node id; at most maxRemembered
	limit    *rate.Limiter    // of reports
	maps     *rate.Limiter    // of maps that are read
	waiting  []waiting        // at most maxWaiting
	conflict bool             // logged already
}

// last is the newest announcement that counted of a node.
type last struct {
	boot     string
	seq      uint64
	at       time.Time
	reported time.Time // as a stranger
}

// waiting is a stranger that is reported when it is due, if it is one still.
type waiting struct {
	due time.Time
	Heard
}

func newEar(b *Beacon, onLink func(netip.Addr) bool) *ear {
	return &ear{
		b:      b,
		onLink: onLink,
		nodes:  make(map[string]*last),
		limit:  rate.NewLimiter(strangersPerSecond, strangersPerSecond),
		maps:   rate.NewLimiter(mapsPerSecond, mapsPerSecond),
	}
}

// heard is what a datagram means for the next announcement.
type heard int

const (
	nothing heard = iota // not of our pool
	pool                 // a member of our pool has spoken for it
	hello                // a member of our pool, as we see it, may not know of us
	reader               // an sc-discovery host, which reads maps of services
)

// hear takes in a datagram.
func (e *ear) hear(p Packet) heard {
	b := e.b
	b.count(&b.stats.Received)
	trusted := b.codec.sealed()
	p.From = p.From.Unmap()
	if !trusted && isMap(p.Data) {
		return e.hearMap(p)
	}
	if p.TTL != 0 && p.TTL != 255 || !trusted && !e.near(p.From) {
		b.count(&b.stats.OffLink)
		return nothing
	}
	a, err := b.codec.decode(p.Data)
	switch {
	case errors.Is(err, errMalformed):
		b.count(&b.stats.Malformed)
		return nothing
	case errors.Is(err, errVersion):
		b.count(&b.stats.Version)
		return nothing
	case errors.Is(err, errForeign):
		b.count(&b.stats.Foreign)
		return nothing
	case err != nil:
		b.count(&b.stats.Unsigned)
		return nothing
	}
	if a.node == b.cfg.Node {
		e.hearOwnID(&a, p.From)
		return nothing
	}
	addr, ok := e.reach(a.addr, p, trusted)
	if !ok {
		b.count(&b.stats.NoAddress)
		return nothing
	}
	now := time.Now()
	l := e.nodes[a.node]
	if l != nil && now.Sub(l.at) < forgetAfter && (olderBoot(a.boot, l.boot) || a.boot == l.boot && a.seq <= l.seq) {
		b.count(&b.stats.Replayed)
		return nothing
	}
	known := b.cfg.Known(a.node)
	report := !known && (l == nil || now.Sub(l.reported) >= reportEvery)
	if report && !e.limit.AllowN(now, 1) {
		b.count(&b.stats.Limited)
		return nothing
	}
	if l == nil {
		l = e.remember(a.node, now)
	}
	l.boot, l.seq, l.at = a.boot, a.seq, now
	if report {
		l.reported = now
		e.stranger(Heard{Node: a.node, Boot: a.boot, Name: a.name, Addr: addr, Advertised: a.addr, From: p.From}, now)
	}
	if !known {
		return nothing
	}
	b.count(&b.stats.Pool)
	if a.hello {
		return hello
	}
	return pool
}

// hearMap takes in a map of services. sc-discovery sends it with TTL 1, so that
// only its source can say whether it is from the link.
func (e *ear) hearMap(p Packet) heard {
	b := e.b
	if !e.near(p.From) {
		b.count(&b.stats.OffLink)
		return nothing
	}
	if !e.maps.Allow() {
		b.count(&b.stats.Limited)
		return nothing
	}
	all, external, err := decodeMap(p.Data)
	if err != nil {
		b.count(&b.stats.Malformed)
		return nothing
	}
	b.count(&b.stats.Maps)
	if !external {
		return nothing
	}
	if !b.externals.hear(all, p.From) {
		b.count(&b.stats.Limited)
	}
	return reader
}

// near reports whether an address is on the link.
func (e *ear) near(ip netip.Addr) bool {
	return ip.Is6() && ip.IsLinkLocalUnicast() || e.onLink(ip.WithZone(""))
}

// hearOwnID tells our own announcement, looped back or of an earlier start,
// from that of a node that should not have our id.
func (e *ear) hearOwnID(a *announcement, from netip.Addr) {
	if !olderBoot(e.b.cfg.Boot, a.boot) {
		e.b.count(&e.b.stats.Own)
		return
	}
	e.b.count(&e.b.stats.Conflicts)
	if !e.conflict {
		e.conflict = true
		e.b.cfg.Logger.Printf("[WARN] beacon: another node announces our id; was a state directory copied? node=%s name=%q from=%v",
			a.node, a.name, from)
	}
}

// reach returns where a node that advertises addr can be joined from here: the
// very address that its datagram came from, or one on the link. A secret makes
// any address believable.
func (e *ear) reach(addr netip.AddrPort, p Packet, trusted bool) (netip.AddrPort, bool) {
	ip, source := addr.Addr(), netip.AddrPortFrom(p.From, addr.Port())
	switch {
	case ip == p.From.WithZone(""):
		return source, true
	case ip.IsLoopback():
		return addr, p.Local
	case ip.Is6() && ip.IsLinkLocalUnicast(): // means nothing without the zone
	case trusted || e.onLink(ip):
		return addr, true
	}
	return source, ip.Is4() == p.From.Is4()
}

// remember makes an entry for a node. In a table full of nodes that were heard
// of within a minute, some other one makes room: its replays go unnoticed.
func (e *ear) remember(node string, now time.Time) *last {
	if len(e.nodes) >= maxRemembered {
		for n, l := range e.nodes {
			if now.Sub(l.at) >= forgetAfter {
				delete(e.nodes, n)
			}
		}
		for n := range e.nodes {
			if len(e.nodes) < maxRemembered {
				break
			}
			delete(e.nodes, n)
		}
	}
	l := new(last)
	e.nodes[node] = l
	return l
}

// stranger reports h after the pool's random delay.
func (e *ear) stranger(h Heard, now time.Time) {
	most := min(delayPerMember*time.Duration(min(e.b.cfg.Members()-1, 1000)), maxDelay)
	if most <= 0 {
		e.tell(h)
		return
	}
	w := waiting{due: now.Add(rand.N(most)), Heard: h}
	if i := slices.IndexFunc(e.waiting, func(w waiting) bool { return w.Node == h.Node }); i >= 0 {
		w.due = e.waiting[i].due
		e.waiting[i] = w
	} else if len(e.waiting) < maxWaiting {
		e.waiting = append(e.waiting, w)
	} else {
		e.b.count(&e.b.stats.Limited)
	}
}

// tell hands h to the goroutine report.
func (e *ear) tell(h Heard) {
	select {
	case e.b.news <- h:
		e.b.count(&e.b.stats.Strangers)
	default:
		e.b.count(&e.b.stats.Limited)
	}
}

// tellDue reports the strangers whose delay is over, unless they have joined.
func (e *ear) tellDue() {
	now := time.Now()
	e.waiting = slices.DeleteFunc(e.waiting, func(w waiting) bool {
		if w.due.After(now) {
			return false
		}
		if !e.b.cfg.Known(w.Node) {
			e.tell(w.Heard)
		}
		return true
	})
}

// arm sets t to when the next stranger is due.
func (e *ear) arm(t *time.Timer) {
	if len(e.waiting) == 0 {
		return
	}
	next := slices.MinFunc(e.waiting, func(a, b waiting) int { return a.due.Compare(b.due) })
	t.Reset(time.Until(next.due))
}
