//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/test/hosts"
)

// Node is a host and its agent, which runs or does not.
type Node struct {
	Name string

	cfg   NodeConfig
	c     *Cluster
	host  *hosts.Host
	addr  netip.Addr
	state string   // its state directory
	log   *os.File // what the agent writes, over all its starts

	// Of the goroutine that applies faults.
	id   string             // its agent's; empty until Await
	loss map[string]float64 // by protocol, empty for all
	cut  map[string]bool    // nodes of which nothing arrives

	mu      sync.Mutex // guards the fields below
	proc    *proc      // the last one started; nil: none was
	full    bool       // its disk
	excused bool       // its disk was full, or it had no descriptors, since it started
}

// proc is one start of an agent.
type proc struct {
	cmd   *exec.Cmd
	fds   *unix.Rlimit  // as it was before they were used up; nil: they are not
	ours  bool          // it was killed by us
	still bool          // it is paused
	ended chan struct{} // closed when it has
}

// restartDelay is after what time an agent that ended by itself is started again, as
// a supervisor would.
const restartDelay = time.Second

// errNothing says that there is no agent to strike, or that it is struck already.
var errNothing = errors.New("there is nothing to do")

// start starts the agent, unless it runs.
func (n *Node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.startLocked()
}

func (n *Node) startLocked() error {
	if n.proc != nil {
		return nil
	}
	args := []string{n.c.cfg.Binary, "agent", "-name", n.Name, "-role", n.cfg.Role, "-state-dir", n.state}
	for _, a := range append(n.c.cfg.Args, n.cfg.Args...) {
		args = append(args, strings.ReplaceAll(a, "NAME", n.Name))
	}
	p := &proc{cmd: n.host.Command(args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = n.log, n.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a ^C is for this program
	n.c.cgroup.Use(p.cmd.SysProcAttr)
	if err := n.c.launcher.Start(p.cmd); err != nil {
		return fmt.Errorf("start the agent of %s: %w", n.Name, err)
	}
	n.proc, n.excused = p, n.full
	n.c.wg.Go(func() { n.await(p) })
	return nil
}

const maxFailed = 100

// refusal is the status with which an agent ends that cannot start and says why.
const refusal = 1

// await waits for the end of a process. One that ended by itself is started again.
func (n *Node) await(p *proc) {
	p.cmd.Wait() // the state tells
	n.mu.Lock()
	n.proc = nil
	byItself, excused := !p.ours, n.excused
	n.mu.Unlock()
	close(p.ended)
	if !byItself || n.c.isClosed() {
		return
	}
	what := fmt.Sprintf("%s ended by itself: %s", n.Name, p.cmd.ProcessState)
	n.c.mu.Lock()
	n.c.ended++
	if !excused && p.cmd.ProcessState.ExitCode() != refusal && len(n.c.failed) < maxFailed {
		n.c.failed = append(n.c.failed, what)
	}
	n.c.mu.Unlock()
	n.c.logf("%s, see %s", what, n.log.Name())
	time.AfterFunc(restartDelay, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.c.isClosed() {
			if err := n.startLocked(); err != nil {
				n.c.logf("%v", err)
			}
		}
	})
}

func (c *Cluster) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// kill kills the agent with signal 9 and waits for its end.
func (n *Node) kill() error {
	n.mu.Lock()
	p := n.proc
	if p != nil {
		p.ours = true
	}
	n.mu.Unlock()
	if p == nil {
		return errNothing
	}
	p.cmd.Process.Kill() // an error: it has ended
	<-p.ended
	return nil
}

// stopPatience is how long an agent may take that was asked to stop.
const stopPatience = time.Minute

// stop asks the agent to stop, and waits for its end.
func (n *Node) stop() error {
	n.mu.Lock()
	p := n.proc
	if p != nil {
		p.ours = true
	}
	n.mu.Unlock()
	if p == nil {
		return fmt.Errorf("the agent of %s does not run", n.Name)
	}
	p.cmd.Process.Signal(syscall.SIGTERM) // an error: it has ended
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		return fmt.Errorf("the agent of %s was asked to stop, and has not within %s", n.Name, stopPatience)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the agent of %s was asked to stop: %s", n.Name, p.cmd.ProcessState)
	}
	return nil
}

// pause stops the agent, or lets it go on.
func (n *Node) pause(stop bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil || n.proc.still == stop {
		return errNothing
	}
	s := syscall.SIGCONT
	if n.proc.still = stop; stop {
		s = syscall.SIGSTOP
	}
	if err := n.proc.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// useUpFDs leaves the agent no descriptor but those it has; not even one that it
// closes can be used again.
func (n *Node) useUpFDs() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil {
		return errNothing
	}
	if n.proc.fds != nil {
		return errNothing
	}
	pid := n.proc.cmd.Process.Pid
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return err
	}
	n.excused = true
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Max: old.Max}, nil); err != nil {
		return err
	}
	n.proc.fds = &old
	return nil
}

// freeFDs lets the agent open files again.
func (n *Node) freeFDs() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil || n.proc.fds == nil {
		return errNothing
	}
	old := n.proc.fds
	n.proc.fds = nil
	return unix.Prlimit(n.proc.cmd.Process.Pid, unix.RLIMIT_NOFILE, old, nil)
}

// filler is the file that fills a disk. It is written outside of the namespaces, and
// as root, so that nothing of the agent's is used for it.
func (n *Node) filler() string { return n.host.Path(n.state + "/filler") }

// fillDisk leaves no room on the node's disk.
func (n *Node) fillDisk() error {
	if n.c.cfg.DiskBytes == 0 {
		return errors.New("the disk is not the node's own; give the cluster DiskBytes")
	}
	n.mu.Lock()
	n.full, n.excused = true, true
	n.mu.Unlock()
	f, err := os.OpenFile(n.filler(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		return err
	}
	if err != nil {
		return nil // not even that has room
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}

// freeDisk makes room again.
func (n *Node) freeDisk() error {
	n.mu.Lock()
	n.full = false
	n.mu.Unlock()
	if err := os.Remove(n.filler()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// filter makes the kernel of the node's host drop what n.cut and n.loss say.
func (n *Node) filter() error {
	var b strings.Builder
	b.WriteString("table inet chaos\ndelete table inet chaos\ntable inet chaos {\n chain in {\n  type filter hook input priority -300\n  iifname lo accept\n")
	for name := range n.cut {
		fmt.Fprintf(&b, "  ether saddr %s drop\n", hosts.MAC(n.c.Node(name).addr))
	}
	for proto, percent := range n.loss {
		match := ""
		if proto != "" {
			match = "meta l4proto " + proto + " "
		}
		if percent < 100 { // nft takes no number that is always less
			match += fmt.Sprintf("numgen random mod 10000 < %d ", int(percent*100))
		}
		fmt.Fprintf(&b, "  %sdrop\n", match)
	}
	b.WriteString(" }\n}\n")
	cmd := n.host.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(b.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft on %s: %w\n%s%s", n.Name, err, out, &b)
	}
	return nil
}
