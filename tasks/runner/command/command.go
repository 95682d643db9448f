package command

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// Config configures a Runner.
type Config struct {
	// Root is where work directories are made, an absolute path; it is made when
	// it is not there. With User, that user must be able to reach it.
	Root string
	// Shell runs shell lines, with -c. Default: /bin/sh; on windows cmd, with /C.
	Shell string
	// Grace is the time between asking a process to end and killing it.
	// Default: process.DefaultGrace, 5 s.
	Grace time.Duration
	// Linger is how long output is read after the process has exited when
	// something else holds it open. Default: process.DefaultLinger, 2 s.
	Linger time.Duration
	Nets   *process.Nets  // nil: none
	User   *process.User  // nil: the agent's own
	Limits process.Limits // of each process
}

// Runner runs commands. It may be used by any number of goroutines.
type Runner struct{ cfg Config } // constant

// New checks the configuration and returns a Runner. It makes nothing on disk.
func New(cfg Config) (*Runner, error) {
	if !filepath.IsAbs(cfg.Root) {
		return nil, fmt.Errorf("command: Root is %q; want an absolute path", cfg.Root)
	}
	if cfg.Grace < 0 || cfg.Linger < 0 {
		return nil, fmt.Errorf("command: Grace is %v, Linger is %v; want 0 for the default, or more", cfg.Grace, cfg.Linger)
	}
	if cfg.Shell == "" {
		cfg.Shell = "/bin/sh"
		if runtime.GOOS == "windows" {
			cfg.Shell = "cmd"
		}
	}
	return &Runner{cfg: cfg}, nil
}

// Run runs the attempt and returns when nothing of it runs any more.
func (r *Runner) Run(ctx context.Context, a *tasks.Attempt) (out tasks.Outcome) {
	defer func() {
		if out.Started.IsZero() {
			out.Started = time.Now()
		}
		if out.Finished.IsZero() {
			out.Finished = time.Now()
		}
	}()
	t := a.Task
	if t.Dir != "" {
		if err := workdir.CheckDir(t.Dir); err != nil {
			return process.Failure(ctx, err)
		}
	}
	dir, err := workdir.Create(r.cfg.Root, a)
	if err != nil {
		return process.Failure(ctx, err)
	}
	defer func() {
		if err := dir.Remove(); err != nil && out.Text == "" {
			out.Text = err.Error()
		}
	}()
	env, err := dir.Env(a)
	if err == nil {
		err = dir.Place(ctx, a)
	}
	if u := r.cfg.User; u != nil && err == nil {
		err = dir.Give(int(u.UID), int(u.GID))
	}
	var stdin io.Reader
	if err == nil {
		stdin, err = workdir.Stdin(ctx, a)
	}
	if err != nil {
		return process.Failure(ctx, err)
	}
	if c, ok := stdin.(io.Closer); ok {
		defer c.Close()
	}
	spec := &process.Spec{
		Argv: r.argv(t), Env: env, Dir: dir.Path(),
		Stdin: stdin, Stdout: a.Stdout, Stderr: a.Stderr,
		Marks: workdir.Marks(a), Kill: a.Kill, Grace: r.cfg.Grace, Linger: r.cfg.Linger,
		Nets: r.cfg.Nets, User: r.cfg.User, Limits: r.cfg.Limits,
	}
	if t.Dir != "" {
		spec.Dir = t.Dir
	}
	ex, err := process.Run(ctx, spec)
	if err != nil {
		return process.Failure(ctx, err)
	}
	out = ex.Outcome(ctx)
	if ex.Stopped == 0 {
		collect(ctx, dir, a, &out)
	}
	return out
}

func (r *Runner) argv(t *tasks.Task) []string {
	switch {
	case t.Shell == "":
		return t.Argv
	case runtime.GOOS == "windows":
		return []string{r.cfg.Shell, "/C", t.Shell}
	}
	return []string{r.cfg.Shell, "-c", t.Shell}
}

// collect adds the outputs. A command that failed keeps its own failure.
func collect(ctx context.Context, dir *workdir.Dir, a *tasks.Attempt, out *tasks.Outcome) {
	got, err := dir.Collect(ctx, a)
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
