package port

import (
	"net"
	"net/netip"
	"sync"
)

// strangers are the connections that have not been sorted yet.
type strangers struct {
	max       int // constant
	perSource int // constant

	mu      sync.Mutex // guards the fields below; not held over I/O
	closed  bool
	conns   map[net.Conn]netip.Addr // each with its source
	sources map[netip.Addr]int      // how many of conns are from there
}

func newStrangers(limit, perSource int) strangers {
	return strangers{
		max:       limit,
		perSource: perSource,
		conns:     make(map[net.Conn]netip.Addr),
		sources:   make(map[netip.Addr]int),
	}
}

// enter adds c, or says why there is no room for it.
func (s *strangers) enter(c net.Conn) (Reason, bool) {
	source := addrPortOf(c.RemoteAddr()).Addr().Unmap()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return RefusedClosed, false
	case len(s.conns) >= s.max:
		return RefusedStrangers, false
	case s.sources[source] >= s.perSource:
		return RefusedSource, false
	}
	s.conns[c] = source
	s.sources[source]++
	return 0, true
}

// leave removes c.
func (s *strangers) leave(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	source := s.conns[c]
	delete(s.conns, c)
	s.sources[source]--
	if s.sources[source] == 0 {
		delete(s.sources, source)
	}
}

func (s *strangers) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// close closes all connections, which then leave, and lets no more in.
func (s *strangers) close() {
	s.mu.Lock()
	s.closed = true
	conns := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		drop(c)
	}
}
