package tasks

import (
	"encoding/json"
	"time"
)

// State is where a task stands. Done, Failed, Cancelled and Lost are final.
type State string

// The states of a task.
const (
	StateQueued    State = "queued"
	StateRunning   State = "running"
	StateDone      State = "done"      // exit status 0, or a returned result
	StateFailed    State = "failed"    // ran and failed, or could not be started
	StateCancelled State = "cancelled" // stopped on request
	StateLost      State = "lost"      // every attempt's worker was lost
)

// Final reports whether the state never changes again.
func (s State) Final() bool {
	return s == StateDone || s == StateFailed || s == StateCancelled || s == StateLost
}

// Encoding says how a function's value is encoded.
type Encoding uint8

// The encodings of values.
const (
	NoValue Encoding = 0
	JSON    Encoding = 1
	Msgpack Encoding = 2
)

// Outcome is how one attempt ended, as its runner saw it.
type Outcome struct {
	Code   Code   // OK when it succeeded
	Exit   int    // exit status, when Code is Exit, NotFound or NotExecutable
	Signal string // "SIGKILL", when a signal ended it
	Text   string // one line about what went wrong

	Value    []byte // what a function returned
	Encoding Encoding

	Outputs []OutputFile // files to bring back
	Steps   []Step       // of a git task: its commands, in the order in which they ran

	Started, Finished time.Time     // by the worker's clock
	User, System      time.Duration // CPU time of its processes
	MaxRSS            int64         // peak memory of its largest process, bytes

	StdoutBytes, StderrBytes int64 // how much it wrote, all told
}

// OutputFile is a file that a task left behind and that was asked for.
type OutputFile struct {
	Name string // slash-separated, relative to the work directory
	Mode uint32 // as Input.Mode
	Content
}

// Step is one of several commands that an attempt ran.
type Step struct {
	Stage   string // "pre", "cmd" or "post"
	Command string // as a person would type it
	Exit    int    // exit status
	Signal  string // "SIGKILL", when a signal ended it
}

// Result is a task's final word.
type Result struct {
	ID, Run    ID
	Index      int // place in the run, from 0
	Kind       Kind
	State      State
	Worker     string // name of the worker of the last attempt
	WorkerID   string
	Attempt    uint32 // number of the last attempt, 0 if none was made
	QueuedAt   time.Time
	FinishedAt time.Time // when the master recorded it

	Outcome

	Stdout, Stderr       []byte // the kept copy: all of it, or its first and last part
	StdoutCut, StderrCut int64  // bytes missing between the two parts
}

// Err returns nil for a task that is done, else a *RunError.
func (r *Result) Err() error {
	if r.State == StateDone {
		return nil
	}
	return &RunError{Task: r.ID, Worker: r.Worker, Attempt: r.Attempt, Code: r.Code, Exit: r.Exit, Text: r.Text}
}

// JSONValue returns the value as JSON, whichever way it was encoded; null when
// there is none.
func (r *Result) JSONValue() (json.RawMessage, error) { return valueJSON(r.Value, r.Encoding) }
