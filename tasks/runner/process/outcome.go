package process

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/scagent/scagent/tasks"
)

// Outcome returns what the end of the attempt's only process makes of it. ctx
// is the one that Run was given.
func (ex *Exit) Outcome(ctx context.Context) tasks.Outcome {
	out := tasks.Outcome{
		Signal: ex.Signal, Started: ex.Started, Finished: ex.Finished,
		User: ex.User, System: ex.System, MaxRSS: ex.MaxRSS,
		StdoutBytes: ex.StdoutBytes, StderrBytes: ex.StderrBytes,
	}
	switch {
	case ex.Stopped != 0:
		out.Code, out.Text = stopped(ctx, ex.Stopped)
		if ex.NotStarted {
			out.Text += ", before it was started"
		}
	case ex.Signal != "":
		out.Code, out.Text = tasks.Signalled, "killed by "+ex.Signal
	case ex.Status != 0:
		out.Code, out.Exit, out.Text = tasks.Exit, ex.Status, fmt.Sprintf("exit status %d", ex.Status)
	}
	if ex.OutputCut {
		if out.Code == tasks.OK {
			out.Code = tasks.Failed // who pipes the output on must not take it for whole
		}
		out.Text = strings.TrimPrefix(out.Text+"; it wrote more than this worker's limit, and the rest was dropped", "; ")
	}
	return out
}

// Outcome returns the outcome of an attempt whose program could not be started.
func (e *StartError) Outcome() tasks.Outcome {
	return tasks.Outcome{Code: e.Code, Exit: e.Status(), Text: e.Text}
}

// Failure returns the outcome of an attempt that ended with err: that of the
// first error in it that has one (an Outcome method), else one of a stop when
// ctx has ended, else Internal.
func Failure(ctx context.Context, err error) tasks.Outcome {
	var own interface{ Outcome() tasks.Outcome }
	switch {
	case errors.As(err, &own):
		return own.Outcome()
	case ctx.Err() != nil:
		code, text := Stopped(ctx)
		return tasks.Outcome{Code: code, Text: text}
	}
	return tasks.Outcome{Code: tasks.Internal, Text: err.Error()}
}

// Exhausted says that the machine, or the agent, has no more of something that others
// may give back soon: files, processes or memory.
func Exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM)
}

// Reason returns why ctx, which has ended, asks to stop: the reason of its
// *tasks.StopError, or what comes nearest for a plain context.
func Reason(ctx context.Context) tasks.StopReason {
	cause := context.Cause(ctx)
	var stop *tasks.StopError
	switch {
	case errors.As(cause, &stop):
		return stop.Reason
	case errors.Is(cause, context.DeadlineExceeded):
		return tasks.StopTimeout
	}
	return tasks.StopCancel
}

// Stopped returns the code and the line of an Outcome for an attempt that was
// stopped because ctx has ended.
func Stopped(ctx context.Context) (tasks.Code, string) { return stopped(ctx, Reason(ctx)) }

func stopped(ctx context.Context, reason tasks.StopReason) (tasks.Code, string) {
	if reason != tasks.StopTimeout {
		return tasks.Cancelled, (&tasks.StopError{Reason: reason}).Error()
	}
	var stop *tasks.StopError
	if errors.As(context.Cause(ctx), &stop) {
		return tasks.Timeout, stop.Error()
	}
	return tasks.Timeout, "timed out"
}
