package worker

import (
	"context"
	"sync"
	"time"

	"github.com/scagent/scagent/tasks"
)

// runContext is the context of an attempt that runs. It costs nothing until
// somebody waits for its end, or asks it for more than whether it has come: most
// small functions do neither.
type runContext struct {
	mu     sync.Mutex
	ctx    context.Context // nil until it is needed
	cancel context.CancelCauseFunc
	cause  error // why it was stopped; nil while it was not
}

// full returns the context that does the work.
func (c *runContext) full() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil {
		c.ctx, c.cancel = context.WithCancelCause(context.Background())
		if c.cause != nil {
			c.cancel(c.cause)
		}
	}
	return c.ctx
}

// stop ends the context, the first cause being the one that counts.
func (c *runContext) stop(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	if c.cancel != nil {
		c.cancel(cause)
	}
}

// over is the cause of a context whose attempt has ended.
var over error = &tasks.StopError{Reason: tasks.StopSuperfluous}

// Err is nil until the attempt is stopped.
func (c *runContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		return nil
	}
	return context.Canceled
}

func (c *runContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c *runContext) Done() <-chan struct{}       { return c.full().Done() }
func (c *runContext) Value(key any) any           { return c.full().Value(key) } // also how context.Cause finds the cause
