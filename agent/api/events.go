package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// watchWrite is how long a client of /v1/events may take to read what was
	// written to it.
	watchWrite = 30 * time.Second
	// watchIdle is how often it is written to when nothing happens, which finds
	// out clients that are gone.
	watchIdle = 15 * time.Second
)

// events answers with server-sent events, as HTML's chapter 9.2 has them.
func (h *handler) events(w http.ResponseWriter, r *http.Request) error {
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("after")
	}
	feed := h.b.Feed()
	after := feed.Last()
	if last != "" {
		var err error
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
	sub := feed.Subscribe(after)
	defer sub.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	send := func(format string, a ...any) bool {
		rc.SetWriteDeadline(time.Now().Add(watchWrite)) // best effort: not every connection has one
		_, err := fmt.Fprintf(w, format, a...)
		return err == nil && rc.Flush() == nil
	}
	for ok := send(": events follow\n\n"); ok; {
		e, err := next(r.Context(), sub)
		switch {
		case err == nil:
			data, err := json.Marshal(e)
			if err != nil {
				continue // data or facts that are not JSON, which no agent announces
			}
			ok = send("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, oneLine(e.Event), data)
		case errors.Is(err, errIdle):
			ok = send(":\n\n")
		default:
			return nil // it is too slow or gone, or the agent ends
		}
	}
	return nil
}

var errIdle = errors.New("nothing happened")

// next waits for the next event, or for watchIdle.
func next(ctx context.Context, sub *Subscription) (Event, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, watchIdle, errIdle)
	defer cancel()
	return sub.Next(ctx)
}
