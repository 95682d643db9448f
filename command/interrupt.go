package command

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

var errInterrupted = errors.New("interrupted")

// How long an agent may take to answer a request to cancel.
const (
	cancelTimeout = 10 * time.Second
	killTimeout   = 2 * time.Second
)

// interrupter turns signals into requests to cancel a run. The first signal
// asks, and the results are waited for; the second kills and ends everything.
// Before the submission has begun, the first one ends everything. While it is on
// its way it is let come back, so that no run goes on that nobody knows of.
type interrupter struct {
	env   *Env
	quiet bool
	abort context.CancelCauseFunc // ends the context that submit works with
	stop  func()                  // no more signals
	wg    sync.WaitGroup          // requests to cancel
	// unwatch ends the goroutine that calls signal, and waits for it.
	unwatch func()

	// mu guards the fields below; it is not held over I/O.
	mu     sync.Mutex
	client *client.Client // nil: nothing is being submitted yet
	run    tasks.ID       // zero: nothing was submitted yet
	first  os.Signal      // nil: none came
	count  int            // signals that came
}

// newInterrupter starts listening for signals. abort is called when all is to
// end at once.
func newInterrupter(e *Env, quiet bool, abort context.CancelCauseFunc) *interrupter {
	c, stop := e.Signals(false)
	i := &interrupter{env: e, quiet: quiet, abort: abort, stop: stop}
	i.unwatch = watchSignals(c, i.signal)
	return i
}

// close ends it and waits for what it does.
func (i *interrupter) close() {
	i.stop()
	i.unwatch()
	i.wg.Wait()
}

// submitting says that requests are on their way. It reports whether to go on.
func (i *interrupter) submitting(c *client.Client) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.client = c
	return i.count == 0
}

// submitted says what run signals are about, also those that came already.
func (i *interrupter) submitted(run tasks.ID) {
	i.mu.Lock()
	i.run = run
	late := i.count > 0
	i.mu.Unlock()
	if late {
		i.ask()
	}
}

// hit reports whether a signal came.
func (i *interrupter) hit() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count > 0
}

func (i *interrupter) signal(s os.Signal) {
	i.mu.Lock()
	if i.count++; i.count == 1 {
		i.first = s
	}
	n, c, run := i.count, i.client, i.run
	i.mu.Unlock()
	switch {
	case c == nil:
		i.abort(errInterrupted)
	case n == 1 && !run.IsZero():
		i.ask()
	case n == 2:
		if !run.IsZero() {
			i.cancel(tasks.StopKill, killTimeout)
		}
		i.abort(errInterrupted)
	}
}

// ask asks the agent to stop the run, in the background.
func (i *interrupter) ask() {
	if !i.quiet {
		i.env.note("stopping; once more to kill")
	}
	reason := tasks.StopInterrupt
	if i.first != os.Interrupt {
		reason = tasks.StopCancel
	}
	i.wg.Go(func() { i.cancel(reason, cancelTimeout) })
}

func (i *interrupter) cancel(reason tasks.StopReason, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	i.mu.Lock()
	c, run := i.client, i.run
	i.mu.Unlock()
	if _, err := c.Cancel(ctx, run, reason); err != nil {
		i.env.note("cannot stop run %s: %s", run, clean(err.Error()))
	}
}
