package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"github.com/scagent/scagent/agent/api"
)

// Batch is a run to which tasks are added, and the stream of what happens to
// them. Add and Seal are called by one goroutine and Next by another, as both wait
// for the agent: it takes no more tasks than Next takes results. The error of Next
// may be an *api.Error that is about a task that was added, whose index is that of
// the event; no more are taken then, and Next goes on. A batch must be closed.
type Batch struct {
	*Stream
	in *lines
}

// ErrBatchEnded is returned by Add when the agent takes no more tasks. Next says why.
var ErrBatchEnded = errors.New("the agent takes no more tasks of the batch")

// OpenBatch begins a batch. When ctx ends, or the stream is closed before its end,
// what has not ended is cancelled.
func (c *Client) OpenBatch(ctx context.Context, r api.BatchRequest) (*Batch, error) {
	in := newLines()
	if err := in.add(r); err != nil {
		return nil, err
	}
	s, err := c.follow(ctx, in)
	if err != nil {
		in.Close() // who reads it may be waiting for more
		return nil, err
	}
	return &Batch{Stream: s, in: in}, nil
}

func (c *Client) follow(ctx context.Context, in *lines) (*Stream, error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/batches", nil, in)
	if err != nil {
		return nil, err
	}
	return c.stream(ctx, resp.Body)
}

// Add sends a task. It waits while the agent takes none.
func (b *Batch) Add(t *api.BatchTask) error { return b.in.add(t) }

// Next is Stream.Next. An error of the agent's ends what is sent.
func (b *Batch) Next() (api.StreamEvent, error) {
	e, err := b.Stream.Next()
	if e.Type == api.StreamError {
		b.in.seal()
	}
	return e, err
}

// Seal says that no more tasks come. Next returns io.EOF after the last result.
func (b *Batch) Seal() { b.in.seal() }

// Close hangs up.
func (b *Batch) Close() error {
	b.in.Close()
	return b.Stream.Close()
}

// maxWaitingLines is how many bytes of lines wait to be sent.
const maxWaitingLines = 64 << 10

// lines is the body of a batch: values as lines of JSON. What comes while others
// are being sent is sent together.
type lines struct {
	mu      sync.Mutex // guards the fields below
	changed sync.Cond
	buf     bytes.Buffer
	sealed  bool // no more come
	closed  bool // nobody reads any more
}

func newLines() *lines {
	l := &lines{}
	l.changed.L = &l.mu
	return l
}

func (l *lines) add(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.buf.Len() >= maxWaitingLines && !l.closed && !l.sealed {
		l.changed.Wait()
	}
	if l.closed || l.sealed {
		return ErrBatchEnded
	}
	l.buf.Write(line)
	l.buf.WriteByte('\n')
	l.changed.Broadcast()
	return nil
}

func (l *lines) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = true
	l.changed.Broadcast()
}

// Read gives what is there, and waits while there is nothing.
func (l *lines) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.buf.Len() == 0 && !l.sealed && !l.closed {
		l.changed.Wait()
	}
	l.changed.Broadcast()
	return l.buf.Read(p) // io.EOF when it is empty
}

// Close is called when no more is read.
func (l *lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Broadcast()
	return nil
}
