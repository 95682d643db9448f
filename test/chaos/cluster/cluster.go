//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/test/chaos/fabric"
	"github.com/scagent/scagent/test/hosts"
)

// Config says what a cluster is.
type Config struct {
	Dir    string // see Dir; the caller's
	Binary string // the program, see Build
	Nodes  []NodeConfig
	// Args are added to those of every agent, with NAME replaced by its name.
	Args []string
	// Seed is that of the switch.
	Seed uint64
	// Fabric connects the hosts by a switch in user space, in place of a bridge,
	// which takes most of a CPU at 50,000 packets/s.
	Fabric bool
	// DiskBytes is the size of the disks that state directories are on, each of its
	// own, which can be filled. They are in memory and go with the cluster. 0: state is
	// on the disk of Dir.
	DiskBytes int64
	// Log is told what happens; it is called by one goroutine at a time.
	Log func(line string)
}

// NodeConfig is one agent and its host.
type NodeConfig struct {
	Name string
	Role string   // of the agent's -role
	Args []string // besides
}

// Cluster is agents that run. It must be closed. Apply, Heal, Await and Close are
// called by one goroutine, or in turn.
type Cluster struct {
	cfg      Config
	lab      *hosts.Lab
	launcher *hosts.Launcher
	cgroup   hosts.Cgroup
	fabric   *fabric.Switch // may be nil
	nodes    []*Node
	wg       sync.WaitGroup // a waiter for each process

	// history has the faults, and what was found after the run; constant.
	history *history.Log
	open    map[fault]bool // that last; of the goroutine that applies faults

	mu     sync.Mutex // guards the fields below
	failed []string   // agents that ended by themselves without an excuse, at most maxFailed
	ended  int        // all that ended by themselves
	closed bool
}

// Build builds the program into a directory and returns its path.
func Build(dir string) (string, error) {
	return build(dir, "scagent", "github.com/scagent/scagent")
}

// BuildTask builds the command that chaos tasks are, see package task.
func BuildTask(dir string) (string, error) {
	return build(dir, "task", "github.com/scagent/scagent/test/chaos/task")
}

func build(dir, name, pkg string) (string, error) {
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// Lacks returns what this machine lacks for clusters; empty: nothing.
func Lacks() string {
	var lacks []string
	if os.Geteuid() != 0 {
		lacks = append(lacks, "root")
	}
	for _, p := range []string{"ip", "unshare", "nsenter", "mount", "nft", "go"} {
		if _, err := exec.LookPath(p); err != nil {
			lacks = append(lacks, p)
		}
	}
	return strings.Join(lacks, ", ")
}

// New makes the hosts and starts the agents.
func New(cfg Config) (c *Cluster, err error) {
	if lacks := Lacks(); lacks != "" {
		return nil, fmt.Errorf("this machine lacks %s", lacks)
	}
	if len(cfg.Nodes) == 0 || len(cfg.Nodes) > 250 {
		return nil, fmt.Errorf("a cluster of %d nodes; want 1 to 250", len(cfg.Nodes))
	}
	c = &Cluster{cfg: cfg, open: map[fault]bool{}, launcher: hosts.NewLauncher(), cgroup: hosts.Cgroup{Name: "scagent-chaos"}}
	c.lab = hosts.New(cfg.Dir, c.cgroup.Use)
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.history, err = history.Open(c.Path("history-harness.jsonl"), log.New(os.Stderr, "", 0), history.Event{Node: "harness", Boot: "1"}); err != nil {
		return nil, err
	}
	if cfg.Fabric {
		c.fabric = fabric.New(cfg.Seed)
	}
	if err := c.makeHosts(); err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) makeHosts() error {
	var list []*hosts.Host
	for i, nc := range c.cfg.Nodes {
		h, err := c.lab.Host()
		if err != nil {
			return err
		}
		list = append(list, h)
		n := &Node{Name: nc.Name, cfg: nc, c: c, host: h, addr: netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}), state: c.Path("state/" + nc.Name), loss: map[string]float64{}, cut: map[string]bool{}}
		if err := os.MkdirAll(n.state, 0o711); err != nil {
			return err
		}
		if c.cfg.DiskBytes > 0 {
			if err := h.Run(fmt.Sprintf("mount -t tmpfs -o mode=711,size=%d tmpfs %s", c.cfg.DiskBytes, n.state)); err != nil {
				return err
			}
		}
		if n.log, err = os.OpenFile(c.Path(nc.Name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
		if c.fabric != nil {
			if err := fabric.Attach(c.fabric, n.Name, h, n.addr); err != nil {
				return err
			}
		}
	}
	if c.fabric != nil {
		return nil
	}
	_, err := c.lab.Connect("10.77.0", list...)
	return err
}

// Path returns the path of a file in the directory of the run.
func (c *Cluster) Path(name string) string { return filepath.Join(c.cfg.Dir, name) }

// Node returns the node of a name, or nil.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Await waits until the agent of a node sees all nodes alive. Then their ids are known.
func (c *Cluster) Await(ctx context.Context, name string) error {
	cl, err := c.Node(name).Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ms, err := cl.Members(ctx)
		alive := 0
		for _, m := range ms {
			if m.Status == "alive" {
				alive++
			}
		}
		if alive == len(c.nodes) {
			for _, m := range ms {
				if n := c.Node(m.Name); n != nil {
					n.id = m.ID
				}
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s sees %d of %d nodes alive (%v): %w", name, alive, len(c.nodes), err, ctx.Err())
		}
	}
}

// Ended returns how many agents ended by themselves, and which of them otherwise than
// by refusing to start, while nothing was wrong with their node.
func (c *Cluster) Ended() (all int, failed []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended, append([]string(nil), c.failed...)
}

func (c *Cluster) logf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cfg.Log != nil {
		c.cfg.Log(fmt.Sprintf(format, args...))
	}
}

// Close kills the agents and removes everything but the directory. It may be
// called twice.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	for _, n := range c.nodes {
		n.kill()
	}
	c.wg.Wait()
	c.launcher.Close()
	c.cgroup.Remove()
	if c.fabric != nil {
		c.fabric.Close()
	}
	c.lab.Close()
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.log.Close())
	}
	return errors.Join(append(errs, c.history.Close())...)
}

// Client returns a client of the node's agent. It must be closed.
func (n *Node) Client() (*client.Client, error) {
	return client.New("unix://" + n.host.Path("/run/scagent/1.sock"))
}

// SaveDisks copies what is on disks that go with the cluster to where the state of
// agents with ordinary disks is, for who looks at it later. Nodes have ended. What their
// tasks worked in is left out: it may be on its way out.
func (c *Cluster) SaveDisks() error {
	if c.cfg.DiskBytes == 0 {
		return nil
	}
	for _, n := range c.nodes {
		disk := n.host.Path(n.state)
		entries, err := os.ReadDir(disk)
		if err != nil {
			return fmt.Errorf("save the disk of %s: %w", n.Name, err)
		}
		args := []string{"-a", "-t", n.state}
		for _, e := range entries {
			if e.Name() != "work" {
				args = append(args, filepath.Join(disk, e.Name()))
			}
		}
		if out, err := exec.Command("cp", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("save the disk of %s: %w\n%s", n.Name, err, out)
		}
	}
	return nil
}
