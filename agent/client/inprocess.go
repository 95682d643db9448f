package client

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/scagent/scagent/agent/api"
)

// ForHandler returns the client of a handler in this process, which is served on
// an in-memory listener until Close; that also ends the streams that are open, and
// waits for the handler's calls.
func ForHandler(h http.Handler) *Client {
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := api.NewServer(h)
	var wg sync.WaitGroup // the accept loop, and the connections, each with its handler
	srv.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			wg.Add(1)
		case http.StateClosed:
			wg.Done()
		}
	}
	wg.Go(func() { srv.Serve(l) }) // returns when the server is closed
	c := NewDial("this process", l.dial)
	c.stop = func() {
		srv.Close()
		wg.Wait()
	}
	return c
}

// pipes is a listener whose connections are pairs of net.Pipe.
type pipes struct {
	conns chan net.Conn
	done  chan struct{} // closed by Close
	once  sync.Once
}

func (l *pipes) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "this process" }
