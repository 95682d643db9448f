package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/blob"
	"github.com/scagent/scagent/tasks/master"
)

// The codes of errors. They are stable.
const (
	CodeBadRequest   = "bad_request"
	CodeBadTask      = "bad_task"
	CodeBadTarget    = "bad_target"
	CodeBadOptions   = "bad_options"
	CodeBadID        = "bad_id"
	CodeBadEvent     = "bad_event"
	CodeNoMatch      = "no_match"
	CodeNoMember     = "no_member"
	CodeFull         = "full"
	CodeNotKept      = "not_kept"
	CodeSealed       = "sealed"
	CodeDraining     = "draining"
	CodeClosing      = "closing"
	CodeStarting     = "starting"
	CodeTaskFailed   = "task_failed"
	CodeUnknownTask  = "unknown_task"
	CodeOwnerAway    = "owner_away"
	CodeUnknownBlob  = "unknown_blob"
	CodeDataTooLarge = "data_too_large"
	CodeTooLarge     = "too_large"
	CodeDiskFull     = "disk_full"
	CodeTooMany      = "too_many"
	CodeTimeout      = "timeout"
	CodeNotFound     = "not_found"
	CodeBadMethod    = "bad_method"
	CodeBadType      = "bad_content_type"
	CodeBadHost      = "bad_host"
	CodeBadOrigin    = "bad_origin"
	CodeUnauthorized = "unauthorized"
	CodeInternal     = "internal"
)

// sentinels are the errors that backends return, and what they become.
var sentinels = []struct {
	err    error
	code   string
	status int
}{
	{tasks.ErrBadTask, CodeBadTask, http.StatusBadRequest},
	{tasks.ErrBadTarget, CodeBadTarget, http.StatusBadRequest},
	{tasks.ErrBadOptions, CodeBadOptions, http.StatusBadRequest},
	{tasks.ErrBadID, CodeBadID, http.StatusBadRequest},
	{bus.ErrBadName, CodeBadEvent, http.StatusBadRequest},
	{bus.ErrNoMatch, CodeNoMember, http.StatusConflict},
	{tasks.ErrNoMatch, CodeNoMatch, http.StatusConflict},
	{tasks.ErrFull, CodeFull, http.StatusServiceUnavailable},
	{tasks.ErrNotKept, CodeNotKept, http.StatusInsufficientStorage},
	{tasks.ErrSealed, CodeSealed, http.StatusConflict},
	{tasks.ErrDraining, CodeDraining, http.StatusServiceUnavailable},
	{tasks.ErrUnknown, CodeUnknownTask, http.StatusNotFound},
	{master.ErrClosed, CodeClosing, http.StatusServiceUnavailable},
	{membership.ErrNotRunning, CodeClosing, http.StatusServiceUnavailable},
	{membership.ErrDocumentTooLarge, CodeDataTooLarge, http.StatusRequestEntityTooLarge},
	{blob.ErrNotFound, CodeUnknownBlob, http.StatusNotFound},
	{blob.ErrTooLarge, CodeTooLarge, http.StatusRequestEntityTooLarge},
	{blob.ErrFull, CodeDiskFull, http.StatusInsufficientStorage},
	{blob.ErrClosed, CodeClosing, http.StatusServiceUnavailable},
	{bus.ErrTooLarge, CodeTooLarge, http.StatusRequestEntityTooLarge}, // a code stands for the first of its errors
	{bus.ErrClosed, CodeClosing, http.StatusServiceUnavailable},
	{context.DeadlineExceeded, CodeTimeout, http.StatusGatewayTimeout},
}

// ErrorOf returns what err is to a client: an *Error that err wraps, or one with
// the code of the sentinel that it wraps and its text, or else an internal error.
func ErrorOf(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		if e.Status < 400 {
			return &Error{Code: e.Code, Message: e.Message, Status: http.StatusInternalServerError}
		}
		return e
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &Error{CodeTooLarge, fmt.Sprintf("the body is larger than %d bytes; send large contents with PUT /v1/blobs", large.Limit),
			http.StatusRequestEntityTooLarge}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return &Error{s.code, oneLine(err.Error()), s.status}
		}
	}
	return &Error{CodeInternal, oneLine(err.Error()), http.StatusInternalServerError}
}

// Unwrap returns the error that the code stands for, such as tasks.ErrNoMatch, so
// that errors.Is works on both ends; nil if there is none.
func (e *Error) Unwrap() error {
	for _, s := range sentinels {
		if s.code == e.Code {
			return s.err
		}
	}
	return nil
}

func badRequest(format string, a ...any) *Error {
	return &Error{CodeBadRequest, oneLine(fmt.Sprintf(format, a...)), http.StatusBadRequest}
}

// oneLine keeps a message from spilling over lines or controlling a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func writeError(w http.ResponseWriter, err error) {
	e := ErrorOf(err)
	switch e.Status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, e.Status, ErrorBody{e})
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder(w).Encode(v) // an error is that the client is gone
}

func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}
