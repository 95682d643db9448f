package agent

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// Connections of HTTP clients without a node's certificate that may be open at
// once: in a secured pool anybody may come so far, to send a signed request.
const (
	maxGuests          = 128
	maxGuestsPerSource = 16
)

// guests counts them, as the ConnState of an http.Server.
type guests struct {
	member func(net.Conn) bool // constant

	mu      sync.Mutex
	conns   map[net.Conn]netip.Addr // each with its source
	sources map[netip.Addr]int      // how many of conns are from there
}

func newGuests(member func(net.Conn) bool) *guests {
	return &guests{member: member, conns: map[net.Conn]netip.Addr{}, sources: map[netip.Addr]int{}}
}

func (g *guests) connState(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		if !g.member(c) && !g.enter(c) {
			c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		g.leave(c)
	}
}

// enter counts c, or says that there is no room.
func (g *guests) enter(c net.Conn) bool {
	ap, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	source := ap.Addr().Unmap()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) >= maxGuests || g.sources[source] >= maxGuestsPerSource {
		return false
	}
	g.conns[c] = source
	g.sources[source]++
	return true
}

// leave forgets c, if it was counted.
func (g *guests) leave(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	source, ok := g.conns[c]
	if !ok {
		return
	}
	delete(g.conns, c)
	if g.sources[source]--; g.sources[source] == 0 {
		delete(g.sources, source)
	}
}
