package wire

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/scagent/scagent/tasks"
)

// Link is the connection between two nodes. Its methods may be called from any
// goroutine, and from handlers.
//
// All Send methods but SendOutput return at once: they queue the frame, in
// memory, for the link's writer. An error means that the frame was not queued;
// nil does not mean that it arrived.
type Link struct {
	hub    *Hub
	conn   net.Conn
	raw    syscall.RawConn // of conn, nil if it is no socket
	peer   hello
	dialed bool          // by this side
	far    bool          // the far end of a link to this node itself
	prev   *Link         // the link that this one replaced, whose Down comes first; nil after Up
	ready  chan struct{} // closed after Events.Up
	down   chan struct{} // closed by fail
	ended  chan struct{} // closed after Events.Down

	heard    atomic.Int64 // hub clock of the last read
	rtt      atomic.Int64 // nanoseconds, smoothed; 0: none yet
	framesIn atomic.Uint64
	bytesIn  atomic.Uint64
	skipped  atomic.Uint64 // frames of unknown types

	// Owned by the hub's keeper.
	seen     int64         // heard, at the last tick
	silent   time.Duration // how long heard has not changed
	lastPing time.Duration // hub clock

	// Owned by the reader.
	offer    Offer
	outcome  tasks.Outcome
	keys     []Key          // of the list that is being received
	states   []AttemptState // likewise
	held     []Held         // likewise
	listType frameType      // of the list that is being received; 0: none

	// mu guards the fields below. It is held while a frame is copied, never
	// over I/O or a callback. work wakes the writer, room those who wait in
	// SendOutput.
	mu      sync.Mutex
	work    sync.Cond
	room    sync.Cond
	err     error     // why the link is down; nil while it is up
	closing error     // Close was called: the writer says so and ends
	closeBy time.Time // when the goodbye gives up

	control []byte           // frames that wait for the writer
	acks    []Key            // what is to be acknowledged after them
	ackDue  bool             // and not only with what else is sent
	weight  int              // of the results of acks
	waiting bool             // the writer waits for work
	inline  bool             // a sender writes in its place
	wrote   time.Duration    // hub clock when the last batch was written
	last    int              // length of that batch
	bulk    []byte           // frames of output, and results behind them; the first bulkAt bytes are gone
	bulkAt  int              //
	chatty  map[Key]struct{} // attempts that may have output in bulk
	spare   []byte           // the writer's other buffer, while it is not writing
	writing int              // length of the batch that is being written
	peak    int              // longest batch since the last ping
	pingDue bool
	echo    uint64        // stamp to echo in the next ping, 0: none
	echoAt  time.Duration // hub clock when it came
	echoed  bool          // the other side has echoed a stamp of ours

	framesOut, bytesOut, writes uint64
	inlined                     uint64 // of writes, those that senders made
}

// Stats counts what went over a link since it came up.
type Stats struct {
	FramesIn, BytesIn   uint64
	FramesOut, BytesOut uint64 // BytesOut: written to the connection
	Writes              uint64 // system calls for that
	Skipped             uint64 // frames of types that this version does not know
	PendingControl      int    // bytes
	PendingBulk         int    // bytes
}

func newLink(h *Hub, conn net.Conn, peer *hello, dialed bool) *Link {
	l := &Link{
		hub: h, conn: conn, peer: *peer, dialed: dialed,
		ready: make(chan struct{}), down: make(chan struct{}), ended: make(chan struct{}),
		chatty: make(map[Key]struct{}),
		// The first tick is to send a ping at once.
		pingDue: true,
	}
	l.work.L, l.room.L = &l.mu, &l.mu
	if c, ok := conn.(*net.TCPConn); ok {
		l.raw, _ = c.SyscallConn() // it fails when it is closed already
	}
	now := h.now()
	l.heard.Store(int64(now))
	l.seen, l.lastPing = int64(now), now
	select {
	case h.linked <- struct{}{}:
	default:
	}
	return l
}

// Peer returns who is at the other end.
func (l *Link) Peer() Hello { return l.peer.Hello }

// Dialed reports whether this side opened the connection.
func (l *Link) Dialed() bool { return l.dialed }

// RemoteAddr returns the address of the other end.
func (l *Link) RemoteAddr() net.Addr { return l.conn.RemoteAddr() }

// Conn returns the connection, for asking it who is at the other end (its TLS
// state, say). It must not be read, written or closed.
func (l *Link) Conn() net.Conn { return l.conn }

// Down returns a channel that is closed when nothing can be sent any more. The
// last frames received may still be on their way to the handlers then, see
// Events.Down.
func (l *Link) Down() <-chan struct{} { return l.down }

// Err returns why the link is down, nil while it is up.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// RTT returns the smoothed round-trip time, 0 while it is not known.
func (l *Link) RTT() time.Duration { return time.Duration(l.rtt.Load()) }

// LastHeard returns when something was last received.
func (l *Link) LastHeard() time.Time { return l.hub.epoch.Add(time.Duration(l.heard.Load())) }

// Stats returns the counters as they stand.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{
		FramesIn: l.framesIn.Load(), BytesIn: l.bytesIn.Load(), Skipped: l.skipped.Load(),
		FramesOut: l.framesOut, BytesOut: l.bytesOut, Writes: l.writes,
		PendingControl: len(l.control), PendingBulk: len(l.bulk) - l.bulkAt,
	}
}

// Close ends the link and returns at once. What was sent before is still
// written, for at most a second, and with it err's words, which the other side
// sees as a *PeerError; nil means ErrClosed. Sending fails from now on.
func (l *Link) Close(err error) {
	if err == nil {
		err = ErrClosed
	}
	l.mu.Lock()
	if l.err == nil {
		l.err, l.closing, l.closeBy = err, err, time.Now().Add(goodbyeTimeout)
		l.conn.SetDeadline(l.closeBy)
		close(l.down)
	}
	l.mu.Unlock()
	l.work.Signal()
	l.room.Broadcast()
}

// fail ends the link now: nothing more is written. The first error stays.
func (l *Link) fail(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
		close(l.down)
	}
	l.closing = nil
	l.control, l.bulk, l.bulkAt = nil, nil, 0
	l.mu.Unlock()
	hangUp(l.conn)
	l.work.Signal()
	l.room.Broadcast()
}

// hangUp closes a connection without a word: TLS would wait to send one.
func hangUp(conn net.Conn) {
	innermost(conn).Close()
	conn.Close()
}

// innermost returns the connection that carries conn: below TLS, the socket.
func innermost(conn net.Conn) net.Conn {
	for {
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = outer.NetConn()
	}
}

// run reads until the link is down, with the writer beside it. It is the
// link's reader, and the one goroutine that calls the handlers.
func (l *Link) run() {
	if l.prev != nil {
		l.prev.fail(fmt.Errorf("link to node %q: %w", l.peer.Name, ErrReplaced))
		<-l.prev.ended
		l.prev = nil
	}
	l.hub.up(l)
	close(l.ready)
	written := make(chan struct{})
	go func() {
		defer close(written)
		l.write()
	}()
	err := l.read()
	if l.hub.blame(err) {
		l.Close(err) // so that the other side's log has it too
		<-written
	}
	l.fail(fmt.Errorf("link to node %q: %w", l.peer.Name, err))
	<-written
	l.hub.downed(l, l.Err())
	close(l.ended)
}

// blame counts why a link that carried something wrong is given up, and reports
// whether that is why.
func (h *Hub) blame(err error) bool {
	var said *PeerError
	switch {
	case errors.As(err, &said): // the other side gave up
		return false
	case errors.Is(err, ErrForbidden):
		h.forbidden.Add(1)
	case errors.Is(err, ErrMalformed), errors.Is(err, ErrFrameTooLarge):
		h.malformed.Add(1)
	default:
		return false
	}
	return true
}
