package tasks

import (
	"context"
	"io"
	"time"
)

// Attempt is one try at a task, as a runner is given it, and is valid until the
// runner returns, which it does when nothing of the attempt runs any more; only
// then is its slot free.
//
// The context that comes with it ends when the attempt is to stop, with a
// *StopError as its cause; Kill is closed when it must end at once.
type Attempt struct {
	Task  *Task
	ID    ID
	Run   ID
	N     uint32 // number of the attempt, from 1
	Index int    // place in the run, from 0
	Slots int

	Node string // name of the worker

	Stdin  io.Reader // nil: closed
	Stdout io.Writer // a Write waits while the reader at the far end is slow
	Stderr io.Writer

	// Functions have no files and are not killed: the following are nil for them.

	// Open opens content that the task names by hash, fetching it if need be.
	Open func(context.Context, *Content) (io.ReadCloser, error)
	// Keep takes the named file over (it is moved away, or copied) and returns
	// how the result names its content.
	Keep func(path string) (Content, error)

	Kill <-chan struct{}
}

// StopReason says why an attempt is stopped, and so how.
type StopReason uint8

// The reasons. They travel: append only.
const (
	StopCancel      StopReason = 1 // someone asked: SIGTERM, grace, SIGKILL
	StopInterrupt   StopReason = 2 // ^C at the submitter: SIGINT, grace, SIGTERM, grace, SIGKILL
	StopKill        StopReason = 3 // at once: SIGKILL
	StopTimeout     StopReason = 4 // its time was up: as StopCancel
	StopSuperfluous StopReason = 5 // another attempt has ended the task, or its master is gone: as StopCancel
)

// String names the reason.
func (r StopReason) String() string {
	switch r {
	case StopCancel:
		return "cancel"
	case StopInterrupt:
		return "interrupt"
	case StopKill:
		return "kill"
	case StopTimeout:
		return "timeout"
	case StopSuperfluous:
		return "superfluous"
	}
	return "unknown"
}

// StopError is the cause of the context of an attempt that is to stop.
type StopError struct {
	Reason StopReason
	After  time.Duration // for StopTimeout: the timeout that ran out
}

// Error says why.
func (e *StopError) Error() string {
	if e.Reason == StopTimeout {
		return "timed out after " + e.After.String()
	}
	return "stopped: " + e.Reason.String()
}
