package memnet

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// MaxPacketBytes is the largest packet, as over UDP on IPv4.
	MaxPacketBytes = 65507

	// QueuePackets is how many packets a socket holds, those on their way to it
	// included. Further ones are dropped and counted.
	QueuePackets = 1024
)

// packetConn is a UDP socket.
type packetConn struct {
	host  *Host          // constant
	bound netip.AddrPort // constant

	mu       sync.Mutex // guards the fields below
	incoming line[packet]
	queue    []packet  // arrived, not read
	readable sync.Cond // queue, closed or deadline has changed
	deadline deadline  // of ReadFrom
	dropped  uint64
	closed   bool
}

type packet struct {
	data []byte
	from netip.AddrPort
}

func newPacketConn(h *Host, bound netip.AddrPort) *packetConn {
	p := &packetConn{host: h, bound: bound}
	p.incoming = line[packet]{mu: &p.mu, deliver: p.arrive}
	p.readable.L = &p.mu
	p.deadline.cond = &p.readable
	return p
}

// WriteTo sends b, and never waits. That it was sent says nothing of arrival.
func (p *packetConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	fail := func(err error) (int, error) {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: p.LocalAddr(), Addr: addr, Err: err}
	}
	to, err := addrPort(addr)
	if err != nil {
		return fail(err)
	}
	if len(b) > MaxPacketBytes {
		return fail(os.NewSyscallError("sendto", syscall.EMSGSIZE))
	}
	n, from := p.host.network, p.host.machine
	n.mu.Lock()
	if from.udp[p.bound.Port()] != p {
		n.mu.Unlock()
		return fail(net.ErrClosed)
	}
	var target *packetConn
	var delay time.Duration
	if m := n.machines[to.Addr()]; m != nil && !n.blockedLocked(from, m) && !n.lostLocked(from, m) {
		target, delay = m.udp[to.Port()], n.delayLocked(from, m)
	}
	n.mu.Unlock()
	if target != nil {
		target.take(packet{bytes.Clone(b), netip.AddrPortFrom(from.addr, p.bound.Port())}, delay)
	}
	return len(b), nil
}

// lostLocked decides about one packet.
func (n *Network) lostLocked(from, to *machine) bool {
	return from != to && n.loss > 0 && n.random.Float64() < n.loss
}

// take puts what was sent here on its way.
func (p *packetConn) take(sent packet, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
	case len(p.queue)+len(p.incoming.items) >= QueuePackets:
		p.dropped++
	default:
		p.incoming.put(sent, delay)
	}
}

func (p *packetConn) arrive(sent packet) {
	if !p.closed {
		p.queue = append(p.queue, sent)
		p.readable.Signal()
	}
}

// ReadFrom waits for a packet. What does not fit into b is lost.
func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	fail := func(err error) (int, net.Addr, error) {
		return 0, nil, &net.OpError{Op: "read", Net: "udp", Source: p.LocalAddr(), Err: err}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return fail(net.ErrClosed)
		case p.deadline.passed():
			return fail(os.ErrDeadlineExceeded)
		case len(p.queue) > 0:
			first := p.queue[0]
			p.queue[0] = packet{} // for the garbage collector
			p.queue = p.queue[1:]
			return copy(b, first.data), net.UDPAddrFromAddrPort(first.from), nil
		}
		p.readable.Wait()
	}
}

// Dropped returns how many packets were lost because the queue was full.
func (p *packetConn) Dropped() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dropped
}

// Close frees the port.
func (p *packetConn) Close() error {
	n := p.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if !p.closeLocked() {
		return &net.OpError{Op: "close", Net: "udp", Source: p.LocalAddr(), Err: net.ErrClosed}
	}
	return nil
}

// closeLocked needs Network.mu. It is false if p was closed before.
func (p *packetConn) closeLocked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.closed = true
	p.queue = nil
	p.incoming.clear()
	p.deadline.stop()
	p.readable.Broadcast()
	delete(p.host.machine.udp, p.bound.Port())
	delete(p.host.packets, p)
	return true
}

func (p *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.bound) }

func (p *packetConn) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// SetReadDeadline sets when ReadFrom returns os.ErrDeadlineExceeded; zero is never.
func (p *packetConn) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return &net.OpError{Op: "set", Net: "udp", Source: p.LocalAddr(), Err: net.ErrClosed}
	}
	p.deadline.set(t)
	return nil
}

// SetWriteDeadline does nothing: WriteTo never waits.
func (p *packetConn) SetWriteDeadline(time.Time) error { return nil }

// addrPort returns what addr says, whatever its type.
func addrPort(addr net.Addr) (netip.AddrPort, error) {
	var to netip.AddrPort
	if u, ok := addr.(*net.UDPAddr); ok {
		to = u.AddrPort()
	} else {
		var err error
		if to, err = netip.ParseAddrPort(addr.String()); err != nil {
			return to, fmt.Errorf("address %q: want ip:port", addr)
		}
	}
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), nil
}
