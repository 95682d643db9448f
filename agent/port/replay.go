package port

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// readFirst takes the first byte of c and returns a connection that starts with
// it again.
func readFirst(c net.Conn) (byte, net.Conn, error) {
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return 0, c, err
	}
	r := &replay{Conn: c, first: b[0]}
	r.pending.Store(true)
	return b[0], r, nil
}

// replay is a connection whose first byte was read already.
type replay struct {
	net.Conn
	first   byte        // constant
	pending atomic.Bool // first is still to be read
}

func (r *replay) Read(b []byte) (int, error) {
	if len(b) > 0 && r.pending.CompareAndSwap(true, false) {
		b[0] = r.first
		return 1, nil
	}
	return r.Conn.Read(b)
}

// CloseWrite ends what the other side reads, if the connection within can.
func (r *replay) CloseWrite() error {
	if c, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}
