package memnet

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// BufferBytes is how much one direction of a connection holds that was written
// and not read. Write waits when it is full.
const BufferBytes = 256 << 10

// stream is a connection, with both its ends.
type stream struct {
	mu   sync.Mutex // guards the ends
	ends [2]*Conn   // constant: who dialled, and who accepted
}

// Conn is one end of a connection. Like those of package net it may be used by
// several goroutines at once.
type Conn struct {
	stream *stream
	host   *Host          // constant
	peer   *Conn          // constant
	local  netip.AddrPort // constant
	remote netip.AddrPort // constant

	// The rest is guarded by stream.mu. First what the peer sends here.
	incoming     line[segment]
	delay        time.Duration // of incoming
	received     bytes.Buffer  // arrived, not read
	ended        bool          // the peer's end of stream arrived
	readable     sync.Cond     // received, ended, broken, closed or readDeadline has changed
	readDeadline deadline

	// What is written here, as far as this end knows.
	unread        int       // bytes sent, not read by the peer: at most BufferBytes
	writing       bool      // a Write is under way; others wait, so that they do not mix
	finished      bool      // CloseWrite was called
	peerGone      bool      // the peer's Close arrived: nobody reads any more
	writable      sync.Cond // any of the above, broken, closed or writeDeadline has changed
	writeDeadline deadline

	broken      bool // reset, and this end knows
	resetOnHeal bool // reset, and this end will know when incoming is no longer held
	closed      bool // Close was called here
}

// segment is a piece of a stream on its way.
type segment struct {
	data   []byte
	end    bool // no data follows
	closed bool // with end: nor does the sender read
}

func newStream(dialer, acceptor *Host, from, to netip.AddrPort) *stream {
	s := &stream{}
	a := &Conn{stream: s, host: dialer, local: from, remote: to}
	b := &Conn{stream: s, host: acceptor, local: to, remote: from}
	a.peer, b.peer = b, a
	s.ends = [2]*Conn{a, b}
	for _, c := range s.ends {
		c.incoming = line[segment]{mu: &s.mu, deliver: c.arrive}
		c.readable.L, c.writable.L = &s.mu, &s.mu
		c.readDeadline.cond, c.writeDeadline.cond = &c.readable, &c.writable
	}
	return s
}

// arrive takes a segment in, with stream.mu held.
func (c *Conn) arrive(s segment) {
	if c.closed || c.broken {
		return
	}
	c.received.Write(s.data)
	if s.end {
		c.ended = true
	}
	if s.closed {
		c.peerGone = true
		c.writable.Broadcast()
	}
	c.readable.Broadcast()
}

// Read reads what has arrived. After a reset that can still be read.
func (c *Conn) Read(b []byte) (int, error) {
	s := c.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.opError("read", net.ErrClosed)
		case c.readDeadline.passed():
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case c.received.Len() > 0:
			n, _ := c.received.Read(b)
			c.peer.unread -= n
			c.peer.writable.Broadcast()
			return n, nil
		case c.ended:
			return 0, io.EOF
		case c.broken:
			return 0, c.opError("read", os.NewSyscallError("read", syscall.ECONNRESET))
		}
		c.readable.Wait()
	}
}

// Write sends b, and waits while more than BufferBytes are not read.
func (c *Conn) Write(b []byte) (int, error) {
	s := c.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	for c.writing && !c.closed && !c.writeDeadline.passed() {
		c.writable.Wait()
	}
	if !c.writing {
		c.writing = true
		defer func() {
			c.writing = false
			c.writable.Broadcast()
		}()
	}
	n := 0
	for {
		switch {
		case c.closed:
			return n, c.opError("write", net.ErrClosed)
		case c.writeDeadline.passed():
			return n, c.opError("write", os.ErrDeadlineExceeded)
		case c.broken:
			return n, c.opError("write", os.NewSyscallError("write", syscall.ECONNRESET))
		case c.finished || c.peerGone:
			return n, c.opError("write", os.NewSyscallError("write", syscall.EPIPE))
		case n == len(b):
			return n, nil
		}
		if room := BufferBytes - c.unread; room > 0 {
			piece := b[n:min(len(b), n+room)]
			c.send(segment{data: piece})
			c.unread += len(piece)
			n += len(piece)
			continue
		}
		c.writable.Wait()
	}
}

// send puts s on the line to the peer, with a copy of its data if it must wait.
func (c *Conn) send(s segment) {
	to := c.peer
	if !to.incoming.direct(to.delay) {
		s.data = bytes.Clone(s.data)
	}
	to.incoming.put(s, to.delay)
}

// CloseWrite ends what the peer reads, after all that was written.
func (c *Conn) CloseWrite() error {
	s := c.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	if !c.finished && !c.broken {
		c.finished = true
		c.send(segment{end: true})
		c.writable.Broadcast()
	}
	return nil
}

// Close ends the connection here. What was written still arrives.
func (c *Conn) Close() error {
	s := c.stream
	s.mu.Lock()
	if c.closed {
		s.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	if !c.broken {
		c.send(segment{end: true, closed: true})
	}
	c.closeLocked()
	done := c.peer.closed
	s.mu.Unlock()
	if done {
		c.host.network.forget(s)
	}
	return nil
}

// closeLocked ends all use of this end.
func (c *Conn) closeLocked() {
	c.closed = true
	c.received.Reset()
	c.readDeadline.stop()
	c.writeDeadline.stop()
	c.readable.Broadcast()
	c.writable.Broadcast()
}

// breakLocked is the arrival of a reset.
func (c *Conn) breakLocked() {
	c.broken = true
	c.incoming.clear()
	c.readable.Broadcast()
	c.writable.Broadcast()
}

// LocalAddr returns the *net.TCPAddr of this end.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr returns the *net.TCPAddr of the other end.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.readDeadline, &c.writeDeadline)
}

// SetReadDeadline sets when Read returns os.ErrDeadlineExceeded; zero is never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.readDeadline)
}

// SetWriteDeadline sets when Write returns os.ErrDeadlineExceeded; zero is never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.writeDeadline)
}

func (c *Conn) setDeadlines(t time.Time, deadlines ...*deadline) error {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	for _, d := range deadlines {
		d.set(t)
	}
	return nil
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// refreshStreamLocked tells s what the network is like between its ends.
func (n *Network) refreshStreamLocked(s *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.ends {
		from, to := c.peer.host.machine, c.host.machine
		blocked := n.blockedLocked(from, to)
		c.delay = n.delayLocked(from, to)
		c.incoming.hold(blocked)
		if c.resetOnHeal && !blocked {
			c.resetOnHeal = false
			c.breakLocked()
		}
	}
}

// resetLocked breaks both ends of s.
func (n *Network) resetLocked(s *stream) {
	s.mu.Lock()
	for _, c := range s.ends {
		c.breakLocked()
	}
	s.mu.Unlock()
	n.forgetLocked(s)
}

// abortLocked is the end of the process that has c: this end is closed, and the
// other gets a reset as soon as one can get through.
func (n *Network) abortLocked(c *Conn) {
	s := c.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.closed {
		return // the system sends the rest
	}
	c.breakLocked()
	c.closeLocked()
	if c.peer.incoming.held {
		c.peer.incoming.clear()
		c.peer.resetOnHeal = true
	} else {
		c.peer.breakLocked()
	}
	if c.peer.closed {
		n.forgetLocked(s)
	}
}

// forget ends the network's interest in s, both of whose ends are closed.
func (n *Network) forget(s *stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forgetLocked(s)
}

func (n *Network) forgetLocked(s *stream) {
	for _, c := range s.ends {
		delete(c.host.conns, c)
	}
}
