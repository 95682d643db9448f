package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// mapper gives inputs to a batch, reads what happens to its tasks, and has it
// printed. One goroutine does the first, another all the rest.
type mapper struct {
	env      *Env
	o        *mapOptions
	client   *client.Client
	stop     *interrupter
	batch    *client.Batch
	template *taskTemplate
	log      *joblog
	labels   *labels
	out      *streams
	printer  printer
	whole    *wholePrinter // the printer, if it is one
	bar      *bar
	files    *fileWriter    // nil: none were asked for
	wg       sync.WaitGroup // what -halt asks of the agent

	tally   tally
	ended   int
	closing []string // how the first that failed ended
	halted  bool
	refused error // why the agent took no more tasks
	failed  error // files that could not be written

	// mu guards the fields below; it is not held over I/O.
	mu      sync.Mutex
	turn    sync.Cond        // printed, or over, has changed
	open    map[int]*openJob // by the index of the task
	sent    int              // tasks
	printed int              // with -k: tasks that had their turn
	skipped int              // inputs
	all     bool             // there are no more inputs
	over    bool             // no more are wanted
	bad     error            // inputs that could not be read
}

// openJob is an input whose task has not ended.
type openJob struct {
	mapInput
	order    int   // among those that were sent, from 0
	received int64 // bytes that its last attempt wrote
}

func newMapper(e *Env, o *mapOptions, c *client.Client, stop *interrupter, b *client.Batch, log *joblog) *mapper {
	s := b.Submitted()
	m := &mapper{env: e, o: o, client: c, stop: stop, batch: b, log: log, labels: newLabels(&s), out: newStreams(e), bar: newBar(e, o), open: map[int]*openJob{}}
	m.turn.L = &m.mu
	m.printer, m.whole = newMapPrinter(o, m.out)
	if len(o.outputs) > 0 {
		m.files = &fileWriter{client: c, dir: o.outDir}
	}
	return m
}

// feed adds a task for each input until there are no more, or no more are wanted.
func (m *mapper) feed() {
	defer m.batch.Seal()
	for in, err := range m.o.all(m.env.Stdin) {
		if err != nil {
			m.mu.Lock()
			m.bad = err
			m.mu.Unlock()
			return
		}
		if m.log.skips(in.seq) {
			m.mu.Lock()
			m.skipped++
			m.mu.Unlock()
			continue
		}
		if !m.note(in) || m.batch.Add(m.template.task(&in)) != nil {
			return
		}
	}
	m.mu.Lock()
	m.all = true
	m.mu.Unlock()
}

// note takes note of an input before its task is sent. With -k it waits until few
// enough wait for their turn. It reports whether to send it.
func (m *mapper) note(in mapInput) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.o.keep && m.sent-m.printed >= m.o.limit() && !m.over {
		m.turn.Wait()
	}
	if m.over || m.stop.hit() {
		return false
	}
	m.open[int(in.index)] = &openJob{mapInput: in, order: m.sent}
	m.sent++
	return true
}

// finish says that no more inputs are wanted.
func (m *mapper) finish() {
	m.mu.Lock()
	m.over = true
	m.turn.Broadcast()
	m.mu.Unlock()
}

// mapEvent is what the agent says: an event, with the error that it is about.
type mapEvent struct {
	api.StreamEvent
	err error
}

// run returns the exit status, or an error of scagent's own.
func (m *mapper) run(ctx context.Context) (int, error) {
	events := make(chan mapEvent, maxWaitingEvents)
	quit := make(chan struct{})
	var broken error // why the stream ended; read after events is closed
	go func() {
		defer close(events)
		for {
			e, err := m.batch.Next()
			var refused *api.Error
			if err != nil && !errors.As(err, &refused) {
				broken = err
				return
			}
			select {
			case events <- mapEvent{e, err}:
			case <-quit:
				return
			}
		}
	}()
	// It may still wait for standard input when all else is over, for good.
	go m.feed()
	defer func() {
		m.finish()
		close(quit)
		m.batch.Close()
		for range events { // until the reader has ended
		}
		m.wg.Wait()
	}()

	var tick <-chan time.Time
	if m.bar != nil {
		t := time.NewTicker(barEvery)
		defer t.Stop()
		tick = t.C
	}
	for more := true; more; {
		var e mapEvent
		select {
		case e, more = <-events:
		case <-tick:
			m.draw()
			continue
		}
		if more {
			m.event(ctx, &e)
		} else {
			m.printer.end()
		}
		if len(events) > 0 {
			continue // written together with what follows
		}
		if err := m.flush(); err != nil {
			return m.unwritten(err, events)
		}
	}
	return m.close(broken)
}

// flush writes what is buffered.
func (m *mapper) flush() error {
	if m.out.out.Buffered()+m.out.err.Buffered() > 0 {
		m.bar.clear()
	}
	if err := m.log.flush(); err != nil {
		return err
	}
	if err := m.out.flush(); err != nil {
		return fmt.Errorf("write standard output: %w", err)
	}
	return nil
}

func (m *mapper) draw() {
	m.mu.Lock()
	total, known := m.o.total()
	if known {
		total -= m.skipped
	} else {
		total, known = m.sent, m.all
	}
	m.mu.Unlock()
	m.bar.draw(m.ended, m.tally.bad, total, known)
}

// unwritten stops the tasks because what they write goes nowhere, and waits for
// them a while.
func (m *mapper) unwritten(err error, events <-chan mapEvent) (int, error) {
	m.finish()
	ctx, cancel := context.WithTimeout(context.Background(), pipeGrace)
	defer cancel()
	_, cancelErr := m.client.Cancel(ctx, m.batch.Submitted().Run, tasks.StopCancel)
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
	if errors.Is(err, syscall.EPIPE) {
		return exitPipe, nil
	}
	return 0, err
}

func (m *mapper) event(ctx context.Context, e *mapEvent) {
	m.mu.Lock()
	job := m.open[e.Index]
	if job != nil && e.Type == api.StreamResult {
		delete(m.open, e.Index)
	}
	m.mu.Unlock()
	if e.err != nil {
		m.refuse(job, e.err)
		return
	}
	if job == nil || e.Type == api.StreamResult && e.Result == nil {
		return // of no task that was sent
	}
	label := m.labels.of(&e.StreamEvent)
	switch e.Type {
	case api.StreamOutput:
		job.received += int64(len(e.DataBase64))
	case api.StreamAgain:
		if job.received = 0; m.o.lines && !m.o.quiet {
			m.say(fmt.Sprintf("input %d: starts anew, attempt %d; what it printed before is void", job.seq, e.Attempt))
		}
	}
	if m.whole == nil {
		m.printer.event(label, &e.StreamEvent)
	} else {
		ordered := e.StreamEvent
		ordered.Index = job.order
		m.printer.event(label, &ordered)
	}
	if e.Type == api.StreamResult {
		m.result(ctx, label, job, e.Result)
	}
}

// refuse takes note that the agent takes no more tasks. It does not either when the
// run was stopped.
func (m *mapper) refuse(job *openJob, err error) {
	if !errors.Is(err, tasks.ErrSealed) {
		if job != nil && !errors.Is(err, tasks.ErrNoMatch) {
			err = fmt.Errorf("input %d, %q: %w", job.seq, shorten(job.text, 80), err)
		}
		m.refused = err
	}
	m.finish()
}

// result takes the last word on a task.
func (m *mapper) result(ctx context.Context, label string, job *openJob, t *api.TaskStatus) {
	m.ended++
	if m.whole != nil && m.o.keep {
		m.mu.Lock()
		m.printed = m.whole.next
		m.turn.Broadcast()
		m.mu.Unlock()
	}
	if cancelled(t) {
		if !m.halted {
			m.tally.add(t)
		}
		return
	}
	if m.files != nil {
		if err := m.files.write(ctx, strconv.Itoa(job.seq), t.Outputs); err != nil {
			m.failed = fmt.Errorf("input %d: %w", job.seq, err)
		}
	}
	if m.log != nil {
		received := job.received
		if m.o.batch().Kept {
			received = keptBytes(t)
		}
		m.log.add(&job.mapInput, m.template.line(&job.mapInput), t, received)
	}
	m.tally.add(t)
	if exitOne(t) != exitOK && len(m.closing) < maxClosing {
		m.closing = append(m.closing, fmt.Sprintf("input %d, %s, on %s: %s", job.seq, strconv.Quote(shorten(job.text, 40)), label, how(t)))
	}
	if !m.halted && m.o.halt.due(m.tally.bad, m.ended) {
		m.halt()
	}
}

// maxClosing is how many lines say at the end what did not end with 0.
const maxClosing = 10

// keptBytes is how much a task wrote, of which the result has what was kept.
func keptBytes(t *api.TaskStatus) int64 {
	n := t.StdoutCutBytes + t.StderrCutBytes + int64(len(t.StdoutBase64)+len(t.StderrBase64))
	for _, s := range []*string{t.Stdout, t.Stderr} {
		if s != nil {
			n += int64(len(*s))
		}
	}
	return n
}

// halt stops what was sent: all of it, or what has not started.
func (m *mapper) halt() {
	m.halted = true
	m.finish()
	m.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		run := m.batch.Submitted().Run
		var err error
		if m.o.halt.now {
			_, err = m.client.Cancel(ctx, run, tasks.StopCancel)
		} else {
			_, err = m.client.Drop(ctx, run)
		}
		if err != nil && !errors.Is(err, tasks.ErrUnknown) { // there is nothing left of it
			m.env.note("cannot stop run %s: %s", run, clean(err.Error()))
		}
	})
}

// say writes a message in its place among the output.
func (m *mapper) say(text string) { m.out.to(stderr).WriteString("scagent: " + text + "\n") }

// close says what did not go well, and returns the exit status.
func (m *mapper) close(broken error) (int, error) {
	m.mu.Lock()
	left, bad := len(m.open), m.bad
	m.mu.Unlock()
	if m.bar != nil {
		m.draw()
		io.WriteString(m.env.Stderr, "\n")
	}
	if !m.o.quiet {
		for _, l := range m.closing {
			m.say(l)
		}
		if more := m.tally.bad - m.tally.cancelled - len(m.closing); more > 0 {
			m.say(fmt.Sprintf("%d more did not end with 0", more))
		}
		if m.halted {
			m.say(fmt.Sprintf("halted after %d of %d tasks failed", m.tally.bad, m.ended))
		}
		m.out.flush() // standard error, of which nobody can be told
	}
	switch {
	case m.stop.hit():
		return exitCancelled, nil
	case broken != nil && !errors.Is(broken, io.EOF):
		return 0, broken
	case m.refused != nil:
		return 0, m.refused
	case bad != nil:
		return 0, bad
	case m.failed != nil:
		return 0, m.failed
	case left > 0 && !m.halted && m.tally.cancelled == 0:
		return 0, errors.New("the agent hung up; what was running is cancelled")
	}
	return m.tally.exit(), nil
}
