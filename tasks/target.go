package tasks

import (
	"fmt"
	"time"
)

// Target says which workers get a task. The zero Target is any one worker.
type Target struct {
	On     []string `json:"on,omitempty"`     // these, by name or id
	All    bool     `json:"all,omitempty"`    // every available worker
	Where  string   `json:"where,omitempty"`  // those that match an expression, see package query
	N      int      `json:"n,omitempty"`      // only so many of them; 0: every match
	Prefer string   `json:"prefer,omitempty"` // among those, sooner where this is true or larger
	Except []string `json:"except,omitempty"` // never these, by name or id
	Force  bool     `json:"force,omitempty"`  // with On: also where the worker is set unavailable
}

// Any is the target of one worker, whichever has room first.
func Any() Target { return Target{} }

// All is the target of every available worker, as known at submission.
func All() Target { return Target{All: true} }

// On is the target of the named workers.
func On(names ...string) Target { return Target{On: names} }

// Where is the target of every worker that matches the expression.
func Where(expr string) Target { return Target{Where: expr} }

// Several reports whether the target can be several workers. The words of the
// target decide, never how many workers matched.
func (t Target) Several() bool {
	switch {
	case len(t.On) > 0:
		return len(t.On) > 1
	case t.N > 0:
		return t.N > 1
	}
	return t.All || t.Where != ""
}

// One reports whether the target is any one of the workers that match.
func (t Target) One() bool {
	return len(t.On) == 0 && !t.All && (t.N == 1 || t.N == 0 && t.Where == "")
}

// Validate reports what in t contradicts itself.
func (t Target) Validate() error {
	switch {
	case t.All && (len(t.On) > 0 || t.Where != ""):
		return fmt.Errorf("%w: all excludes on and where; want one of the three", ErrBadTarget)
	case len(t.On) > 0 && (t.Where != "" || t.N > 0):
		return fmt.Errorf("%w: on excludes where and n; the names say it all", ErrBadTarget)
	case t.N < 0:
		return fmt.Errorf("%w: n is %d; want at least 1, or 0 for every match", ErrBadTarget, t.N)
	case t.Force && len(t.On) == 0:
		return fmt.Errorf("%w: force reaches unavailable workers by name only; add on", ErrBadTarget)
	}
	for _, n := range t.On {
		if n == "" {
			return fmt.Errorf("%w: on has an empty name", ErrBadTarget)
		}
	}
	return nil
}

// Options say how a task is delivered and run. Start from DefaultOptions.
type Options struct {
	// Timeout bounds one attempt's run; 0 is no bound.
	Timeout time.Duration
	// Attempts is how often the task may be started because a worker was lost,
	// 1 making it at most once. Default: 3.
	Attempts int
	// Retry is how often a task that ran and failed is run again. Default: 0.
	Retry int
	// Priority orders queued tasks, larger first. Default: 0.
	Priority int
	// Slots is how many of a worker's slots the task takes. Default: 1.
	Slots int
	// WaitWorkers is how long to wait for the first worker that matches. Default: 10s.
	WaitWorkers time.Duration
	// Expect is the least number of workers; fewer is an error. 0: one is enough.
	Expect int
	// Ephemeral tasks are forgotten when they have ended.
	Ephemeral bool
}

// DefaultAttempts is how often a task is started at most when workers are lost.
const DefaultAttempts = 3

// DefaultOptions returns the options that a submit without flags has.
func DefaultOptions() Options {
	return Options{Attempts: DefaultAttempts, Slots: 1, WaitWorkers: 10 * time.Second}
}

// AtMostOnce reports whether the task must never be started twice.
func (o Options) AtMostOnce() bool { return o.Attempts == 1 }

// Validate reports an option that is out of range.
func (o Options) Validate() error {
	switch {
	case o.Timeout < 0:
		return fmt.Errorf("%w: timeout is %v; want 0 (none) or more", ErrBadOptions, o.Timeout)
	case o.Attempts < 1 || o.Attempts > 1000:
		return fmt.Errorf("%w: attempts is %d; want 1 to 1000", ErrBadOptions, o.Attempts)
	case o.Retry < 0 || o.Retry > 1000:
		return fmt.Errorf("%w: retry is %d; want 0 to 1000", ErrBadOptions, o.Retry)
	case o.Slots < 1 || o.Slots > 1<<16:
		return fmt.Errorf("%w: slots is %d; want 1 to 65536", ErrBadOptions, o.Slots)
	case o.WaitWorkers < 0:
		return fmt.Errorf("%w: wait-workers is %v; want 0 or more", ErrBadOptions, o.WaitWorkers)
	case o.Expect < 0:
		return fmt.Errorf("%w: expect is %d; want 0 or more", ErrBadOptions, o.Expect)
	case o.Priority < -1<<15 || o.Priority >= 1<<15:
		return fmt.Errorf("%w: priority is %d; want -32768 to 32767", ErrBadOptions, o.Priority)
	}
	return nil
}

// Submission is what one submit hands over: it becomes a run of one task, or of
// one task per target.
type Submission struct {
	Task    Task
	Target  Target
	Options Options

	// Needs are interpreters that a worker must have, by name, as in
	// Worker.Interpreters.
	Needs []string
}

// Validate checks all parts.
func (s *Submission) Validate() error {
	if err := s.Task.Validate(); err != nil {
		return err
	}
	if err := s.Target.Validate(); err != nil {
		return err
	}
	return s.Options.Validate()
}
