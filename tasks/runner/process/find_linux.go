package process

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// killPasses bounds how often processes are looked for again: one can be born
	// while that is done, but not for ever, since its parents are stopped.
	killPasses = 100
	// killPatience is how long is waited for the death of processes that were
	// killed. It comes at once, unless the kernel holds them in a call.
	killPatience = 2 * time.Second
	// lockPatience bounds the wait for the files of an agent that was killed to be
	// closed: on a busy machine it may have to wait for its turn to die.
	lockPatience = 30 * time.Second
)

// sought says which processes are looked for: those with a brand, and those whose
// environment had, at their start, all of the marks.
type sought struct {
	brand brand
	whole bool     // brand is what a brood has in common
	marks [][]byte // each with a NUL in front; one that ends with a NUL is an entry, else the beginning of one
}

// seek says that the processes of one program are looked for.
func seek(marks []string, b brand) *sought {
	s := &sought{brand: b}
	for _, m := range marks {
		s.marks = append(s.marks, []byte("\x00"+m+"\x00"))
	}
	return s
}

// seek says that the processes of the brood are looked for.
func (b *Brood) seek() *sought {
	s := &sought{brand: broodBrand(b.Dir), whole: true}
	if b.Mark != "" {
		s.marks = [][]byte{[]byte("\x00" + b.Mark)}
	}
	return s
}

// Kill kills all processes of the brood, and removes its cgroup. If an agent that
// lives has the cgroup, that is left alone.
func (b *Brood) Kill() {
	if b.Cgroup != "" && strings.HasPrefix(filepath.Base(b.Cgroup), cgroupPrefix) {
		if lock := awaitLock(b.Cgroup); lock != nil {
			removeCgroup(b.Cgroup) // an error: something in it cannot die
			lock.Close()
		}
	}
	killGroups(b.Groups)
	b.seek().kill(everyone)
}

// awaitLock locks the cgroup of an agent that may be about to die: its files are
// closed in no certain order. It returns nil when that agent lives on.
func awaitLock(dir string) *os.File {
	for end := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		lock, err := lockDir(dir)
		if err == nil {
			return lock
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return nil
		}
	}
}

// kill kills those that are sought, until a look finds no more, and waits until
// they are gone. This process is spared.
func (s *sought) kill(look look) {
	if s.brand == (brand{}) && len(s.marks) == 0 {
		return
	}
	for range killPasses {
		caught := s.stop(look)
		for _, h := range caught {
			h.signal(unix.SIGKILL)
		}
		deadline, stuck := time.Now().Add(killPatience), false
		for _, h := range caught {
			stuck = !h.await(deadline) || stuck
			h.close()
		}
		if len(caught) == 0 || stuck {
			return
		}
	}
}

// stop stops all that are sought, and looks again until it finds no more that
// run: a process that is killed while others fork makes room for their children.
func (s *sought) stop(look look) map[int]*handle {
	caught, gone := make(map[int]*handle), make(map[int]bool)
	for range killPasses {
		more := false
		for _, pid := range look(s) {
			if h := caught[pid]; h != nil {
				if !h.dead() {
					continue
				}
				h.close()
				delete(caught, pid)
			}
			if pid == os.Getpid() {
				continue
			}
			h, err := take(pid)
			more = more || errors.Is(err, unix.ESRCH) // it may have left a child
			if err != nil {
				continue
			}
			// With the handle a second look, since another may have got the number.
			if h.dead() || !s.is(&subject{pid: pid}) || h.signal(unix.SIGSTOP) != nil {
				more = more || !gone[pid] // so may this one; it is found again for as long as nobody reaps it
				gone[pid] = true
				h.close()
				continue
			}
			caught[pid] = h
			more = true
		}
		if !more {
			break
		}
	}
	return caught
}

// handle holds on to a process, whose number may become another's.
type handle struct {
	pid int
	fd  int // -1: there is no such handle to be had, and the number alone must do
}

func take(pid int) (*handle, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return &handle{pid, -1}, nil
	}
	return &handle{pid, fd}, err
}

func (h *handle) signal(s unix.Signal) error {
	if h.fd < 0 {
		return unix.Kill(h.pid, s)
	}
	return unix.PidfdSendSignal(h.fd, s, nil, 0)
}

// dead reports whether nothing of the process runs any more. It may not have been
// reaped.
func (h *handle) dead() bool { return h.wait(0) }

// await waits until the process is dead, and reports false at the deadline.
func (h *handle) await(deadline time.Time) bool {
	for !h.wait(time.Until(deadline)) {
		if !time.Now().Before(deadline) {
			return false
		}
	}
	return true
}

func (h *handle) wait(d time.Duration) bool {
	if h.fd >= 0 {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, int(max(d, 0).Milliseconds()))
		return n > 0 && err == nil
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(h.pid) + "/stat")
	_, state, _ := bytes.Cut(b, []byte(") "))
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE): // whether it is a zombie cannot be told
		if unix.Kill(h.pid, 0) == unix.ESRCH {
			return true
		}
	case err != nil, bytes.HasPrefix(state, []byte("Z")), bytes.HasPrefix(state, []byte("X")):
		return true
	}
	time.Sleep(min(max(d, 0), time.Millisecond))
	return false
}

func (h *handle) close() {
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
}
