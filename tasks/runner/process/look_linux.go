package process

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// shortRun is how long a program may have run for its descendants to be looked
	// for by their numbers alone. The kernel cannot have given out all numbers in
	// that time, and begun anew.
	shortRun = 250 * time.Millisecond
	// maxNewcomers is as many numbers as are tried rather than looked up in /proc.
	maxNewcomers = 1000
)

// look returns the processes that are sought. They may be dead.
type look func(*sought) []int

// newcomers looks among all that may descend from a process that was started at
// that time. Numbers rise, so those of a short run's descendants are few, and
// reading /proc is saved.
func newcomers(pid int, started time.Time) look {
	return func(s *sought) (found []int) {
		if time.Since(started) > shortRun || !born(pid, lastPid, func(n int) {
			if s.is(&subject{pid: n}) {
				found = append(found, n)
			}
		}) {
			return everyone(s)
		}
		return found
	}
}

// born asks about each number that was given out after that one, and about those
// that are given out meanwhile: one that had not been asked about yet may have forked
// and be gone by then. It reports false if they are too many, or not known.
func born(after int, last func() (int, bool), ask func(pid int)) bool {
	first := after
	for {
		n, ok := last()
		if !ok || n < after || n-first > maxNewcomers {
			return false
		}
		if n == after {
			return true
		}
		for ; after < n; after++ {
			ask(after + 1)
		}
	}
}

// lastPidFile stays open: each task's end reads it.
var lastPidFile = kept(func() (int, error) {
	return unix.Open("/proc/sys/kernel/ns_last_pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
})

// lastPid returns the number that was given out last.
func lastPid() (int, bool) {
	fd, err := lastPidFile()
	if err != nil {
		return 0, false
	}
	var b [32]byte
	n, err := unix.Pread(fd, b[:], 0)
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	return pid, err == nil
}

// everyone looks among all processes: about 20 µs for each. When many tasks are
// stopped at once, they look together.
func everyone(s *sought) []int { return census.find(s) }

var census rounds

// rounds are looks at all processes, one after the other.
type rounds struct {
	turn sync.Mutex // held by the round that looks

	mu   sync.Mutex // guards the field below, and that round's sought
	next *round     // has not begun yet; nil: there is none
}

type round struct {
	sought []*sought
	found  [][]int
	done   chan struct{}
}

// find returns what the next round finds. The first that waits for it does the
// work for all.
func (c *rounds) find(s *sought) []int {
	c.mu.Lock()
	r := c.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		c.next = r
	}
	place := len(r.sought)
	r.sought = append(r.sought, s)
	c.mu.Unlock()
	if place == 0 {
		c.turn.Lock()
		c.mu.Lock()
		c.next = nil
		c.mu.Unlock()
		r.look(processes)
		c.turn.Unlock()
		close(r.done)
	}
	<-r.done
	return r.found[place]
}

func (r *round) look(list func() []int) {
	r.found = make([][]int, len(r.sought))
	before, ok := lastPid()
	for _, pid := range list() {
		r.ask(pid)
	}
	// Who was born meanwhile is not in the list, and may be all that is left: one
	// that forks and exits, over and over.
	if ok {
		born(before, lastPid, r.ask) // false: so many that the next round has to find them
	}
}

func (r *round) ask(pid int) {
	p := subject{pid: pid}
	for i, s := range r.sought {
		if s.is(&p) {
			r.found[i] = append(r.found[i], pid)
		}
	}
}

// procDir stays open: processes are looked for also when no files are to be had, as
// when there are too many of them. One looks at a time, see rounds.
var procDir = kept(func() (*os.File, error) { return os.Open("/proc") })

// processes returns the numbers of all processes.
func processes() (pids []int) {
	proc, err := procDir()
	if err != nil {
		return nil
	}
	proc.Seek(0, io.SeekStart)
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// subject is a process that is looked at. What is asked is read once.
type subject struct {
	pid int

	asked struct{ limit, groups, env bool }
	// The answers.
	exists bool
	limit  uint64
	groups []uint32
	env    []byte // see environOf
}

// is reports whether the process is one of those.
func (s *sought) is(p *subject) bool {
	if s.brand.limit != 0 {
		if !p.asked.limit {
			p.limit, p.exists = limitOf(p.pid)
			p.asked.limit = true
		}
		switch {
		case !p.exists:
			return false
		case p.limit == s.brand.limit, s.whole && p.limit&^brandOfTask == s.brand.limit:
			return true
		case p.limit&^brandOfTask == s.brand.limit&^brandOfTask:
			return false // another program's
		}
	}
	if s.brand.group != 0 {
		if !p.asked.groups {
			p.groups = groupsOf(p.pid)
			p.asked.groups = true
		}
		for _, g := range p.groups {
			if g == s.brand.group || s.whole && g&^brandOfTask == s.brand.group {
				return true
			}
		}
	}
	if len(s.marks) == 0 {
		return false
	}
	if !p.asked.env {
		p.env = environOf(p.pid)
		p.asked.env = true
	}
	for _, m := range s.marks {
		if !bytes.Contains(p.env, m) {
			return false
		}
	}
	return true
}
