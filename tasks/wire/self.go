package wire

import "net"

// A node that is master and worker has a link to itself too, so that nothing
// above need know the difference. Its two ends are two Links of one hub: the near
// one is the one that Connect returns and Events tells of; on the far one, which
// is where this node's worker is, only Events.Down is called.

// dialSelf makes both ends and runs them.
func (h *Hub) dialSelf(d *dialing) {
	a, b := net.Pipe()
	h.mu.Lock()
	if h.closed {
		h.finishLocked(d, h.cfg.Self.Node, nil, ErrClosed)
		h.mu.Unlock()
		return
	}
	near, far := newLink(h, a, h.helloLocked(), true), newLink(h, b, h.helloLocked(), false)
	near.peer.rights, far.peer.rights = AllRights, AllRights
	far.far = true
	near.prev, h.links[h.cfg.Self.Node] = h.links[h.cfg.Self.Node], near
	h.far = far
	h.finishLocked(d, h.cfg.Self.Node, near, nil)
	h.wg.Go(func() { h.start(far) })
	h.mu.Unlock()
	h.start(near)
}
