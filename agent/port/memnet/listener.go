package memnet

import (
	"net"
	"net/netip"
)

// backlog is how many connections wait to be accepted; further dials wait.
const backlog = 128

// listener accepts connections of one port.
type listener struct {
	host  *Host          // constant
	bound netip.AddrPort // constant
	queue chan *Conn     // not accepted yet; sent to with Network.mu held
	done  chan struct{}  // closed with Network.mu held
	full  bool           // a dial waits for room; guarded by Network.mu
}

func newListener(h *Host, bound netip.AddrPort) *listener {
	return &listener{host: h, bound: bound, queue: make(chan *Conn, backlog), done: make(chan struct{})}
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	default:
		select {
		case c := <-l.queue:
			l.madeRoom()
			return c, nil
		case <-l.done:
		}
	}
	return nil, l.closedError("accept")
}

// madeRoom wakes the dials that found the queue full.
func (l *listener) madeRoom() {
	n := l.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.full {
		l.full = false
		n.wakeLocked()
	}
}

// Close frees the port and resets what was not accepted.
func (l *listener) Close() error {
	n := l.host.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if !l.host.listeners[l] {
		return l.closedError("close")
	}
	l.closeLocked()
	n.wakeLocked()
	return nil
}

// closeLocked closes a listener that is open.
func (l *listener) closeLocked() {
	close(l.done)
	delete(l.host.machine.tcp, l.bound.Port())
	delete(l.host.listeners, l)
	for {
		select {
		case c := <-l.queue:
			l.host.network.abortLocked(c)
		default:
			return
		}
	}
}

func (l *listener) closedError(op string) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
}

// Addr returns the *net.TCPAddr that the listener is bound to.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.bound) }
