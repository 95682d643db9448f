package command

import (
	"context"
	"fmt"
	"runtime"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// Config configures a Runner: where and as whom commands are run.
type Config struct {
	workdir.Config
	// Shell runs shell lines, with -c. Default: /bin/sh; on windows cmd, with /C.
	Shell string
}

// Runner runs commands. It may be used by any number of goroutines.
type Runner struct{ cfg Config } // constant

// New checks the configuration and returns a Runner. It makes nothing on disk.
func New(cfg Config) (*Runner, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("command: %w", err)
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
func (r *Runner) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	return workdir.Run(ctx, &r.cfg.Config, a, func(_ *workdir.Dir, s *process.Spec) tasks.Outcome {
		s.Argv = r.argv(a.Task)
		ex, err := process.Run(ctx, s)
		if err != nil {
			return process.Failure(ctx, err)
		}
		return ex.Outcome(ctx)
	})
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
