package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The versions of the protocol that this node speaks.
const (
	minVersion = 1
	maxVersion = 1
)

// handshakeTimeout bounds a handshake, on either side.
const handshakeTimeout = 5 * time.Second

// Hello is who a node is. Each string is at most 1,000 bytes of UTF-8 without
// control characters; all but Name are required.
type Hello struct {
	Cluster string
	Node    string // node id, constant through restarts
	Boot    string // changes at each start
	Name    string // for people
}

// maxHelloText keeps four strings and what is added later in MaxHelloBytes.
const maxHelloText = 1000

// validate reports a field that cannot be.
func (h *Hello) validate() error {
	for _, f := range [...]struct {
		name, value string
		required    bool
	}{{"cluster", h.Cluster, true}, {"node", h.Node, true}, {"boot", h.Boot, true}, {"name", h.Name, false}} {
		switch {
		case f.value == "" && f.required:
			return fmt.Errorf("%s is empty; want a word", f.name)
		case len(f.value) > maxHelloText:
			return fmt.Errorf("%s is %d bytes long, at most %d", f.name, len(f.value), maxHelloText)
		case f.value != clean(f.value):
			return fmt.Errorf("%s is %.80q; want UTF-8 without control characters", f.name, f.value)
		}
	}
	return nil
}

// hello is what travels: who a node is, the versions it speaks, and a serial
// that grows with each hello of one boot. By it a node sees whether the other
// knew of their link when it dialled, see Hub.judge.
type hello struct {
	Hello
	min, max uint8
	serial   uint64
	rights   Rights // of whoever sent it; does not travel
}

func appendHello(b []byte, h *hello) []byte {
	b, at := begin(b, typeHello)
	b = binary.BigEndian.AppendUint64(append(b, h.min, h.max), h.serial)
	for _, s := range [...]string{h.Cluster, h.Node, h.Boot, h.Name} {
		b = appendText(b, s)
	}
	return end(b, at)
}

// decodeHello ignores what follows the name: later versions may say more.
func decodeHello(b []byte) (*hello, error) {
	d := decoder{b: b}
	h := &hello{min: d.u8(), max: d.u8(), serial: d.u64()}
	h.Cluster, h.Node, h.Boot, h.Name = d.text(), d.text(), d.text(), d.text()
	if d.bad {
		return nil, fmt.Errorf("%w: hello is cut off", ErrMalformed)
	}
	if err := h.validate(); err != nil {
		return nil, fmt.Errorf("%w: hello: %w", ErrMalformed, err)
	}
	return h, nil
}

// readHello reads the other side's hello, or its refusal.
func readHello(r io.Reader) (*hello, error) {
	var head [headerBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	t, n := frameType(head[4]), binary.BigEndian.Uint32(head[:])
	if n > MaxHelloBytes || (t != typeHello && t != typeClose) {
		return nil, fmt.Errorf("%w: it answered %q", ErrNotALink, head)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if t == typeClose {
		return nil, decodeClose(body)
	}
	return decodeHello(body)
}

// readPreamble reads what comes before a dialer's hello.
func readPreamble(r io.Reader) error {
	var b [len(Preamble)]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	if string(b[:]) != Preamble {
		return fmt.Errorf("%w: it began with %q", ErrNotALink, b)
	}
	return nil
}

// meets reports why the two nodes cannot have a link.
func (h *hello) meets(self *hello) error {
	switch {
	case h.max < self.min || h.min > self.max:
		return fmt.Errorf("%w: %d to %d here, %d to %d there", ErrVersion, self.min, self.max, h.min, h.max)
	case h.Cluster != self.Cluster:
		return ErrOtherCluster
	case h.Node == self.Node:
		return ErrSelf
	}
	return nil
}

// greet is the dialer's half of the handshake: it sends self and returns the
// answer of the node with the given id.
func greet(conn net.Conn, self *hello, node string) (*hello, error) {
	if _, err := conn.Write(appendHello([]byte(Preamble), self)); err != nil {
		return nil, err
	}
	h, err := readHello(conn)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: it hung up without an answer", ErrNotALink)
	case err != nil:
		return nil, err
	}
	if err := h.meets(self); err != nil {
		return nil, err
	}
	if h.Node != node {
		return nil, fmt.Errorf("%w: node %q, named %q; want node %q", ErrWrongNode, h.Node, h.Name, node)
	}
	return h, nil
}

// clean returns s as one line of UTF-8 without control characters.
func clean(s string) string {
	bad := func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, bad) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if bad(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
