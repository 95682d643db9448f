//go:build linux

package hosts

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup is the cgroup of all processes that a program starts, where this machine
// has cgroups of version 2 that it may make: agents make theirs below it, and one
// that was killed leaves them there. Remove ends all of it.
type Cgroup struct {
	// Name is what its directory is called before a dot and the pid; constant.
	Name string

	once sync.Once
	path string
	dir  *os.File // nil: there is none
}

// killPatience is how long processes that were killed are waited for.
const killPatience = 30 * time.Second

// Usable reports whether there is one.
func (c *Cgroup) Usable() bool {
	c.once.Do(c.make)
	return c.dir != nil
}

// Use makes a process start in it.
func (c *Cgroup) Use(attr *syscall.SysProcAttr) {
	if c.Usable() {
		attr.UseCgroupFD, attr.CgroupFD = true, int(c.dir.Fd())
	}
}

func (c *Cgroup) make() {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	self, _ := os.ReadFile("/proc/self/cgroup")
	_, own, ok := strings.Cut("\n"+string(self), "\n0::")
	own, _, _ = strings.Cut(own, "\n")
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if ok && c.dir == nil && strings.Contains(line, " - cgroup2 ") && fields[3] == "/" {
			c.removeStale(filepath.Join(fields[4], own))
			c.path = filepath.Join(fields[4], own, fmt.Sprintf("%s.%d", c.Name, os.Getpid()))
			if os.Mkdir(c.path, 0o755) == nil {
				c.dir, _ = os.Open(c.path)
			}
		}
	}
}

// removeStale removes those of the same name whose maker is gone.
func (c *Cgroup) removeStale(parent string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		pid, err := strconv.Atoi(strings.TrimPrefix(e.Name(), c.Name+"."))
		if strings.HasPrefix(e.Name(), c.Name+".") && err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			remove(filepath.Join(parent, e.Name()))
		}
	}
}

// Below returns the names of the cgroups that were made directly below it.
func (c *Cgroup) Below() (names []string) {
	if !c.Usable() {
		return nil
	}
	entries, _ := os.ReadDir(c.path)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// Remove kills what is in it, and removes it and all below.
func (c *Cgroup) Remove() {
	if c.dir == nil {
		return
	}
	c.dir.Close()
	c.dir = nil
	remove(c.path)
}

func remove(path string) {
	kill(path)
	var dirs []string
	filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		if err := os.Remove(d); err != nil {
			fmt.Fprintf(os.Stderr, "a cgroup is left behind: %v\n", err)
		}
	}
}

// kill kills what is in a cgroup and waits, for a bounded time, until it is gone.
func kill(path string) {
	events, err := os.Open(path + "/cgroup.events")
	if err != nil {
		return
	}
	defer events.Close()
	os.WriteFile(path+"/cgroup.kill", []byte("1"), 0)
	for end := time.Now().Add(killPatience); time.Now().Before(end); {
		b := make([]byte, 128)
		n, _ := events.ReadAt(b, 0)
		if !strings.Contains(string(b[:n]), "populated 1") {
			return
		}
		unix.Poll([]unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}, 1000) // until that changes
	}
}
