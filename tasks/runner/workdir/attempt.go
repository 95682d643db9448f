package workdir

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// Config says where and as whom attempts run.
type Config struct {
	// Root is where work directories are made, an absolute path; it is made when
	// it is not there. With User, that user must be able to reach it.
	Root string
	// Grace is the time between asking a process to end and killing it.
	// Default: process.DefaultGrace, 5 s.
	Grace time.Duration
	// Linger is how long output is read after the process has exited when
	// something else holds it open. Default: process.DefaultLinger, 2 s.
	Linger time.Duration
	// Spares are lent to attempts without inputs. They are of User. nil: each
	// attempt has a directory made for it.
	Spares *Spares
	Nets   *process.Nets  // nil: none
	User   *process.User  // nil: the agent's own
	Limits process.Limits // of each process
}

// Check reports a value that cannot be.
func (c *Config) Check() error {
	switch {
	case !filepath.IsAbs(c.Root):
		return fmt.Errorf("config: Root is %q; want an absolute path", c.Root)
	case c.Grace < 0 || c.Linger < 0:
		return fmt.Errorf("config: Grace is %v, Linger is %v; want 0 for the default, or more", c.Grace, c.Linger)
	}
	return nil
}

// Run makes the work directory of an attempt with its inputs in it, calls do,
// adds the outputs to what that returns, and removes the directory. The spec
// that do is given lacks only Argv; its directory is Task.Dir or else the work
// directory.
func Run(ctx context.Context, cfg *Config, a *tasks.Attempt, do func(*Dir, *process.Spec) tasks.Outcome) (out tasks.Outcome) {
	started := time.Now()
	defer func() {
		if out.Started.IsZero() {
			out.Started = started
		}
		if out.Finished.IsZero() {
			out.Finished = time.Now()
		}
	}()
	if a.Task.Dir != "" {
		if err := CheckDir(a.Task.Dir); err != nil {
			return process.Failure(ctx, err)
		}
	}
	d, err := (*Dir)(nil), error(nil)
	if s := cfg.Spares; s != nil && len(a.Task.Inputs) == 0 {
		d = s.take()
		defer s.done()
	}
	if d == nil {
		d, err = Create(cfg.Root, a)
	}
	if err != nil {
		return unready(ctx, err)
	}
	defer func() {
		if err := d.Remove(); err != nil && out.Text == "" {
			out.Text = err.Error()
		}
	}()
	s, err := cfg.fill(ctx, d, a)
	if err != nil {
		return unready(ctx, err)
	}
	if c, ok := s.Stdin.(io.Closer); ok {
		defer c.Close()
	}
	out = do(d, s)
	d.CollectInto(ctx, a, &out)
	return out
}

// unready returns the outcome of an attempt for which no directory could be made ready,
// so that nothing of it ran: another machine, or this one later, may have what it takes.
func unready(ctx context.Context, err error) tasks.Outcome {
	out := process.Failure(ctx, err)
	if out.Code == tasks.Internal && process.Exhausted(err) {
		out.Code = tasks.Busy
	}
	return out
}

// Failed returns the outcome of an attempt that ended with err before it began.
func Failed(ctx context.Context, err error) tasks.Outcome {
	out := unready(ctx, err)
	out.Started = time.Now()
	out.Finished = out.Started
	return out
}

// fill puts the inputs into the directory and returns what processes in it are
// given.
func (c *Config) fill(ctx context.Context, d *Dir, a *tasks.Attempt) (*process.Spec, error) {
	env, err := d.Env(a)
	if err != nil {
		return nil, err
	}
	if err := d.Place(ctx, a); err != nil {
		return nil, err
	}
	if c.User != nil && d.user == nil {
		if err := d.Give(int(c.User.UID), int(c.User.GID)); err != nil {
			return nil, err
		}
	}
	stdin, err := Stdin(ctx, a)
	if err != nil {
		return nil, err
	}
	s := &process.Spec{
		Env: env, Dir: d.Path(), Stdin: stdin, Stdout: a.Stdout, Stderr: a.Stderr,
		Marks: Marks(a), Kill: a.Kill, Grace: c.Grace, Linger: c.Linger, Nets: c.Nets, User: c.User, Limits: c.Limits,
	}
	if a.Task.Dir != "" {
		s.Dir = a.Task.Dir
	}
	return s, nil
}

// CollectInto adds the task's outputs to the outcome of a program that has ended
// by itself. One that failed keeps its own failure; one that did not is failed by
// outputs that are missing.
func (d *Dir) CollectInto(ctx context.Context, a *tasks.Attempt, out *tasks.Outcome) {
	if len(a.Task.Outputs) == 0 || !ended(out.Code) {
		return
	}
	got, err := d.Collect(ctx, a)
	out.Outputs = got.Files
	if out.Code != tasks.OK {
		return
	}
	switch {
	case err != nil:
		failed := process.Failure(ctx, err)
		out.Code, out.Text = failed.Code, failed.Text
	case len(got.Missing) > 0:
		out.Code, out.Text = tasks.Failed, got.Text()
	default:
		out.Text = got.Text()
	}
}

// ended reports whether it is the code of a program that has ended by itself. Failed
// is one whose output was cut.
func ended(c tasks.Code) bool {
	return c == tasks.OK || c == tasks.Exit || c == tasks.Signalled || c == tasks.Failed
}
