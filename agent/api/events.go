package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/bus"
)

const (
	// watchWrite is how long a client of /v1/events may take to read what was
	// written to it.
	watchWrite = 30 * time.Second
	// maxPatterns bounds what each event is compared with for one client.
	maxPatterns = 64
	// watchIdle is how often it is written to when nothing happens, which finds
	// out clients that are gone.
	watchIdle = 15 * time.Second
)

// events answers with server-sent events, as HTML's chapter 9.2 has them.
func (h *handler) events(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	patterns, err := parsePatterns(q)
	if err != nil {
		return err
	}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = q.Get("after")
	}
	feed := h.b.Feed()
	after := feed.Last()
	if last != "" {
		if after, err = strconv.ParseUint(last, 10, 63); err != nil {
			return badRequest("the last event is %.80q; want the number of one", last)
		}
	}
	select {
	case h.watchers <- struct{}{}:
		defer func() { <-h.watchers }()
	default:
		return &Error{CodeTooMany, fmt.Sprintf("%d clients watch the events already; stop one", maxWatchers), http.StatusServiceUnavailable}
	}
	sub := feed.Subscribe(after, patterns...)
	defer sub.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	send := func(format string, a ...any) bool {
		rc.SetWriteDeadline(time.Now().Add(watchWrite)) // best effort: not every connection has one
		_, err := fmt.Fprintf(w, format, a...)
		return err == nil && rc.Flush() == nil
	}
	var data bytes.Buffer
	for ok := send(": events follow\n\n"); ok; {
		e, err := next(r.Context(), sub)
		switch {
		case err == nil:
			data.Reset()
			if encoder(&data).Encode(e) != nil { // it carries what JSON cannot say, such as a NaN
				e = Event{Seq: e.Seq, Time: e.Time, Event: EventMissed, Missed: 1}
				encoder(&data).Encode(e) // nothing in it can fail
			}
			ok = send("id: %d\nevent: %s\ndata: %s\n", e.Seq, oneLine(e.Event), &data) // which ends with a line's end
		case errors.Is(err, errIdle):
			ok = send(":\n\n")
		default:
			return nil // the client is gone, or the agent ends
		}
	}
	return nil
}

// parsePatterns reads which events are asked for; none: all.
func parsePatterns(q url.Values) ([]bus.Pattern, error) {
	if !q.Has("event") {
		return nil, nil
	}
	words := strings.Split(q.Get("event"), ",")
	if len(words) > maxPatterns {
		return nil, badRequest("event has %d patterns; want at most %d", len(words), maxPatterns)
	}
	patterns := make([]bus.Pattern, len(words))
	for i, word := range words {
		var err error
		if patterns[i], err = bus.ParsePattern(word); err != nil {
			return nil, err
		}
	}
	return patterns, nil
}

var errIdle = errors.New("nothing happened")

// next waits for the next event, or for watchIdle.
func next(ctx context.Context, sub *Subscription) (Event, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, watchIdle, errIdle)
	defer cancel()
	return sub.Next(ctx)
}
