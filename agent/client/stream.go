package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/scagent/scagent/agent/api"
)

// Stream is what happens to the tasks of a run, in order for each task. It is
// used by one goroutine, but Close may be called by any. Tasks that write much
// wait while Next is not called.
type Stream struct {
	c         *Client
	ctx       context.Context
	body      io.ReadCloser
	dec       *json.Decoder
	submitted api.Submitted
}

// stream reads the first event. It owns the body.
func (c *Client) stream(ctx context.Context, r io.ReadCloser) (*Stream, error) {
	s := &Stream{c: c, ctx: ctx, body: r, dec: json.NewDecoder(r)}
	e, err := s.Next()
	switch {
	case err == io.EOF:
		err = fmt.Errorf("the agent at %s hung up before it said what was submitted", c.addr)
	case err == nil && (e.Type != api.StreamSubmitted || e.Submitted == nil):
		err = fmt.Errorf("what answers at %s is not an agent: its stream begins with %q", c.addr, e.Type)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	s.submitted = *e.Submitted
	return s, nil
}

// Submitted returns the run and its tasks.
func (s *Stream) Submitted() api.Submitted { return s.submitted }

// Next waits for the next event; after the last result it returns io.EOF. When the
// agent ends the stream early, the error is the *api.Error that says why.
func (s *Stream) Next() (api.StreamEvent, error) {
	var e api.StreamEvent
	switch err := s.dec.Decode(&e); {
	case err == io.EOF:
		return e, io.EOF
	case err != nil:
		return e, s.c.failed(s.ctx, err)
	case e.Type == api.StreamError && e.Error != nil:
		return e, e.Error
	}
	return e, nil
}

// Close ends the stream; the tasks go on.
func (s *Stream) Close() error { return s.body.Close() }

// body is an answer that is read as it comes.
type body struct {
	io.ReadCloser
	c   *Client
	ctx context.Context
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.c.failed(b.ctx, err)
	}
	return n, err
}
