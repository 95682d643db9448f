package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
)

// MaxReplyBytes is how large a reply can be.
const MaxReplyBytes = 1 << 20

var errTooLarge = fmt.Errorf("the reply has more than %d bytes", MaxReplyBytes)

// Answer has a request answered by the first hook whose pattern matches, and reports
// false when there is none. The reply is what the command writes to its standard
// output: JSON when it is JSON, else its text without the last end of line, or
// nothing. That the command failed is an error, with the first line that it wrote to
// its standard error.
func (h *Hooks) Answer(ctx context.Context, e api.Event) (bus.Data, bool, error) {
	r := h.answerer(e.Event)
	if r == nil {
		return bus.Data{}, false, nil
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return bus.Data{}, true, ErrClosed
	}
	h.wg.Add(1)
	h.mu.Unlock()
	defer h.wg.Done()
	select {
	case h.requests <- struct{}{}:
		defer func() { <-h.requests }()
	default:
		h.busy.Add(1)
		return bus.Data{}, true, bus.ErrBusy
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.ctx, func() { cancel(ErrClosed) })()
	out := &reply{tooLarge: func() { cancel(tooLarge{}) }}
	if err := r.run(ctx, &e, out); err != nil {
		return bus.Data{}, true, fmt.Errorf("the hook failed: %w", err)
	}
	d, err := replyData(out.Bytes())
	return d, true, err
}

// tooLarge ends a run at once.
type tooLarge struct{}

func (tooLarge) Error() string { return errTooLarge.Error() }
func (tooLarge) Unwrap() []error {
	return []error{errTooLarge, &tasks.StopError{Reason: tasks.StopKill}}
}

// replyData is what a command wrote, as data.
func replyData(b []byte) (bus.Data, error) {
	if len(bytes.TrimSpace(b)) > 0 && json.Valid(b) {
		return bus.FromJSON(b)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if text == "" {
		return bus.Data{}, nil
	}
	quoted, err := json.Marshal(text)
	if err == nil && len(quoted) > MaxReplyBytes {
		err = fmt.Errorf("%w once it is JSON", errTooLarge)
	}
	if err != nil {
		return bus.Data{}, err
	}
	return bus.FromJSON(quoted)
}

// gone reports whether a run was ended because nobody waits for it any more.
func gone(cause error) bool {
	return errors.Is(cause, context.Canceled) || errors.Is(cause, ErrClosed)
}
