package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/scagent/scagent/tasks/runner/helper"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// Name is that of the helper whose work Main does.
const Name = "supervisor"

const (
	// record is the file in a brood's directory that has the process.Brood.
	record = ".brood"
	// exitTimeout is how long Close waits for the supervisor process to exit.
	exitTimeout = 5 * time.Second
	// The supervisor process is started again after this time, doubled each time.
	firstPause, lastPause = 100 * time.Millisecond, time.Minute
)

// Config configures a Supervisor.
type Config struct {
	// Root is the directory below which the directories of this agent and of those
	// before it are, an absolute path. Whoever opens a Supervisor on it must be the
	// only one: what it finds there is of agents that have died.
	Root string
	User *process.User // as whom tasks run; nil: as the agent
	// Mark returns how an entry of the environment begins that all have whose
	// directory is below dir, and nobody else, see process.Brood. nil: workdir.Mark.
	Mark func(dir string) string
	// Helper starts the supervisor process, if the program has helpers.
	Helper bool
	// Remove is a directory that goes when the agent has died, as a temporary state
	// directory should; empty: none.
	Remove string
	Logger *log.Logger
}

// Supervisor is the agent's side of it. Its methods may be called by any goroutine.
type Supervisor struct {
	cfg  Config        // constant
	dir  string        // constant
	nets *process.Nets // constant

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the goroutine that removes directories of the dead, and the one that waits for the child

	mu     sync.Mutex // guards the fields below
	child  *child     // nil: none runs
	closed bool
}

// Open kills what earlier agents have left, begins to remove their directories,
// and starts the supervisor process. It must be closed.
func Open(cfg Config) (*Supervisor, error) {
	s := &Supervisor{cfg: cfg}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := workdir.MakeRoot(cfg.Root); err != nil {
		return nil, fmt.Errorf("work directories: %w", err)
	}
	dead, err := os.ReadDir(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("work directories: %w", err)
	}
	for _, d := range dead {
		b := broodOf(filepath.Join(cfg.Root, d.Name()))
		b.Kill()
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.wg.Go(func() {
		for _, d := range dead {
			if err := workdir.RemoveRoot(s.ctx, filepath.Join(cfg.Root, d.Name())); err != nil && s.ctx.Err() == nil {
				cfg.Logger.Printf("[WARN] supervisor: what a dead agent left is not removed: dir=%q err=%q", d.Name(), err)
			}
		}
	})
	return s, nil
}

// open makes what is of this agent.
func (s *Supervisor) open() (err error) {
	if s.dir, err = os.MkdirTemp(s.cfg.Root, "agent-"); err != nil {
		return fmt.Errorf("work directories: %w", err)
	}
	if err := workdir.MakeRoot(s.dir); err != nil {
		return fmt.Errorf("work directories: %w", err)
	}
	mark := workdir.Mark
	if s.cfg.Mark != nil {
		mark = s.cfg.Mark
	}
	b := process.Brood{Dir: s.dir, Mark: mark(s.dir)}
	if s.nets, err = process.OpenNets(b, s.cfg.User, s.cfg.Logger); err != nil {
		return fmt.Errorf("work directories: %w", err)
	}
	text, err := json.Marshal(s.nets.Brood())
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, record), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("work directories: %w", err)
	}
	if !s.cfg.Helper {
		return nil
	}
	c, err := s.startChild()
	switch {
	case errors.Is(err, helper.ErrUnavailable):
		s.cfg.Logger.Printf("[DEBUG] supervisor: there is no supervisor process: err=%q", err)
		return nil
	case err != nil:
		return fmt.Errorf("start the supervisor process: %w", err)
	}
	s.child = c
	s.wg.Go(func() { s.keep(c) })
	return nil
}

// broodOf returns the brood whose directory that is.
func broodOf(dir string) process.Brood {
	var b process.Brood
	if text, err := os.ReadFile(filepath.Join(dir, record)); err == nil && json.Unmarshal(text, &b) == nil && b.Dir != "" {
		return b
	}
	return process.Brood{Dir: dir, Mark: workdir.Mark(dir)}
}

// Dir is where this agent's work directories are to be made.
func (s *Supervisor) Dir() string { return s.dir }

// Nets hold what tasks start.
func (s *Supervisor) Nets() *process.Nets { return s.nets }

// keep waits for the child, and starts another when it ends before Close.
func (s *Supervisor) keep(c *child) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if c != nil {
			err := c.cmd.Wait()
			c.pipe.Close()
			s.mu.Lock()
			s.child = nil
			closed := s.closed
			s.mu.Unlock()
			if closed {
				return
			}
			s.cfg.Logger.Printf("[WARN] supervisor: the supervisor process has ended and is started again: in=%s err=%q", pause, fmt.Sprint(err))
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(pause):
		}
		var err error
		if c, err = s.startChild(); err != nil {
			s.cfg.Logger.Printf("[WARN] supervisor: the supervisor process cannot be started: err=%q", err)
			c = nil
		}
		s.mu.Lock()
		s.child = c
		if s.closed && c != nil {
			c.dismiss()
		}
		s.mu.Unlock()
	}
}

// Close kills what still runs of the agent's tasks, removes its directory, and
// ends the supervisor process. It is to be called when every process.Run has
// returned, and may be called twice.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	errs := []error{s.nets.Close()}
	if s.dir != "" {
		errs = append(errs, workdir.RemoveRoot(context.Background(), s.dir))
	}
	s.mu.Lock()
	if c := s.child; c != nil {
		c.dismiss()
		stuck := time.AfterFunc(exitTimeout, func() { c.cmd.Process.Kill() })
		defer stuck.Stop()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return errors.Join(errs...)
}

// child is the supervisor process as the agent sees it.
type child struct {
	cmd  *exec.Cmd // keep waits for it
	pipe *os.File  // ends when the agent does
}

// dismiss ends the process: the agent has tidied up itself.
func (c *child) dismiss() { c.pipe.WriteString("\n") } // an error: it has ended
