package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
)

// maxEventBytes bounds a line of an EventStream. What a byte of data is in JSON takes
// six bytes at most, and everything else that an event carries is far smaller.
const maxEventBytes = 6*api.MaxEventDataBytes + 2<<20

// EventStream is the changes of members and tasks, and events of the bus. It is used
// by one goroutine, but Close may be called by any.
type EventStream struct {
	c     *Client
	ctx   context.Context
	body  io.ReadCloser
	lines *bufio.Scanner
}

// Events returns what happens from now on or, if after is not 0, after the event with
// that number: with patterns, the events whose name matches one. Who reads slowly
// loses the oldest, and reads an api.EventMissed in their place. An agent hangs up on
// who does not read at all: call again with the last number that was seen.
func (c *Client) Events(ctx context.Context, after uint64, patterns ...bus.Pattern) (*EventStream, error) {
	q := url.Values{}
	if len(patterns) > 0 {
		words := make([]string, len(patterns))
		for i, p := range patterns {
			words[i] = string(p)
		}
		q.Set("event", strings.Join(words, ","))
	}
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
// it does when it ends and on clients that do not read.
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

// SendEvent sends an event on the bus, and returns how many have it or are to get it,
// and which of the named or matching ones do not.
func (c *Client) SendEvent(ctx context.Context, r api.SendRequest) (api.Sent, error) {
	r.Request = false
	var out api.Sent
	err := c.call(ctx, http.MethodPost, "/v1/events", nil, r, &out)
	return out, err
}

// RequestEvent sends an event on the bus and returns the replies as they come, with
// one for each node that did not reply, which says why. An error is the last. When
// the loop ends, or ctx, replies are waited for no longer.
func (c *Client) RequestEvent(ctx context.Context, r api.SendRequest) iter.Seq2[api.Reply, error] {
	r.Request = true
	return func(yield func(api.Reply, error) bool) {
		resp, err := c.do(ctx, http.MethodPost, "/v1/events", nil, r)
		if err != nil {
			yield(api.Reply{}, err)
			return
		}
		defer resp.Body.Close()
		for d := json.NewDecoder(resp.Body); ; {
			var reply api.Reply
			err := d.Decode(&reply)
			if err == io.EOF {
				return
			}
			if err != nil {
				err = c.failed(ctx, err)
			}
			if !yield(reply, err) || err != nil {
				return
			}
		}
	}
}
