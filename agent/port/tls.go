package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"
)

// ALPN returns the name of the protocol of the sort within TLS (RFC 7301); none
// for SortTLS.
func (s Sort) ALPN() string {
	return [sorts]string{"sc-gossip/1", "sc-link/1", "http/1.1", ""}[s]
}

// sortOfALPN is the reverse; no protocol at all is HTTP.
func sortOfALPN(protocol string) Sort {
	switch protocol {
	case SortGossip.ALPN():
		return SortGossip
	case SortLink.ALPN():
		return SortLink
	}
	return SortHTTP
}

// DialAs connects to addr, "ip:port", for what sort says. With client it shakes
// hands over TLS, within five seconds, for the sort's protocol; without, the
// caller says with its first byte what the connection is.
func (p *Port) DialAs(ctx context.Context, sort Sort, addr string, client *tls.Config) (net.Conn, error) {
	c, err := p.Dial(ctx, addr)
	if err != nil || client == nil {
		return c, err
	}
	if want := []string{sort.ALPN()}; !slices.Equal(client.NextProtos, want) {
		client = client.Clone()
		client.NextProtos = want
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.FirstByteTimeout)
	defer cancel()
	s := tls.Client(c, client)
	if err := s.HandshakeContext(ctx); err != nil {
		drop(c)
		return nil, fmt.Errorf("handshake with %s: %w; do both nodes have the same secret?", addr, err)
	}
	return s, nil
}

// shake is the server's half of a handshake, within the time that a stranger has.
// The connection counts as one until then.
func (p *Port) shake(c net.Conn) (net.Conn, Sort, error) {
	ctx, cancel := context.WithTimeout(context.Background(), p.config.FirstByteTimeout)
	defer cancel()
	s := tls.Server(c, p.config.TLS)
	if err := s.HandshakeContext(ctx); err != nil {
		return c, SortTLS, err
	}
	return s, sortOfALPN(s.ConnectionState().NegotiatedProtocol), nil
}

// plainHTTP is the answer to HTTP without TLS where TLS is demanded.
const plainHTTP = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 42\r\n\r\nthis pool has a secret: use https instead\n"

// warnStranger logs that a connection has not proved what Config.TLS demands: whoever
// has set up a node with another secret, or none, wants to know. Not all are logged,
// and those not that have only gone silent or away.
func (p *Port) warnStranger(c net.Conn, err error) {
	if isTimeout(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return
	}
	p.unproved.Do(func() {
		p.config.Logger.Printf("[WARN] port: a connection was refused that does not prove to have the secret: from=%s err=%q", c.RemoteAddr(), err)
	})
}

// refusePlain turns away a connection that is not TLS. A client of HTTP is told.
func (p *Port) refusePlain(c net.Conn, sort Sort) {
	if sort != SortHTTP {
		p.warnStranger(c, errors.New("it came without TLS, as nodes without a secret do"))
		p.refuse(c, RefusedPlain)
		return
	}
	p.counts.refused[RefusedPlain].Add(1)
	c.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(c, plainHTTP)
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
		// What it sent must be read, or the reset would outrun the answer.
		io.Copy(io.Discard, io.LimitReader(c, 64<<10))
	}
	c.Close()
}
