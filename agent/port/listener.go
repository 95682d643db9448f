package port

import (
	"net"
	"sync"
)

// listener hands out the connections of one sort.
type listener struct {
	addr  net.Addr      // constant
	queue chan net.Conn // sorted, not accepted; when full, push refuses
	done  chan struct{} // closed by Close

	mu     sync.Mutex // guards closed; push sends under it, which never blocks
	closed bool
}

func newListener(addr net.Addr, backlog int) *listener {
	return &listener{addr: addr, queue: make(chan net.Conn, backlog), done: make(chan struct{})}
}

// push queues c, or says why it cannot.
func (l *listener) push(c net.Conn) (Reason, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return RefusedClosed, false
	}
	select {
	case l.queue <- c:
		return 0, true
	default:
		return RefusedBacklog, false
	}
}

// Accept waits for the next connection. After Close its error is net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	default:
		select {
		case c := <-l.queue:
			return c, nil
		case <-l.done:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
}

// Close closes what nobody has accepted. It may be called twice.
func (l *listener) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	if !first {
		return nil
	}
	close(l.done)
	for {
		select {
		case c := <-l.queue:
			drop(c)
		default:
			return nil
		}
	}
}

func (l *listener) Addr() net.Addr { return l.addr }
