package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// maxWaits is how many runs are waited for at once, each on a connection of its
// own. Of more, the later ones are asked about when earlier ones have ended.
const maxWaits = 64

// errWaited ends a wait that took too long.
var errWaited = errors.New("waited long enough")

// WaitCommand waits for tasks.
type WaitCommand struct{ env *Env }

// waitOptions are what the arguments of wait say.
type waitOptions struct {
	common
	timeout time.Duration // 0: none
}

// Synopsis says what the command does, on one line.
func (c *WaitCommand) Synopsis() string { return "wait for tasks; exit status as submit's" }

// Help says how the command is called.
func (c *WaitCommand) Help() string {
	return manual{
		name: "wait", usage: []string{"[options] ID…"}, flags: waitFlags(&waitOptions{}),
		about: `
Waits until tasks, or all tasks of runs, have ended, whichever agent of the pool they were submitted
to, and ends as submit would have. It prints nothing of what they write, see: scagent logs; -json
prints a line per task as it ends, as submit -json. ^C ends the waiting; the tasks go on.`,
		exits: `one task: as submit for one target. A run for several workers, or several ids: how many
  tasks did not end with 0, at most 100, 101 for more. 125 an error of scagent's own, or -timeout;
  130 a task was cancelled, or ^C.`,
		example: "scagent wait $(scagent submit -detach make)",
	}.String()
}

func waitFlags(o *waitOptions) *flagSet {
	f := newFlags(true)
	f.group("Options")
	f.duration(&o.timeout, "timeout", "wait at most so `LONG` (default: no limit)")
	o.common.define(f)
	return f
}

// Run waits.
func (c *WaitCommand) Run(args []string) int {
	o := &waitOptions{}
	operands, err := waitFlags(o).parse(args)
	var ids []tasks.ID
	if err == nil {
		ids, err = parseIDs(operands)
	}
	if err != nil {
		if c.env.usage("wait", c.Help(), err) == exitOK {
			return exitOK
		}
		return exitOwn
	}
	cl, err := c.env.connect(&o.common)
	if err != nil {
		c.env.fail(err)
		return exitOwn
	}
	defer cl.Close()
	return newWaiter(c.env, o, cl, len(ids)).run(ids)
}

// waiter waits for runs.
type waiter struct {
	env    *Env
	o      *waitOptions
	client *client.Client
	cancel context.CancelCauseFunc // ends all waiting

	// mu guards the fields below. It is held over writing to standard output.
	mu      sync.Mutex
	out     *streams
	printer printer // nil without -json
	several bool
	ended   map[tasks.ID]bool
	tally   tally
	last    *api.TaskStatus // that ended
	label   string          // of last
	closing []closingLine   // how those that did not end with 0 did
	failed  []error         // of scagent's own
}

func newWaiter(e *Env, o *waitOptions, cl *client.Client, ids int) *waiter {
	w := &waiter{env: e, o: o, client: cl, out: newStreams(e), several: ids > 1, ended: map[tasks.ID]bool{}}
	if o.json {
		w.printer = &resultPrinter{json.NewEncoder(w.out.out)}
	}
	return w
}

// run returns the exit status.
func (w *waiter) run(ids []tasks.ID) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	w.cancel = cancel
	signals, stop := w.env.Signals(false)
	defer stop()
	defer watchSignals(signals, func(os.Signal) { cancel(errInterrupted) })()
	if w.o.timeout > 0 {
		defer time.AfterFunc(w.o.timeout, func() { cancel(errWaited) }).Stop()
	}

	next := make(chan int) // places in ids
	var wg sync.WaitGroup
	for range min(maxWaits, len(ids)) {
		wg.Go(func() {
			for i := range next {
				if err := w.one(ctx, ids, i); err != nil && ctx.Err() == nil {
					w.mu.Lock()
					w.failed = append(w.failed, err)
					w.mu.Unlock()
				}
			}
		})
	}
	for i := range ids {
		next <- i
	}
	close(next)
	wg.Wait()
	return w.exit(context.Cause(ctx))
}

// one waits for the run or task that is the i-th.
func (w *waiter) one(ctx context.Context, ids []tasks.ID, i int) error {
	id := ids[i]
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	stream, err := w.client.AwaitRun(ctx, id)
	if err != nil {
		return err
	}
	defer stream.Close()
	s := stream.Submitted()
	if s.Several && s.Run == id {
		w.mu.Lock()
		w.several = true
		w.mu.Unlock()
	}
	labels, ended := newLabels(&s), 0
	for {
		e, err := stream.Next()
		switch {
		case errors.Is(err, io.EOF) && ended >= len(s.Tasks):
			return nil
		case err != nil:
			return whyCut(ctx, w.client, err, s.Run)
		case e.Type != api.StreamResult || e.Result == nil:
			continue
		}
		ended++
		label, order := e.Result.ID.String(), i
		if len(ids) == 1 {
			label, order = labels.of(&e), e.Index
		}
		w.result(label, order, &e)
	}
}

// result takes the last word on a task, once. The order is that of the lines about
// those that did not end with 0.
func (w *waiter) result(label string, order int, e *api.StreamEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := e.Result
	if w.ended[t.ID] {
		return
	}
	w.ended[t.ID] = true
	w.tally.add(t)
	w.last, w.label = t, label
	if exitOne(t) != exitOK {
		w.closing = append(w.closing, closingLine{order, label + ": " + how(t)})
	}
	if w.printer == nil {
		return
	}
	w.printer.event(label, e)
	if err := w.out.flush(); err != nil {
		w.cancel(notWritten(err))
	}
}

// exit says what did not go well, and returns the exit status. cause is why the
// waiting ended early, nil if it did not.
func (w *waiter) exit(cause error) int {
	switch {
	case errors.Is(cause, errInterrupted):
		return exitCancelled
	case errors.Is(cause, errWaited):
		w.env.note("not ended after %s; what has not goes on", shortDuration(w.o.timeout))
		return exitOwn
	case cause != nil:
		if w.env.fail(cause) == exitPipe {
			return exitPipe
		}
		return exitOwn
	}
	if !w.several {
		if w.last != nil && oddEnd(w.last, w.o.quiet) {
			w.env.note("%s: %s", w.label, how(w.last))
		}
	} else if !w.o.quiet {
		slices.SortStableFunc(w.closing, func(a, b closingLine) int { return a.index - b.index })
		for _, l := range w.closing {
			w.env.note("%s", l.text)
		}
	}
	for _, err := range w.failed {
		w.env.fail(err)
	}
	switch {
	case len(w.failed) > 0:
		return exitOwn
	case w.several || w.last == nil:
		return w.tally.exit()
	}
	return exitOne(w.last)
}

// whyTimeout is how long it may take to find out why a stream broke.
const whyTimeout = 5 * time.Second

// whyCut is cutShort for a run of any agent: when that has gone, the agent that was
// asked says so.
func whyCut(ctx context.Context, c *client.Client, broken error, run tasks.ID) error {
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	stream, err := c.AwaitRun(ctx, run)
	var own *api.Error
	switch {
	case err == nil:
		stream.Close()
	case errors.As(err, &own) && own.Code == api.CodeOwnerAway:
		return err
	}
	return cutShort(broken, run)
}
