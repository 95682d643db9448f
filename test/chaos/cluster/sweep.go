//go:build linux

package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/scagent/scagent/tasks/history"
)

// goneWithin is how long after an agent has stopped its helper may be there.
const goneWithin = 10 * time.Second

// Stop asks all agents to stop, and waits for them. Then it looks for what is left of
// them, and writes it down: processes, cgroups, and work directories. The error says
// who did not stop well.
func (c *Cluster) Stop() error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() { errs[i] = n.stop() })
	}
	wg.Wait()
	for _, pid := range c.processes() {
		c.leftover("process", "", pid)
	}
	for _, dir := range c.cgroup.Below() {
		c.leftover("cgroup", "", dir)
	}
	for _, n := range c.nodes {
		dirs, err := os.ReadDir(n.host.Path(n.state + "/work"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, d := range dirs {
			c.leftover("work directory", n.id, d.Name())
		}
		c.history.Add(history.Event{Name: history.Swept, Peer: n.id})
	}
	return errors.Join(errs...)
}

func (c *Cluster) leftover(what history.What, node, name string) {
	c.history.Add(history.Event{Name: history.Leftover, What: what, Peer: node, Why: name})
}

// processes returns what still runs of the programs in the cluster's directory, which
// are the agents', their helpers' and the tasks', when it has had its time to end.
func (c *Cluster) processes() (left []string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(goneWithin); ; <-tick.C {
		left = nil
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range procs {
			pid := filepath.Base(filepath.Dir(p))
			exe, _ := os.Readlink("/proc/" + pid + "/exe")
			line, _ := os.ReadFile(p) // an error: it has ended
			if strings.HasPrefix(exe, c.cfg.Dir+"/") || strings.Contains(string(line), c.cfg.Dir) && pid != strconv.Itoa(os.Getpid()) {
				left = append(left, pid+" "+strings.ReplaceAll(string(line), "\x00", " "))
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}
