package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

const (
	// maxWaitingEvents is how many events are read ahead of what is printed. The
	// reader waits when there are more, and then so do the tasks.
	maxWaitingEvents = 64
	// pipeGrace is how long the tasks are waited for when nobody reads their
	// output any more and they have been told to stop.
	pipeGrace = 10 * time.Second
)

// follower reads what happens to a run, and has it printed.
type follower struct {
	env     *Env
	o       *submitOptions
	client  *client.Client
	stop    *interrupter
	stream  *client.Stream
	several bool
	labels  *labels
	out     *streams
	printer printer
	files   *fileWriter // nil: none were asked for

	ended   int // tasks
	tally   tally
	last    *api.TaskStatus // that ended
	closing []closingLine
	failed  error // files that could not be written, of one target
}

// closingLine says how a task that did not end with 0 did.
type closingLine struct {
	index int
	text  string
}

func newFollower(e *Env, o *submitOptions, c *client.Client, stop *interrupter, stream *client.Stream) *follower {
	s := stream.Submitted()
	f := &follower{env: e, o: o, client: c, stop: stop, stream: stream, several: s.Several, labels: newLabels(&s), out: newStreams(e)}
	f.printer = newPrinter(o, f.several, e.color(), f.out)
	if len(o.outputs) > 0 {
		f.files = &fileWriter{client: c, dir: o.outDir}
	}
	return f
}

// run returns the exit status, or an error of scagent's own.
func (f *follower) run(ctx context.Context) (int, error) {
	a := readAhead(f.stream)
	defer a.close()
	events := a.events
	for e := range events {
		f.event(ctx, &e)
		if len(events) > 0 {
			continue // written together with what follows
		}
		if err := f.out.flush(); err != nil {
			return f.unwritten(err, events)
		}
	}
	f.printer.end()
	if err := f.out.flush(); err != nil {
		return f.unwritten(err, events)
	}
	if f.ended < len(f.stream.Submitted().Tasks) {
		if f.stop.hit() {
			return exitCancelled, nil // the second time
		}
		return 0, cutShort(a.broken, f.stream.Submitted().Run)
	}
	f.close()
	return f.exit(), nil
}

// ahead reads a stream ahead of what is printed.
type ahead struct {
	stream *client.Stream
	events chan api.StreamEvent // closed when there are no more
	quit   chan struct{}
	broken error // why there are no more; read after events is closed
}

func readAhead(s *client.Stream) *ahead {
	a := &ahead{stream: s, events: make(chan api.StreamEvent, maxWaitingEvents), quit: make(chan struct{})}
	go func() {
		defer close(a.events)
		for {
			e, err := s.Next()
			if err != nil {
				a.broken = err
				return
			}
			select {
			case a.events <- e:
			case <-a.quit:
				return
			}
		}
	}()
	return a
}

// close ends the stream and waits for the reader.
func (a *ahead) close() {
	close(a.quit)
	a.stream.Close()
	for range a.events {
	}
}

// cutShort is the error of a stream that broke before the tasks of a run had ended.
func cutShort(broken error, run tasks.ID) error {
	if broken == nil || errors.Is(broken, io.EOF) {
		broken = errors.New("the agent hung up")
	}
	return fmt.Errorf("%w; run %s may go on, see: scagent status %s", broken, run, run)
}

// unwritten stops the tasks because what they write goes nowhere, and waits for
// them a while.
func (f *follower) unwritten(err error, events <-chan api.StreamEvent) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), pipeGrace)
	defer cancel()
	if f.ended < len(f.stream.Submitted().Tasks) {
		_, cancelErr := f.client.Cancel(ctx, f.stream.Submitted().Run, tasks.StopCancel)
		for cancelErr == nil {
			select {
			case _, ok := <-events:
				if ok {
					continue
				}
			case <-ctx.Done():
			}
			break
		}
	}
	if err = notWritten(err); errors.Is(err, errClosed) {
		return exitPipe, nil
	}
	return 0, err
}

func (f *follower) event(ctx context.Context, e *api.StreamEvent) {
	label := f.labels.of(e)
	if e.Type == api.StreamAgain && !f.o.quiet {
		f.say(fmt.Sprintf("%s: starts anew, attempt %d; what it printed before is void", label, e.Attempt))
	}
	if e.Type == api.StreamResult && e.Result == nil {
		return // no task to speak of
	}
	f.printer.event(label, e)
	if e.Type == api.StreamResult {
		f.result(ctx, label, e)
	}
}

// result takes the last word on a task.
func (f *follower) result(ctx context.Context, label string, e *api.StreamEvent) {
	t := e.Result
	f.ended++
	f.last = t
	var err error
	if f.files != nil {
		sub := ""
		if f.several {
			sub = f.labels.dir(e)
		}
		err = f.files.write(ctx, sub, t.Outputs)
	}
	if err != nil {
		f.failed = err
	}
	switch {
	case !f.several:
	case exitOne(t) != exitOK:
		f.closing = append(f.closing, closingLine{e.Index, label + ": " + how(t)})
	case err != nil:
		f.tally.bad++
		f.closing = append(f.closing, closingLine{e.Index, label + ": " + clean(err.Error())})
	}
	f.tally.add(t)
}

// say writes a message in its place among the output.
func (f *follower) say(text string) { f.out.to(stderr).WriteString("scagent: " + text + "\n") }

// close says what did not go well.
func (f *follower) close() {
	if !f.several {
		if oddEnd(f.last, f.o.quiet) {
			f.say(f.labels.of(&api.StreamEvent{Result: f.last, Index: f.last.Index}) + ": " + how(f.last))
		}
	} else if !f.o.quiet {
		slices.SortStableFunc(f.closing, func(a, b closingLine) int { return a.index - b.index })
		for _, l := range f.closing {
			f.say(l.text)
		}
	}
	f.out.flush() // standard error, of which nobody can be told
}

// oddEnd reports whether it has to be said how the task of one target ended: its
// exit status alone does not tell.
func oddEnd(t *api.TaskStatus, quiet bool) bool {
	status := exitOne(t)
	return t.Reason != tasks.Exit && status != exitOK && (!quiet || status == exitOwn)
}

func (f *follower) exit() int {
	switch {
	case f.stop.hit():
		return exitCancelled
	case f.several:
		return f.tally.exit()
	case f.failed != nil:
		f.env.fail(f.failed)
		return exitOwn
	}
	return exitOne(f.last)
}
