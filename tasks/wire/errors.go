package wire

import (
	"errors"
	"fmt"
)

// Why there is no link, or no longer one.
var (
	// ErrClosed: this side closed the link or the hub.
	ErrClosed = errors.New("link closed")
	// ErrPeerClosed: the other side closed the link, and said so.
	ErrPeerClosed = errors.New("link closed by the other node")
	// ErrSilent: nothing was heard for Config.Lease.
	ErrSilent = errors.New("nothing heard from the other node")
	// ErrSlowPeer: the other side does not read what is sent to it.
	ErrSlowPeer = errors.New("the other node does not read")
	// ErrReplaced: the other side opened a new link in place of this one.
	ErrReplaced = errors.New("replaced by a newer link")
	// ErrMalformed: the other side sent what is no frame, or a frame that is
	// not what its type says.
	ErrMalformed = errors.New("malformed frame")
	// ErrFrameTooLarge: more than MaxFrameBytes. From a Send method it says
	// that nothing was sent; the link stays.
	ErrFrameTooLarge = errors.New("frame too large")

	// ErrNotALink: what answered does not speak this protocol.
	ErrNotALink = errors.New("not a scagent link")
	// ErrWrongNode: another node answered than the one dialled.
	ErrWrongNode = errors.New("another node answered")
	// ErrOtherCluster: the two nodes are of different clusters.
	ErrOtherCluster = errors.New("the node belongs to another cluster")
	// ErrVersion: the two nodes have no version of the protocol in common.
	ErrVersion = errors.New("no common protocol version; upgrade the older scagent")
	// ErrCollision: both nodes dialled at the same time, this one gave way, and
	// the other's link did not come.
	ErrCollision = errors.New("both nodes dialled at once")
	// ErrTooManyLinks: one of the two has Config.MaxLinks links.
	ErrTooManyLinks = errors.New("too many links")
	// ErrForbidden: Config.Check did not allow the other node.
	ErrForbidden = errors.New("not allowed")
	// ErrSelf: another node has this node's id; its state directory was copied.
	// (A link to itself needs no connection, see Hub.Connect.)
	ErrSelf = errors.New("the node has this node's own id")
)

// closeCode is the number under which one of the errors above travels:
// appended, never reused.
type closeCode uint8

var closeCodes = map[closeCode]error{
	1:  ErrPeerClosed,
	2:  ErrCollision,
	3:  ErrOtherCluster,
	4:  ErrVersion,
	5:  ErrTooManyLinks,
	6:  ErrForbidden,
	7:  ErrSelf,
	8:  ErrReplaced,
	9:  ErrMalformed,
	10: ErrFrameTooLarge,
}

// codeOf returns the number of the error that err is; 1 for all that have none.
func codeOf(err error) closeCode {
	for c, e := range closeCodes {
		if errors.Is(err, e) {
			return c
		}
	}
	return 1
}

// PeerError is what the other node said when it refused or closed the link.
type PeerError struct {
	Code uint8  // its number on the wire
	Text string // its words, one line without control characters
}

// Error gives the other node's words.
func (e *PeerError) Error() string {
	text := e.Text
	if text == "" {
		text = fmt.Sprint(e.Unwrap())
	}
	return "the other node closed the link: " + text
}

// Unwrap returns the error of the code: ErrOtherCluster, ErrVersion, ...;
// ErrPeerClosed for a code that this version does not know.
func (e *PeerError) Unwrap() error {
	if err := closeCodes[closeCode(e.Code)]; err != nil {
		return err
	}
	return ErrPeerClosed
}

func appendClose(b []byte, err error) []byte {
	b, at := begin(b, typeClose)
	return end(append(append(b, byte(codeOf(err))), cut(err.Error())...), at)
}

func decodeClose(b []byte) error {
	d := decoder{b: b}
	e := &PeerError{Code: d.u8()}
	e.Text = clean(cut(d.rest()))
	if d.bad {
		return fmt.Errorf("%w: close", ErrMalformed)
	}
	return e
}
