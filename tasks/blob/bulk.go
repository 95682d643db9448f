package blob

import (
	"bufio"
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"os"
)

// BulkBytes is the size from which on a content is large: fetched over a
// connection of its own and, where the system can, without passing through this
// process.
const BulkBytes = 1 << 20

// maxHeaderBytes bounds what comes before the body.
const maxHeaderBytes = 64 << 10

// Bulk is an http.RoundTripper for large contents: each request has a connection
// of its own, from which the kernel can move the body to a file.
type Bulk struct {
	// Dial opens a connection to the host of a URL.
	Dial func(ctx context.Context, host string) (net.Conn, error)
}

// RoundTrip implements http.RoundTripper.
func (t *Bulk) RoundTrip(req *http.Request) (*http.Response, error) {
	conn, err := t.Dial(req.Context(), req.URL.Host)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(req.Context(), func() { conn.Close() })
	limited := &io.LimitedReader{R: conn, N: maxHeaderBytes}
	body := &bulkBody{conn: conn, r: bufio.NewReader(limited), stop: stop}
	sent := req.Clone(req.Context())
	sent.Close = true
	if err := sent.Write(conn); err != nil {
		body.Close()
		return nil, err
	}
	resp, err := http.ReadResponse(body.r, req)
	if err != nil {
		body.Close()
		return nil, err
	}
	limited.N = math.MaxInt64
	body.body, body.plain = resp.Body, resp.ContentLength >= 0
	resp.Body = body
	return resp, nil
}

// bulkBody is the body of an answer, and its connection.
type bulkBody struct {
	conn  net.Conn
	r     *bufio.Reader // of conn
	body  io.ReadCloser // of r
	plain bool          // what follows in r is the body as it is
	stop  func() bool
}

func (b *bulkBody) Read(p []byte) (int, error) { return b.body.Read(p) }

func (b *bulkBody) Close() error {
	b.stop()
	return b.conn.Close()
}

// moves reports whether the kernel can move the body to a file.
func (b *bulkBody) moves() bool {
	_, tcp := b.conn.(*net.TCPConn)
	return tcp && b.plain
}

// moveTo moves n bytes of the body, if moves is true, to the end of f.
func (b *bulkBody) moveTo(f *os.File, n int64) (int64, error) {
	done := int64(0)
	if have := int64(b.r.Buffered()); have > 0 {
		var err error
		if done, err = io.CopyN(f, b.r, min(have, n)); err != nil {
			return done, err
		}
	}
	if done == n {
		return done, nil
	}
	m, err := io.CopyN(f, b.conn, n-done)
	return done + m, err
}
