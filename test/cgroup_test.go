//go:build linux

package test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processes is the cgroup of all processes that tests start, where this machine
// has cgroups of version 2 that it may make: agents make theirs below it, and
// one that was killed leaves them there. At the end all of it goes.
var processes cgroup

type cgroup struct {
	once sync.Once
	path string
	dir  *os.File // nil: there is none
}

// use makes a process start in it.
func (c *cgroup) use(attr *syscall.SysProcAttr) {
	c.once.Do(c.make)
	if c.dir != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(c.dir.Fd())
	}
}

func (c *cgroup) make() {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	self, _ := os.ReadFile("/proc/self/cgroup")
	_, own, ok := strings.Cut("\n"+string(self), "\n0::")
	own, _, _ = strings.Cut(own, "\n")
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if ok && c.dir == nil && strings.Contains(line, " - cgroup2 ") && fields[3] == "/" {
			c.path = filepath.Join(fields[4], own, fmt.Sprintf("scagent-test.%d", os.Getpid()))
			if os.Mkdir(c.path, 0o755) == nil {
				c.dir, _ = os.Open(c.path)
			}
		}
	}
}

// remove removes it and all below.
func (c *cgroup) remove() {
	if c.dir == nil {
		return
	}
	c.dir.Close()
	c.kill()
	var dirs []string
	filepath.WalkDir(c.path, func(path string, d fs.DirEntry, err error) error {
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

// kill kills what is in it and waits, for a bounded time, until it is gone.
func (c *cgroup) kill() {
	events, err := os.Open(c.path + "/cgroup.events")
	if err != nil {
		return
	}
	defer events.Close()
	os.WriteFile(c.path+"/cgroup.kill", []byte("1"), 0)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		b := make([]byte, 128)
		n, _ := events.ReadAt(b, 0)
		if !strings.Contains(string(b[:n]), "populated 1") {
			return
		}
		unix.Poll([]unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}, 1000) // until that changes
	}
}
