package child

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/scagent/scagent/tasks/runner/helper"
	"github.com/scagent/scagent/tasks/runner/process"
)

const (
	// maxCalls is how many scripts a child evaluates. To start another takes as much
	// time of a CPU as some hundred small scripts.
	maxCalls = 10_000
	// maxHeld is how much memory a child may have more than at its start when a
	// script has ended.
	maxHeld = 64 << 20
	// maxIdle is how long a child stays that nobody needs, but for one.
	maxIdle = time.Minute
)

// Config configures a Pool.
type Config struct {
	Helper string        // the name under which the program knows Serve, see package helper
	User   *process.User // nil: the agent's own
	Setup  Setup
}

// Pool has the child processes. It may be used by any number of goroutines.
type Pool struct {
	cfg    Config          // constant
	ctx    context.Context // ends with Close; every child is killed then
	cancel context.CancelFunc
	wg     sync.WaitGroup // one for each child that has not exited, and for each start

	answerTimeout time.Duration // constant

	// mu guards the fields below. It is not held while a child starts.
	mu       sync.Mutex
	idle     []*proc // the one used last at the end
	starting bool    // a child for idle is being started
	trim     *time.Timer
	closed   bool
}

var errClosed = errors.New("the agent is closing")

// New returns a Pool, which starts nothing before the first call. The error is
// helper.ErrUnavailable.
func New(cfg Config) (*Pool, error) {
	if _, err := helper.Command(cfg.Helper); errors.Is(err, helper.ErrUnavailable) {
		return nil, err
	}
	p := &Pool{cfg: cfg, answerTimeout: answerTimeout}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Close kills all children, also those that evaluate something, and waits until
// they are gone. It may be called twice.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	if p.trim != nil {
		p.trim.Stop()
	}
	p.mu.Unlock()
	p.cancel()
	p.wg.Wait()
	return nil
}

// get lends a child: one that waits, or else a new one.
func (p *Pool) get(ctx context.Context) (*proc, error) {
	p.mu.Lock()
	for len(p.idle) > 0 {
		last := len(p.idle) - 1
		c := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		if c.alive() {
			p.spareLocked()
			p.mu.Unlock()
			return c, nil
		}
		c.close()
	}
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	p.wg.Add(1)
	p.mu.Unlock()
	defer p.wg.Done()
	c, err := p.start(ctx)
	if err != nil {
		if p.ctx.Err() != nil {
			err = errClosed
		}
		return nil, err
	}
	p.mu.Lock()
	p.spareLocked()
	p.mu.Unlock()
	return c, nil
}

// put takes a child back, which is killed unless it may be used again.
func (p *Pool) put(c *proc, again bool) {
	if !again || c.number >= maxCalls {
		c.kill()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(c, len(p.idle))
	p.spareLocked()
}

// addLocked puts a child among those that wait.
func (p *Pool) addLocked(c *proc, at int) {
	if !c.alive() {
		c.close()
		return
	}
	c.idleSince = time.Now()
	p.idle = slices.Insert(p.idle, at, c)
	if len(p.idle) > 1 && p.trim == nil && !p.closed {
		p.trim = time.AfterFunc(maxIdle, p.trimIdle)
	}
}

// spareLocked sees to it that a child waits for the next call.
func (p *Pool) spareLocked() {
	if len(p.idle) > 0 || p.starting || p.closed {
		return
	}
	p.starting = true
	p.wg.Go(func() {
		c, err := p.start(p.ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.starting = false
		if err == nil { // else the next call finds out why
			p.addLocked(c, 0)
		}
	})
}

// gone takes note that a child has exited.
func (p *Pool) gone(c *proc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.idle, c); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		c.close()
	}
}

// trimIdle ends children that have waited for long, but for one.
func (p *Pool) trimIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trim = nil
	for len(p.idle) > 1 && time.Since(p.idle[0].idleSince) >= maxIdle {
		p.idle[0].kill()
		p.idle[0].close()
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	if len(p.idle) > 1 && !p.closed {
		p.trim = time.AfterFunc(maxIdle, p.trimIdle)
	}
}
