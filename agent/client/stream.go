package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

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

// maxEventBytes bounds a line of an EventStream. An event carries at most the
// document of a member, whose data and facts are far smaller.
const maxEventBytes = 4 << 20

// EventStream is the changes of members and tasks. It is used by one goroutine,
// but Close may be called by any.
type EventStream struct {
	c     *Client
	ctx   context.Context
	body  io.ReadCloser
	lines *bufio.Scanner
}

// Events returns the changes of members and tasks from now on or, if after is not
// 0, those after the event with that number; see api.EventMissed. An agent hangs
// up on who reads too slowly: call again with the last number that was seen.
func (c *Client) Events(ctx context.Context, after uint64) (*EventStream, error) {
	q := url.Values{}
	if after != 0 {
		q.Set("after", strconv.FormatUint(after, 10))
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/events", q, nil)
	if err != nil {
		return nil, err
	}
	s := &EventStream{c: c, ctx: ctx, body: resp.Body, lines: bufio.NewScanner(resp.Body)}
	s.lines.Buffer(nil, maxEventBytes)
	return s, nil
}

// Next waits for the next event. It returns io.EOF when the agent hung up, which
// it does when it ends and on clients that are too slow.
func (s *EventStream) Next() (api.Event, error) {
	var e api.Event
	for s.lines.Scan() {
		data, ok := strings.CutPrefix(s.lines.Text(), "data:")
		if !ok {
			continue // its number and name, which the data has too, or a comment
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return e, fmt.Errorf("the agent at %s sent an event that cannot be read: %w", s.c.addr, err)
		}
		return e, nil
	}
	if err := s.lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return e, s.c.failed(s.ctx, err)
	}
	return e, io.EOF
}

// Close ends the stream.
func (s *EventStream) Close() error { return s.body.Close() }

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
