package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// answerTimeout is how long a child may take to answer once its script was
// interrupted. The engine may be in the middle of one long step.
const answerTimeout = time.Second

// Call evaluates a script for an attempt in a child, and returns when nothing of
// it runs any more.
func (p *Pool) Call(ctx context.Context, a *tasks.Attempt, s *Script) (out tasks.Outcome) {
	if n := s.size(); n > maxCallBytes {
		return tasks.Outcome{Code: tasks.BadInput,
			Text: fmt.Sprintf("the source and its arguments take %d bytes, at most %d; send data as files", n, maxCallBytes)}
	}
	c, err := p.get(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return stopped(ctx)
	case errors.Is(err, errClosed):
		return tasks.Outcome{Code: tasks.Cancelled, Text: "stopped: " + err.Error()}
	default:
		return tasks.Outcome{Code: tasks.Internal, Text: line(err.Error())}
	}
	again := false
	defer func() { p.put(c, again) }() // also after the panic of a writer
	c.number++
	defer c.watch(ctx, a.Kill, p.answerTimeout)()

	c.buf = appendCall(c.buf[:0], c.number, s)
	err = c.send(c.buf)
	if cap(c.buf) > maxOutputBytes {
		c.buf = nil
	}
	for err == nil {
		var r answer
		if r, err = readAnswer(c.out); err != nil {
			break
		}
		switch r.kind {
		case frameStdout:
			write(a.Stdout, r.output)
		case frameStderr:
			write(a.Stderr, r.output)
		case frameResult:
			again = r.held <= min(maxHeld, uint64(p.cfg.Setup.MemoryBytes)/2)
			if ctx.Err() != nil {
				return stopped(ctx)
			}
			return r.outcome
		default:
			err = unexpected(r.kind, 0)
		}
	}
	return p.died(ctx, a, c, err)
}

// write hands output on; that nobody reads it does not concern the script.
func write(w io.Writer, p []byte) {
	if w != nil {
		w.Write(p)
	}
}

// stopped is the outcome of an attempt whose context has ended.
func stopped(ctx context.Context) (out tasks.Outcome) {
	out.Code, out.Text = process.Stopped(ctx)
	return out
}

// watch stops the child's script when ctx ends or kill closes, until the function
// that it returns has returned. An interrupted script has that long to answer.
func (c *proc) watch(ctx context.Context, kill <-chan struct{}, answer time.Duration) (end func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	number := c.number
	go func() {
		defer close(ended)
		select {
		case <-done:
			return
		case <-kill:
			c.kill()
			return
		case <-ctx.Done():
		}
		if process.Reason(ctx) == tasks.StopKill {
			c.kill()
			return
		}
		late := time.AfterFunc(answer, c.kill)
		defer func() {
			if !late.Stop() {
				c.kill() // perhaps before the timer does: nobody calls it again
			}
		}()
		c.send(interruptFrame(number)) // an error: it is gone
		select {
		case <-done:
		case <-kill:
			c.kill()
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// died is the outcome of a call to a child that did not answer, because of err.
func (p *Pool) died(ctx context.Context, a *tasks.Attempt, c *proc, err error) tasks.Outcome {
	c.kill()
	<-c.exited
	switch {
	case ctx.Err() != nil:
		return stopped(ctx)
	case p.ctx.Err() != nil:
		return tasks.Outcome{Code: tasks.Cancelled, Text: "stopped: " + errClosed.Error()}
	case closed(a.Kill):
		return tasks.Outcome{Code: tasks.Cancelled, Text: (&tasks.StopError{Reason: tasks.StopKill}).Error()}
	case errors.As(err, new(violation)):
		return tasks.Outcome{Code: tasks.Panic, Text: "panic: the script's process answered with " + err.Error()}
	}
	out, unknown := p.reason(c)
	if unknown {
		write(a.Stderr, []byte(c.said.String()))
	}
	return out
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
