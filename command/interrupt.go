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
// Before the run is known, the first one ends everything.
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
	client *client.Client
	run    tasks.ID // zero: nothing was submitted yet
	count  int      // signals that came
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

// submitted says what run signals are about from now on. It reports whether one
// came before; then the run is cancelled, and nothing is left to do.
func (i *interrupter) submitted(c *client.Client, run tasks.ID) (late bool) {
	i.mu.Lock()
	i.client, i.run = c, run
	late = i.count > 0
	i.mu.Unlock()
	if late {
		i.cancel(c, run, tasks.StopInterrupt, killTimeout)
	}
	return late
}

// hit reports whether a signal came.
func (i *interrupter) hit() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count > 0
}

func (i *interrupter) signal(s os.Signal) {
	i.mu.Lock()
	i.count++
	n, c, run := i.count, i.client, i.run
	i.mu.Unlock()
	switch {
	case run.IsZero():
		i.abort(errInterrupted)
	case n == 1:
		reason := tasks.StopInterrupt
		if s != os.Interrupt {
			reason = tasks.StopCancel
		}
		if !i.quiet {
			i.env.note("stopping; once more to kill")
		}
		i.wg.Go(func() { i.cancel(c, run, reason, cancelTimeout) })
	case n == 2:
		i.cancel(c, run, tasks.StopKill, killTimeout)
		i.abort(errInterrupted)
	}
}

func (i *interrupter) cancel(c *client.Client, run tasks.ID, reason tasks.StopReason, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err := c.Cancel(ctx, run, reason); err != nil {
		i.env.note("cannot stop run %s: %s", run, clean(err.Error()))
	}
}
