package js

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/scagent/scagent/tasks"
)

// What a Config of zeros means.
const (
	DefaultCachedPrograms = 256
	DefaultCachedBytes    = 16 << 20
)

// Config configures a Runner. Zeros are the defaults.
type Config struct {
	// CachedPrograms is how many compiled programs are kept, those used last.
	// Default: 256.
	CachedPrograms int
	// CachedBytes is how much source the kept programs have, all told; what is
	// compiled from it comes on top. Default: 16 MiB.
	CachedBytes int
}

// Runner runs JavaScript. It may be used by any number of goroutines.
type Runner struct{ programs *cache }

// New returns a Runner.
func New(cfg Config) *Runner {
	if cfg.CachedPrograms <= 0 {
		cfg.CachedPrograms = DefaultCachedPrograms
	}
	if cfg.CachedBytes <= 0 {
		cfg.CachedBytes = DefaultCachedBytes
	}
	return &Runner{programs: newCache(cfg.CachedPrograms, cfg.CachedBytes)}
}

// Run runs the attempt and returns when nothing of it runs any more.
func (r *Runner) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	started := time.Now()
	out := r.run(ctx, a)
	out.Started, out.Finished = started, time.Now()
	return out
}

func (r *Runner) run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	p, err := r.programs.get(a.Task.Source)
	if err != nil {
		return tasks.Outcome{Code: tasks.BadInput, Text: err.Error()}
	}
	return Eval(ctx, &Call{Program: p, Args: a.Task.Args, Seed: seed(a), Stdout: a.Stdout, Stderr: a.Stderr})
}

// seed differs from attempt to attempt.
func seed(a *tasks.Attempt) [2]uint64 {
	return [2]uint64{
		binary.BigEndian.Uint64(a.ID[:8]) ^ uint64(a.N),
		binary.BigEndian.Uint64(a.ID[8:]),
	}
}
