package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/query"
)

// sendEvent sends an event on the bus. Of a request it answers with the replies.
func (h *handler) sendEvent(w http.ResponseWriter, r *http.Request) error {
	var req SendRequest
	err := h.decode(w, r, maxEventBody, &req, "data")
	var large *http.MaxBytesError
	if errors.As(err, &large) || err == nil && req.Data.Len() > MaxEventDataBytes {
		return &Error{CodeTooLarge, "the data of an event is larger than 1 MiB; send large contents as inputs of a task", http.StatusRequestEntityTooLarge}
	}
	if err == nil {
		err = req.check()
	}
	if err != nil {
		return err
	}
	if req.Request {
		return h.requestEvent(w, r, req)
	}
	sent, err := h.b.SendEvent(r.Context(), req)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, sent)
	return nil
}

// check finds what cannot be sent, and fills in what was left out.
func (r *SendRequest) check() error {
	if err := bus.CheckName(r.Event); err != nil {
		return err
	}
	if bus.Reserved(r.Event) {
		return fmt.Errorf("%w that is sent: %q is one of an agent's own; want another name", bus.ErrBadName, r.Event)
	}
	if r.Target == nil {
		r.Target = &tasks.Target{}
	}
	t := r.Target
	if t.N != 0 || t.Prefer != "" || t.Force {
		return fmt.Errorf("%w: n, prefer and force are for tasks; want on, all, where and except", tasks.ErrBadTarget)
	}
	if err := t.Validate(); err != nil {
		return err
	}
	if t.Where != "" {
		if _, err := query.Compile(t.Where); err != nil {
			return fmt.Errorf("%w: where: %v", tasks.ErrBadTarget, err)
		}
	}
	t.All = len(t.On) == 0 && t.Where == ""
	switch s := r.TimeoutSeconds; {
	case s != 0 && !r.Request:
		return badRequest("timeout_seconds is %v without request; nothing is waited for then", s)
	case s < 0 || s > MaxReplySeconds:
		return badRequest("timeout_seconds is %v; want at most %d, or 0 for %d", s, MaxReplySeconds, DefaultReplySeconds)
	case s == 0 && r.Request:
		r.TimeoutSeconds = DefaultReplySeconds
	}
	return nil
}

// requestEvent answers with the replies as they come, a line each. The request ends
// when the client is gone.
func (h *handler) requestEvent(w http.ResponseWriter, r *http.Request, req SendRequest) error {
	rc, e, begun := http.NewResponseController(w), encoder(w), false
	err := h.b.RequestEvent(r.Context(), req, func(reply Reply) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", NDJSON)
		}
		rc.SetWriteDeadline(time.Now().Add(watchWrite)) // best effort: not every connection has one
		err := e.Encode(reply)
		if unsaid := (*json.MarshalerError)(nil); errors.As(err, &unsaid) {
			err = e.Encode(Reply{ID: reply.ID, Name: reply.Name, Error: "its reply cannot be written as JSON: " + oneLine(unsaid.Err.Error())})
		}
		if err != nil {
			return err
		}
		return rc.Flush()
	})
	switch {
	case err != nil && (begun || r.Context().Err() != nil): // nobody is there, or the agent ends: to whoever is, it hangs up
		panic(http.ErrAbortHandler)
	case err == nil && !begun:
		w.Header().Set("Content-Type", NDJSON)
		w.WriteHeader(http.StatusOK)
	}
	return err
}
