package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Port 0 is one of these, as is the port of a connection that dials.
const (
	firstFreePort = 32768
	lastFreePort  = 60999
)

// Host is a process on a machine, as far as the network knows it: what it has
// opened. It is a port.Network. Once killed it can open nothing more.
type Host struct {
	network *Network // constant
	machine *machine // constant

	// The rest is guarded by Network.mu.
	dead      bool
	conns     map[*Conn]bool // until both ends are closed
	listeners map[*listener]bool
	packets   map[*packetConn]bool
}

// Another returns one more process on the same machine. It has ports and life
// of its own, and shares the address and what becomes of the machine.
func (h *Host) Another() *Host {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.newHostLocked(h.machine)
}

// Listen opens TCP and UDP of one number at addr: this host's IP address or an
// unspecified one, and a port, where 0 is any that is free for both.
func (h *Host) Listen(ctx context.Context, addr string) (net.Listener, net.PacketConn, error) {
	fail := func(err error) (net.Listener, net.PacketConn, error) {
		return nil, nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	bind, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	n, m := h.network, h.machine
	n.mu.Lock()
	defer n.mu.Unlock()
	number := bind.Port()
	if number == 0 {
		number = m.freePortLocked()
	}
	switch {
	case h.dead:
		return fail(net.ErrClosed)
	case !bind.Addr().IsUnspecified() && bind.Addr().Unmap() != m.addr:
		return fail(syscall.EADDRNOTAVAIL)
	case number == 0 || m.tcp[number] != nil || m.udp[number] != nil:
		return fail(syscall.EADDRINUSE)
	}
	bind = netip.AddrPortFrom(bind.Addr().Unmap(), number)
	l := newListener(h, bind)
	p := newPacketConn(h, bind)
	m.tcp[number], m.udp[number] = l, p
	h.listeners[l], h.packets[p] = true, true
	return l, p, nil
}

// freePortLocked returns a port that is free for TCP and UDP, or 0.
func (m *machine) freePortLocked() uint16 {
	for range lastFreePort - firstFreePort + 1 {
		m.lastFree++
		if m.lastFree > lastFreePort || m.lastFree < firstFreePort {
			m.lastFree = firstFreePort
		}
		if m.tcp[m.lastFree] == nil && m.udp[m.lastFree] == nil {
			return m.lastFree
		}
	}
	return 0
}

// Dial connects to addr. Where nobody listens it gets ECONNREFUSED, where there
// is no machine EHOSTUNREACH. Through a cut, and to a machine that vanished, it
// waits until that is over or ctx ends; so it does while the backlog is full.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	n, travelled := h.network, false
	for {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		n.mu.Lock()
		target := n.machines[to.Addr()]
		switch {
		case h.dead:
			n.mu.Unlock()
			return fail(net.ErrClosed)
		case target == nil:
			n.mu.Unlock()
			return fail(os.NewSyscallError("connect", syscall.EHOSTUNREACH))
		case n.blockedLocked(h.machine, target) || n.blockedLocked(target, h.machine):
			n.waitAndUnlock(ctx)
			continue
		}
		if delay := n.delayLocked(h.machine, target); delay > 0 && !travelled {
			n.mu.Unlock()
			travelled = true // there and back; then look again what is there
			there := time.NewTimer(2 * delay)
			select {
			case <-there.C:
			case <-ctx.Done():
				there.Stop()
			}
			continue
		}
		l := target.tcp[to.Port()]
		if l == nil {
			n.mu.Unlock()
			return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
		}
		from := netip.AddrPortFrom(h.machine.addr, h.machine.freePortLocked())
		s := newStream(h, l.host, from, to)
		select {
		case l.queue <- s.ends[1]:
		default:
			l.full = true
			n.waitAndUnlock(ctx)
			continue
		}
		h.conns[s.ends[0]], l.host.conns[s.ends[1]] = true, true
		n.refreshStreamLocked(s)
		n.mu.Unlock()
		return s.ends[0], nil
	}
}

// waitAndUnlock gives Network.mu back and waits until a dial may have an answer.
func (n *Network) waitAndUnlock(ctx context.Context) {
	changed := n.changed
	n.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

// Kill ends the process as kill -9 does: its listeners and packet sockets are
// gone, its connections are reset at both ends (the other end learns of it when
// a cut between them heals). Dials to it are refused. Network.Host starts a new
// one; this one gets net.ErrClosed for all it tries.
func (h *Host) Kill() {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	h.killLocked()
	n.refreshLocked()
}

// Vanish is a power loss of the whole machine: nothing gets in or out any more,
// no connection has an error, and dials get no answer. Network.Host brings the
// machine back with a new process; what was open before is then reset.
func (h *Host) Vanish() {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.dead {
		return
	}
	h.machine.vanished = true
	n.refreshLocked()
}

// killLocked is Kill but for waking dials that wait.
func (h *Host) killLocked() {
	h.dead = true
	delete(h.machine.hosts, h)
	if h.machine.current == h {
		h.machine.current = nil
	}
	for l := range h.listeners {
		l.closeLocked()
	}
	for p := range h.packets {
		p.closeLocked()
	}
	for c := range h.conns {
		h.network.abortLocked(c)
	}
}
