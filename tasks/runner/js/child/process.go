package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scagent/scagent/tasks/runner/helper"
)

const (
	// startTimeout bounds how long a child takes until it is ready.
	startTimeout = 10 * time.Second
	// stderrDelay bounds how long the standard error of a child that has exited is
	// read: something that got out of it may hold that open.
	stderrDelay = time.Second
	// saidBytes bounds what is kept of a child's standard error: its beginning,
	// where the Go runtime says what it dies of.
	saidBytes = 8 << 10
)

// proc is a child process. Whoever it is lent to owns the fields without a comment.
type proc struct {
	cmd    *exec.Cmd // constant but for its ProcessState, see exited
	answer *os.File  // our end of what it writes
	out    *bufio.Reader
	buf    []byte // for frames to it
	number uint32 // of the last call

	exited chan struct{} // closed when it has exited, and cmd.ProcessState is set
	killed atomic.Bool   // by us
	said   said

	writing sync.Mutex // held while a frame is written
	in      *os.File   // our end of what it reads

	idleSince time.Time // guarded by Pool.mu
}

// start starts a child and waits until it is ready or ctx has ended.
func (p *Pool) start(ctx context.Context) (*proc, error) {
	c, err := p.spawn()
	if err != nil {
		return nil, p.startError(err)
	}
	defer context.AfterFunc(ctx, c.kill)()
	defer time.AfterFunc(startTimeout, c.kill).Stop()
	if err = c.send(p.cfg.Setup.frame()); err == nil {
		var a answer
		if a, err = readAnswer(c.out); err == nil && a.kind == frameReady {
			return c, nil
		}
	}
	c.kill()
	<-c.exited
	c.close()
	if said := c.said.firstLine(); said != "" {
		return nil, p.startError(errors.New(said))
	}
	return nil, p.startError(fmt.Errorf("it did not become ready: %s", c.cmd.ProcessState))
}

func (p *Pool) startError(err error) error {
	who := ""
	if u := p.cfg.User; u != nil {
		who = " as user " + u.Name
	}
	return fmt.Errorf("start a process for scripts%s: %w", who, err)
}

// spawn starts a child, which ends with the pool.
func (p *Pool) spawn() (*proc, error) {
	cmd, err := helper.Command(p.cfg.Helper)
	if err != nil {
		return nil, err
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirIn.Close()
	out, theirOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, err
	}
	defer theirOut.Close()
	c := &proc{cmd: cmd, in: in, answer: out, out: newReader(out), exited: make(chan struct{})}
	cmd.Dir, cmd.SysProcAttr, cmd.WaitDelay = "/", attributes(p.cfg.User), stderrDelay
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirIn, theirOut, &c.said
	if err := cmd.Start(); err != nil {
		c.close()
		return nil, err
	}
	stop := context.AfterFunc(p.ctx, c.kill)
	p.wg.Go(func() {
		cmd.Wait() // how it ended is in cmd.ProcessState
		close(c.exited)
		stop()
		p.gone(c)
	})
	return c, nil
}

// send writes a frame. It returns an error soon when the child is killed.
func (c *proc) send(frame []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.in.Write(frame)
	return err
}

// kill ends the child at once.
func (c *proc) kill() {
	c.killed.Store(true)
	c.cmd.Process.Kill() // an error: it has exited
}

// alive reports whether the child can be called.
func (c *proc) alive() bool {
	select {
	case <-c.exited:
		return false
	default:
		return !c.killed.Load()
	}
}

// close closes the pipes of a child that nobody uses any more.
func (c *proc) close() {
	c.in.Close()
	c.answer.Close()
}

// said keeps the beginning of what is written to it.
type said struct {
	mu sync.Mutex
	b  []byte
}

// Write never fails: the child could not go on.
func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = append(s.b, p[:min(len(p), saidBytes-len(s.b))]...)
	return len(p), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ToValidUTF8(string(s.b), "\uFFFD")
}

func (s *said) firstLine() string {
	line, _, _ := strings.Cut(strings.TrimSpace(s.String()), "\n")
	return line
}
