package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// dialTimeout bounds one dial, whatever its callers' contexts say.
const dialTimeout = 15 * time.Second

// dialing is a dial under way, shared by all who want the link.
type dialing struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when link or err is set

	// Guarded by Hub.mu.
	callers int  // who wait; when the last gives up, the dial is cancelled
	greeted bool // a hello was sent, or is about to be
	over    bool // done is closed
	link    *Link
	err     error
}

// Connect returns the link to the node: the one there is, or a new one. There
// is one dial at a time for each node, whose outcome all callers share. ctx
// bounds the wait. Errors keep what Dial returned (syscall.ECONNREFUSED, ...),
// or wrap one of this package's. The node may be this node itself. It blocks and
// must not be called from a handler.
func (h *Hub) Connect(ctx context.Context, node string) (*Link, error) {
	h.mu.Lock()
	if l := h.links[node]; l != nil && l.Err() == nil {
		h.mu.Unlock()
		return l.wait(ctx)
	}
	d, err := h.dialLocked(node)
	if err != nil {
		h.mu.Unlock()
		return nil, fmt.Errorf("connect to node %q: %w", node, err)
	}
	d.callers++
	h.mu.Unlock()

	select {
	case <-d.done:
	case <-ctx.Done():
		h.mu.Lock()
		if d.callers--; d.callers == 0 {
			d.cancel()
			if h.dials[node] == d {
				delete(h.dials, node) // it may take a moment to end; the next caller does not wait for it
			}
		}
		h.mu.Unlock()
		return nil, fmt.Errorf("connect to node %q: %w", node, context.Cause(ctx))
	}
	if d.err != nil {
		return nil, fmt.Errorf("connect to node %q: %w", node, d.err)
	}
	return d.link.wait(ctx)
}

// wait returns the link when Events.Up has returned.
func (l *Link) wait(ctx context.Context) (*Link, error) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to node %q: %w", l.peer.Node, context.Cause(ctx))
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	return l, nil
}

// usable reports whether the link is up and Events.Up has returned.
func (l *Link) usable() bool {
	select {
	case <-l.ready:
		return l.Err() == nil
	default:
		return false
	}
}

// dialLocked returns the dial to the node, which it starts if there is none.
func (h *Hub) dialLocked(node string) (*dialing, error) {
	switch {
	case h.closed:
		return nil, ErrClosed
	case !h.started:
		return nil, errors.New("the hub is not started")
	case h.dials[node] != nil:
		return h.dials[node], nil
	case h.cfg.Dial == nil && node != h.cfg.Self.Node:
		return nil, errors.New("this node cannot dial, and the other has not")
	case h.fullLocked(node):
		return nil, fmt.Errorf("%w: %d here", ErrTooManyLinks, h.cfg.MaxLinks)
	}
	ctx, cancel := context.WithTimeout(h.ctx, dialTimeout)
	d := &dialing{cancel: cancel, done: make(chan struct{})}
	h.dials[node] = d
	h.wg.Go(func() {
		defer cancel()
		if node == h.cfg.Self.Node {
			h.dialSelf(d)
			return
		}
		h.dial(ctx, d, node)
	})
	return d, nil
}

// finishLocked gives the callers of a dial its outcome, once.
func (h *Hub) finishLocked(d *dialing, node string, l *Link, err error) {
	if d.over {
		return
	}
	d.over, d.link, d.err = true, l, err
	close(d.done)
	if h.dials[node] == d {
		delete(h.dials, node)
	}
}

// dial opens a connection to the node, greets, and runs the link.
func (h *Hub) dial(ctx context.Context, d *dialing, node string) {
	l, err := h.open(ctx, d, node)
	if errors.Is(err, ErrCollision) {
		// The other's own dial is past its hello: its link comes, or never.
		select {
		case <-d.done:
		case <-ctx.Done():
		case <-time.After(handshakeTimeout):
		}
	}
	h.mu.Lock()
	h.finishLocked(d, node, l, err)
	h.mu.Unlock()
	if l != nil {
		h.dialed.Add(1)
		h.start(l)
	}
}

func (h *Hub) open(ctx context.Context, d *dialing, node string) (*Link, error) {
	conn, err := h.cfg.Dial(ctx, node)
	if err != nil {
		return nil, cause(ctx, err)
	}
	h.mu.Lock()
	if d.over || ctx.Err() != nil {
		h.mu.Unlock()
		conn.Close()
		return nil, cause(ctx, ErrCollision)
	}
	d.greeted = true
	self := h.helloLocked()
	h.mu.Unlock()

	conn.SetDeadline(time.Now().Add(handshakeTimeout))
	stop := context.AfterFunc(ctx, func() { hangUp(conn) })
	peer, err := greet(conn, self, node)
	if err == nil {
		err = h.check(conn, peer)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	h.mu.Lock()
	d.greeted = false
	var l *Link
	if err == nil {
		l, err = h.addLocked(conn, peer, true)
	}
	h.mu.Unlock()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("at %s: %w", conn.RemoteAddr(), cause(ctx, err))
	}
	return l, nil
}

// cause adds why the context ended, when that is why err came.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(err, c) {
		return fmt.Errorf("%w: %w", c, err)
	}
	return err
}

// listen accepts until the listener is closed.
func (h *Hub) listen() {
	for wait := time.Duration(0); ; {
		conn, err := h.cfg.Listener.Accept()
		switch {
		case err == nil:
			wait = 0
			h.receive(conn)
			continue
		case errors.Is(err, net.ErrClosed) || h.ctx.Err() != nil:
			return
		}
		// Out of file descriptors, say.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		h.logf("WARN", "accept: error=%q again_in=%v", err, wait)
		select {
		case <-time.After(wait):
		case <-h.ctx.Done():
			return
		}
	}
}

// receive starts the handshake of a connection that another node opened.
func (h *Hub) receive(conn net.Conn) {
	h.mu.Lock()
	ok := !h.closed && len(h.handshakes) < maxHandshakes
	if ok {
		h.handshakes[conn] = struct{}{}
		h.wg.Go(func() { h.answer(conn) })
	}
	h.mu.Unlock()
	if !ok {
		h.refused.Add(1)
		conn.Close()
	}
}

// answer is the acceptor's half of the handshake; then it runs the link.
func (h *Hub) answer(conn net.Conn) {
	conn.SetDeadline(time.Now().Add(handshakeTimeout))
	peer, err := h.readDialer(conn)
	h.mu.Lock()
	delete(h.handshakes, conn)
	var l *Link
	var self *hello
	if err == nil {
		if err = h.judgeLocked(peer); err == nil {
			self = h.helloLocked()
			l, err = h.addLocked(conn, peer, false)
		}
	}
	h.mu.Unlock()
	if err != nil {
		h.refuse(conn, err)
		return
	}
	h.accepted.Add(1)
	if _, err := conn.Write(appendHello(nil, self)); err != nil {
		l.fail(fmt.Errorf("link to node %q: %w", peer.Name, err))
	}
	h.start(l)
}

func (h *Hub) readDialer(conn net.Conn) (*hello, error) {
	if err := readPreamble(conn); err != nil {
		return nil, err
	}
	peer, err := readHello(conn)
	if err != nil {
		return nil, err
	}
	if err := peer.meets(&hello{Hello: h.cfg.Self, min: minVersion, max: maxVersion}); err != nil {
		return nil, err
	}
	return peer, h.check(conn, peer)
}

// refuse tells the dialer why not, if it spoke the protocol, and hangs up.
func (h *Hub) refuse(conn net.Conn, err error) {
	h.refused.Add(1)
	if !errors.Is(err, ErrNotALink) {
		conn.Write(appendClose(nil, err)) // best effort: it is hung up on anyway
	}
	conn.Close()
	if !errors.Is(err, ErrCollision) {
		h.logf("DEBUG", "link refused: addr=%s error=%q", conn.RemoteAddr(), err)
	}
}

// helloLocked returns the next hello of this node.
func (h *Hub) helloLocked() *hello {
	h.serial++
	return &hello{Hello: h.cfg.Self, min: minVersion, max: maxVersion, serial: h.serial}
}

// judgeLocked decides when both nodes may have dialled. A dial of ours whose
// hello is on its way stands if our id is the smaller one: the other side,
// whose id is larger, does not refuse it. A dial that has not come to its hello
// gives way, in addLocked, since it may never get through.
func (h *Hub) judgeLocked(peer *hello) error {
	d := h.dials[peer.Node]
	if d != nil && d.greeted && h.cfg.Self.Node < peer.Node {
		return ErrCollision
	}
	return nil
}

// addLocked makes the connection the link to the peer. It replaces an older
// link, unless that is one that the peer agreed to after it sent this hello:
// then the hello was on its way when the link came up, and counts as a
// collision.
func (h *Hub) addLocked(conn net.Conn, peer *hello, dialed bool) (*Link, error) {
	old := h.links[peer.Node]
	switch {
	case h.closed:
		return nil, ErrClosed
	case old != nil && old.Err() == nil && old.peer.Boot == peer.Boot && old.peer.serial > peer.serial:
		return nil, ErrCollision
	case h.fullLocked(peer.Node):
		return nil, fmt.Errorf("%w: %d at %q", ErrTooManyLinks, h.cfg.MaxLinks, h.cfg.Self.Name)
	}
	l := newLink(h, conn, peer, dialed)
	h.links[peer.Node] = l
	l.prev = old
	if d := h.dials[peer.Node]; d != nil && !dialed {
		if !d.greeted {
			d.cancel()
		}
		h.finishLocked(d, peer.Node, l, nil)
	}
	return l, nil
}

// fullLocked reports whether one more node would be too many.
func (h *Hub) fullLocked(node string) bool {
	return h.links[node] == nil && len(h.links) >= h.cfg.MaxLinks
}

// start runs a link whose handshake is done. The caller is a goroutine of wg.
func (h *Hub) start(l *Link) {
	l.mu.Lock()
	if l.err == nil {
		l.conn.SetDeadline(time.Time{})
	}
	l.mu.Unlock()
	tune(l.conn)
	l.run()
}
