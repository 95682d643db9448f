package js

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/js/child"
	"github.com/scagent/scagent/tasks/runner/process"
)

// What a Config of zeros means.
const (
	DefaultMemoryBytes    = 512 << 20
	DefaultCachedPrograms = 256
	DefaultCachedBytes    = 16 << 20
)

// Config configures a Runner. Zeros are the defaults.
type Config struct {
	// MemoryBytes is how much memory a script is given, by a child on linux.
	// Default: 512 MiB.
	MemoryBytes int64
	// User is as whom children run. Default: the user of this process.
	User *process.User
	// InProcess evaluates scripts inside this process, where nothing bounds them.
	InProcess bool

	// CachedPrograms is how many compiled programs a process keeps, those used
	// last. Default: 256.
	CachedPrograms int
	// CachedBytes is how much source the kept programs have, all told; what is
	// compiled from it comes on top. Default: 16 MiB.
	CachedBytes int
}

// Runner runs JavaScript. It may be used by any number of goroutines.
type Runner struct {
	children *child.Pool // nil: scripts are evaluated here
	programs *cache      // for scripts that are
}

// New returns a Runner. It evaluates scripts in child processes if the program
// knows Child as a helper of the name Helper, see package helper.
func New(cfg Config) *Runner {
	if cfg.MemoryBytes <= 0 {
		cfg.MemoryBytes = DefaultMemoryBytes
	}
	if cfg.CachedPrograms <= 0 {
		cfg.CachedPrograms = DefaultCachedPrograms
	}
	if cfg.CachedBytes <= 0 {
		cfg.CachedBytes = DefaultCachedBytes
	}
	r := &Runner{programs: newCache(cfg.CachedPrograms, cfg.CachedBytes)}
	if !cfg.InProcess {
		r.children, _ = child.New(child.Config{ // the error: there is no helper
			Helper: Helper, User: cfg.User,
			Setup: child.Setup{MemoryBytes: cfg.MemoryBytes, CachedPrograms: cfg.CachedPrograms, CachedBytes: cfg.CachedBytes},
		})
	}
	return r
}

// Run runs the attempt and returns when nothing of it runs any more.
func (r *Runner) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	started := time.Now()
	out := r.run(ctx, a)
	out.Started, out.Finished = started, time.Now()
	return out
}

func (r *Runner) run(ctx context.Context, a *tasks.Attempt) (out tasks.Outcome) {
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	s := &child.Script{Source: a.Task.Source, Args: a.Task.Args, Seed: seed(a)}
	if r.children == nil {
		return evaluate(ctx, r.programs, s, a.Stdout, a.Stderr)
	}
	defer func() {
		if p := recover(); p != nil { // of a writer
			out = panicked(p, a.Stderr)
		}
	}()
	return r.children.Call(ctx, a, s)
}

// Close ends the child processes, whatever they do, and waits for that. Attempts
// that ran in them end as cancelled.
func (r *Runner) Close() error {
	if r.children == nil {
		return nil
	}
	return r.children.Close()
}

// seed differs from attempt to attempt.
func seed(a *tasks.Attempt) [2]uint64 {
	return [2]uint64{
		binary.BigEndian.Uint64(a.ID[:8]) ^ uint64(a.N),
		binary.BigEndian.Uint64(a.ID[8:]),
	}
}
