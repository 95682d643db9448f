package port

import (
	"net"
	"net/netip"
	"sync"
)

// Crowd bounds the connections of those who have not proved anything: from one
// address, and in all. When there are too many in all, a newcomer gets the place of
// another: of the address that has the most of them, the one that is there for the
// longest. So whoever opens many keeps nobody else out. Its methods may be called
// from any goroutine.
type Crowd struct {
	max       int // constant
	perSource int // constant

	mu      sync.Mutex // guards the fields below; not held over I/O
	closed  bool
	entered uint64 // ever
	places  map[net.Conn]place
	held    int                // places that were not given to others
	sources map[netip.Addr]int // how many of them are of there
}

// place is that of one connection.
type place struct {
	source   netip.Addr
	number   uint64 // smaller: entered earlier
	expelled bool   // it was given to another, and does not count
}

// NewCrowd returns a Crowd of so many connections.
func NewCrowd(limit, perSource int) *Crowd {
	return &Crowd{max: limit, perSource: perSource, places: make(map[net.Conn]place), sources: make(map[netip.Addr]int)}
}

// Enter gives c a place, or says why there is none for it. It may close another
// connection for that, of which Leave then says so.
func (s *Crowd) Enter(c net.Conn) (Reason, bool) {
	source := addrPortOf(c.RemoteAddr()).Addr().Unmap()
	s.mu.Lock()
	if s.closed || s.sources[source] >= s.perSource {
		defer s.mu.Unlock()
		if s.closed {
			return RefusedClosed, false
		}
		return RefusedSource, false
	}
	var expelled net.Conn
	if s.held >= s.max {
		expelled = s.expelLocked()
	}
	s.entered++
	s.places[c] = place{source: source, number: s.entered}
	s.sources[source]++
	s.held++
	s.mu.Unlock()
	if expelled != nil {
		drop(expelled)
	}
	return 0, true
}

// expelLocked takes the place of one connection away and returns it.
func (s *Crowd) expelLocked() net.Conn {
	var conn net.Conn
	var worst place
	for c, p := range s.places {
		if p.expelled {
			continue
		}
		n, most := s.sources[p.source], s.sources[worst.source]
		if conn == nil || n > most || n == most && p.number < worst.number {
			conn, worst = c, p
		}
	}
	s.freeLocked(worst.source)
	worst.expelled = true
	s.places[conn] = worst
	return conn
}

// Leave ends c's stay, and reports whether its place was given to another before.
func (s *Crowd) Leave(c net.Conn) (expelled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.places[c]
	if ok && !p.expelled {
		s.freeLocked(p.source)
	}
	delete(s.places, c)
	return p.expelled
}

func (s *Crowd) freeLocked(source netip.Addr) {
	s.held--
	s.sources[source]--
	if s.sources[source] == 0 {
		delete(s.sources, source)
	}
}

// Len returns how many connections have a place.
func (s *Crowd) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Close closes all connections, which then leave, and lets no more in.
func (s *Crowd) Close() {
	s.mu.Lock()
	s.closed = true
	conns := make([]net.Conn, 0, len(s.places))
	for c := range s.places {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		drop(c)
	}
}
