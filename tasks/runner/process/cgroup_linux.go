package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupPrefix = "scagent."

// cgroups is a pool of cgroups (version 2) below the agent's own, one for each
// process that runs. One that was left empty is used again, as that is cheaper
// than to make another. A nil *cgroups gives none.
type cgroups struct {
	// dir is above the cgroups of all processes of the pool: who writes 1 to its
	// cgroup.kill ends them all. It is constant.
	dir string

	// mu guards the fields below. It is not held over I/O.
	mu   sync.Mutex
	lock *os.File // the directory, locked for as long as this agent lives; nil once closed
	free []*cgroup
	all  map[*cgroup]bool // also those in use
	made int
}

// cgroup is one of them. A nil *cgroup is none: its methods do nothing. It
// belongs to the goroutine that has acquired it.
type cgroup struct {
	pool   *cgroups
	path   string
	dir    *os.File
	killer *os.File // cgroup.kill
	events *os.File // cgroup.events
	spent  bool     // it was killed or removed: not to be used again
}

// openCgroups makes a directory for cgroups below the agent's own cgroup, and
// removes those of agents that have died, with what still runs there. The error
// says why the agent may not have any. close removes the directory.
func openCgroups() (*cgroups, error) {
	base, err := ownCgroup()
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	removeDead(base)
	dir, lock, err := makeLocked(base)
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	c := &cgroups{dir: dir, lock: lock, all: make(map[*cgroup]bool)}
	if err := c.try(); err != nil {
		c.close()
		return nil, fmt.Errorf("cgroups: %s: %w", dir, err)
	}
	return c, nil
}

// makeLocked makes a directory for the cgroups of an agent that lives. Another agent
// that starts takes it for a dead one's until it is locked, and removes it: then it is
// made again.
func makeLocked(base string) (dir string, lock *os.File, err error) {
	for {
		if dir, err = os.MkdirTemp(base, cgroupPrefix); err != nil {
			return "", nil, err
		}
		lock, err = lockDir(dir)
		switch {
		case err == nil && isAt(lock, dir):
			return dir, lock, nil
		case err == nil:
			lock.Close()
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK):
			os.Remove(dir)
			return "", nil, err
		}
	}
}

// isAt reports whether the open file is the one at path.
func isAt(f *os.File, path string) bool {
	is, err := f.Stat()
	at, err2 := os.Lstat(path)
	return err == nil && err2 == nil && os.SameFile(is, at)
}

// try finds out whether processes can be started in a cgroup of the pool. It
// does so with a program that does not exist: the error for that comes from
// inside of the new process.
func (c *cgroups) try() error {
	g, err := newCgroup(c.dir + "/0")
	if err != nil {
		return err
	}
	defer os.Remove(g.path)
	defer g.closeFiles()
	attr := &syscall.ProcAttr{Sys: &syscall.SysProcAttr{}}
	g.use(attr.Sys)
	pid, _, err := syscall.StartProcess(g.path+"/none", []string{"none"}, attr)
	switch {
	case err == nil:
		syscall.Wait4(pid, nil, 0, nil)
		return errors.New("the kernel kills what is started in them")
	case err != syscall.ENOENT:
		return fmt.Errorf("start a process in one: %w", err)
	}
	return nil
}

// close kills what still runs in the pool's cgroups and removes them. A Run that
// has not returned gives its own back. It may be called twice.
func (c *cgroups) close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	free, lock := c.free, c.lock
	c.all, c.free, c.lock = nil, nil, nil
	c.mu.Unlock()
	if lock == nil {
		return nil
	}
	for _, g := range free {
		g.closeFiles()
	}
	err := removeCgroup(c.dir)
	lock.Close()
	return err
}

// acquire returns an empty cgroup, or nil when none can be had.
func (c *cgroups) acquire() *cgroup {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	if c.lock == nil {
		c.mu.Unlock()
		return nil
	}
	if n := len(c.free); n > 0 {
		g := c.free[n-1]
		c.free = c.free[:n-1]
		c.mu.Unlock()
		return g
	}
	c.made++
	path := fmt.Sprintf("%s/%d", c.dir, c.made)
	c.mu.Unlock()

	g, err := newCgroup(path)
	if err != nil {
		return nil
	}
	g.pool = c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock != nil {
		c.all[g] = true
	}
	return g
}

func newCgroup(path string) (g *cgroup, err error) {
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, err
	}
	g = &cgroup{path: path}
	if g.dir, err = os.Open(path); err == nil {
		if g.killer, err = os.OpenFile(path+"/cgroup.kill", os.O_WRONLY, 0); err == nil {
			g.events, err = os.Open(path + "/cgroup.events")
		}
	}
	if err != nil {
		g.closeFiles()
		os.Remove(path)
		return nil, err
	}
	return g, nil
}

// use makes a process start in the cgroup.
func (g *cgroup) use(attr *syscall.SysProcAttr) {
	if g != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(g.dir.Fd())
	}
}

// kill kills all that is in the cgroup and waits, for a bounded time, until it
// is gone.
func (g *cgroup) kill() {
	g.spent = true
	if _, err := unix.Pwrite(int(g.killer.Fd()), []byte("1"), 0); err == nil {
		g.awaitEmpty(time.Second)
	}
}

// removed reports whether someone else has removed the cgroup; it is then not
// used again.
func (g *cgroup) removed() bool {
	if g == nil {
		return false
	}
	_, err := os.Stat(g.path)
	g.spent = g.spent || err != nil
	return err != nil
}

// release kills what was left behind and gives the cgroup back. One that was
// killed is not used again: a kernel may kill at once what is then started in it
// (seen with 6.18, which compares how often it and the agent's own were killed).
func (g *cgroup) release() {
	if g == nil {
		return
	}
	if g.populated() {
		g.kill()
	}
	c := g.pool
	c.mu.Lock()
	if c.lock != nil && !g.spent {
		c.free = append(c.free, g)
		c.mu.Unlock()
		return
	}
	delete(c.all, g)
	c.mu.Unlock()
	g.closeFiles()
	os.Remove(g.path) // an error: something in it cannot die; close tries again
}

func (g *cgroup) populated() bool {
	var buf [128]byte
	n, err := unix.Pread(int(g.events.Fd()), buf[:], 0)
	return err == nil && bytes.Contains(buf[:n], []byte("populated 1"))
}

// awaitEmpty waits for the kernel's word that nothing is in the cgroup.
func (g *cgroup) awaitEmpty(limit time.Duration) {
	for end := time.Now().Add(limit); g.populated(); {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		unix.Poll([]unix.PollFd{{Fd: int32(g.events.Fd()), Events: unix.POLLPRI}}, int(left.Milliseconds())+1)
	}
}

func (g *cgroup) closeFiles() {
	for _, f := range []*os.File{g.dir, g.killer, g.events} {
		if f != nil {
			f.Close()
		}
	}
}

// ownCgroup returns the directory of this process's cgroup.
func ownCgroup() (string, error) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	return findCgroup(string(self), string(mounts))
}

// findCgroup finds the directory of a version 2 cgroup: its path is in a line
// "0::/path" of /proc/self/cgroup, what is mounted where in mountinfo.
func findCgroup(self, mounts string) (string, error) {
	path := ""
	for line := range strings.Lines(self) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			path = p
		}
	}
	if path == "" {
		return "", errors.New("this system has no cgroups of version 2")
	}
	for line := range strings.Lines(mounts) {
		front, back, _ := strings.Cut(line, " - ")
		fields := strings.Fields(front)
		if !strings.HasPrefix(back, "cgroup2 ") || len(fields) < 5 {
			continue
		}
		rel, err := filepath.Rel(fields[3], path)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		return filepath.Join(fields[4], rel), nil
	}
	return "", errors.New("no file system of cgroups version 2 is mounted for this process")
}

// removeDead removes the cgroups of agents that no longer hold their lock.
func removeDead(base string) {
	dirs, _ := filepath.Glob(filepath.Join(base, cgroupPrefix+"*"))
	for _, dir := range dirs {
		if lock, err := lockDir(dir); err == nil {
			removeCgroup(dir) // an error: the next start tries again
			lock.Close()
		}
	}
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeCgroup kills what is in a cgroup and below, and removes it. Of those below, some
// may be removed meanwhile, by who waited for what was in them.
func removeCgroup(dir string) error {
	g := cgroup{path: dir}
	var err error
	if g.killer, err = os.OpenFile(dir+"/cgroup.kill", os.O_WRONLY, 0); err == nil {
		if g.events, err = os.Open(dir + "/cgroup.events"); err == nil {
			g.kill()
		}
	}
	g.closeFiles()
	subs, _ := filepath.Glob(dir + "/*/cgroup.procs")
	for _, s := range subs {
		err = errors.Join(err, removeCgroup(filepath.Dir(s)))
	}
	rerr := os.Remove(dir)
	if errors.Is(rerr, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, rerr)
}
