package wire

import (
	"fmt"
	"net"
)

// Rights are what the node at the other end of a link may send, as a set of
// bits. Config.Check grants them.
type Rights uint8

const (
	// Member may greet, ping and hang up. Every link has it.
	Member Rights = 1 << iota
	// Submit may have this node run tasks.
	Submit
	// Work may report on attempts. Which ones is the master's to know: it takes
	// a report on an attempt only from the node that it gave the attempt to, as
	// a worker takes words on an attempt only from the node that offered it.
	Work

	// AllRights is for a pool that trusts its nodes alike.
	AllRights = Member | Submit | Work
)

// senders says, of each type of frame, what right its sender must have. A type
// that is missing here may be sent by nobody.
var senders = map[frameType]Rights{
	typeHello: Member,
	typeClose: Member,
	typePing:  Member,

	typeOffer:    Submit,
	typeGrant:    Submit,
	typeWindow:   Submit,
	typeAck:      Submit,
	typeRecall:   Submit,
	typeCancel:   Submit,
	typeReattach: Submit,

	typeAccept:    Work,
	typeReject:    Work,
	typeStarted:   Work,
	typeOutput:    Work,
	typeResult:    Work,
	typeGivenBack: Work,
	typeState:     Work,
}

// mayBySender is senders as an array, which is looked up for each frame.
var mayBySender = func() (a [256]Rights) {
	for t, r := range senders {
		a[t] = r
	}
	return a
}()

// permit says what keeps the other side from sending a frame of type t. Types
// that no version of this program knew are let through: they are skipped.
func (l *Link) permit(t frameType) error {
	if want := mayBySender[t]; want&^l.peer.rights != 0 {
		return fmt.Errorf("%w: node %q may not send frames of type %d; a worker token does not let it submit tasks", ErrForbidden, l.peer.Name, t)
	}
	return nil
}

// check asks Config.Check, whose answer is kept in peer.
func (h *Hub) check(conn net.Conn, peer *hello) error {
	peer.rights = AllRights
	if h.cfg.Check == nil {
		return nil
	}
	r, err := h.cfg.Check(conn, peer.Hello)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	peer.rights = r | Member
	return nil
}

// Recheck asks Config.Check again about every link, and closes those that it no
// longer allows or to which it gives other rights than before.
func (h *Hub) Recheck() {
	if h.cfg.Check == nil {
		return
	}
	h.mu.Lock()
	var links []*Link
	for node, l := range h.links {
		if node != h.cfg.Self.Node && l.Err() == nil {
			links = append(links, l)
		}
	}
	h.mu.Unlock()
	for _, l := range links {
		if r, err := h.cfg.Check(l.conn, l.peer.Hello); err != nil || r|Member != l.peer.rights {
			l.fail(fmt.Errorf("%w: what the node had proved is no longer good", ErrForbidden))
		}
	}
}
