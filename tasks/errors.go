package tasks

import (
	"errors"
	"fmt"
)

// What can be wrong with a submission. Nothing was started.
var (
	ErrBadTask    = errors.New("bad task")
	ErrBadTarget  = errors.New("bad target")
	ErrBadOptions = errors.New("bad options")
	ErrNoMatch    = errors.New("no worker matches")
	ErrFull       = errors.New("too many tasks are queued")
	ErrSealed     = errors.New("the batch was sealed, it takes no more tasks")
	ErrDraining   = errors.New("draining: no new tasks are taken")
	ErrUnknown    = errors.New("no such task")
	// ErrNotKept: the task cannot be put on disk, so it was not accepted.
	ErrNotKept = errors.New("the task cannot be kept, and was not accepted")
)

// Code says why a task or an attempt did not end well. Codes are written out:
// they travel, are appended, and never reused.
type Code uint8

// The codes. Never started: NeverReached, Refused, NoMatch. Ran and failed:
// Exit to Panic. Outcome unknown: Lost.
const (
	OK            Code = 0
	Exit          Code = 1  // ended with a status other than 0
	Signalled     Code = 2  // killed by a signal that scagent did not send
	Timeout       Code = 3  // stopped because its time was up
	Cancelled     Code = 4  // stopped because someone asked
	NotFound      Code = 5  // no such program (status 127)
	NotExecutable Code = 6  // a program that may not be executed (status 126)
	Failed        Code = 7  // a function returned an error, or threw
	Panic         Code = 8  // a function panicked
	Refused       Code = 9  // the worker would not take it
	NeverReached  Code = 10 // no attempt was ever started
	Lost          Code = 11 // the worker was lost while it ran; outcome unknown
	NoMatch       Code = 12 // no worker matches
	NoFunction    Code = 13 // the worker has no function of that name
	BadInput      Code = 14 // arguments or files that the task cannot be run with
	Internal      Code = 15 // scagent's own fault or the machine's: disk full, no memory
	Busy          Code = 16 // not started: the worker's queue is full, or its machine is out of processes, files or memory
	Draining      Code = 17 // rejected: the worker takes no new tasks
	Poison        Code = 18 // several workers died of it
)

var codeNames = [...]string{"", "exit", "signal", "timeout", "cancelled", "not_found", "not_executable", "failed", "panic",
	"refused", "never_reached", "lost", "no_match", "no_function", "bad_input", "internal", "busy", "draining", "poison"}

// String returns the code as the stable word that the API uses.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code_%d", uint8(c))
}

// MarshalText writes the word.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the word; one it does not know becomes Internal.
func (c *Code) UnmarshalText(b []byte) error {
	for i, n := range codeNames {
		if n == string(b) {
			*c = Code(i)
			return nil
		}
	}
	*c = Internal
	return nil
}

// Three cases that callers must be able to tell apart, see RunError.Unwrap.
var (
	// ErrNeverStarted: the task did not run; it is safe to submit it again.
	ErrNeverStarted = errors.New("never started")
	// ErrFailed: the task ran and did not succeed.
	ErrFailed = errors.New("ran and failed")
	// ErrOutcomeUnknown: the worker was lost after the task may have started.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrTimeout and ErrCancelled say more about a task that ran and failed.
	ErrTimeout   = errors.New("timed out")
	ErrCancelled = errors.New("cancelled")
)

// RunError is the error of a task that did not end as done.
type RunError struct {
	Task    ID
	Worker  string // name of the worker; empty if none was reached
	Attempt uint32
	Code    Code
	Exit    int    // exit status, when Code is Exit
	Text    string // one line
}

// Error says which task, where, and what happened.
func (e *RunError) Error() string {
	where := ""
	if e.Worker != "" {
		where = fmt.Sprintf(" on %q", e.Worker)
	}
	text := e.Text
	if text == "" {
		text = e.Code.String()
	}
	return fmt.Sprintf("task %s%s: %s", e.Task, where, text)
}

// Unwrap returns one of ErrNeverStarted, ErrFailed and ErrOutcomeUnknown, and
// with it ErrTimeout or ErrCancelled where they apply.
func (e *RunError) Unwrap() []error {
	switch e.Code {
	case Refused, NeverReached, NoMatch, NoFunction, Busy, Draining:
		return []error{ErrNeverStarted}
	case Lost, Poison:
		return []error{ErrOutcomeUnknown}
	case Timeout:
		return []error{ErrFailed, ErrTimeout}
	case Cancelled:
		if e.Attempt == 0 {
			return []error{ErrNeverStarted, ErrCancelled}
		}
		return []error{ErrFailed, ErrCancelled}
	}
	return []error{ErrFailed}
}
