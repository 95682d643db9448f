package home

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

var errLocked = errors.New("is in use")

// lock is held until it is released or the process ends.
type lock struct{ f *os.File }

func (l *lock) release() { l.f.Close() }

// goneWithin is how long the lock of a process that has ended is waited for. It is
// changed by tests alone.
var goneWithin = 2 * time.Second

const lockPoll = 10 * time.Millisecond

// takeLock is tryLock, but waits when the holder has ended and its lock has not: a child
// that it had just started has its open files until it becomes another program, and
// an agent that is started anew at once is not to find its place taken by that.
func takeLock(path string) (*lock, error) {
	for deadline := time.Now().Add(goneWithin); ; time.Sleep(lockPoll) {
		l, err := tryLock(path)
		switch {
		case err == nil:
			l.sign()
			return l, nil
		case !errors.Is(err, errLocked) || !holderGone(path) || time.Now().After(deadline):
			return nil, err
		}
	}
}

// sign writes down who has the lock. Where that cannot be, nobody waits for it.
func (l *lock) sign() {
	fmt.Fprintf(l.f, "%-10d\n", os.Getpid()) // always as long, so that a full disk has room for it
}

// holderGone says that whoever took the lock has ended.
func holderGone(path string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return err == nil && pid > 0 && gone(pid)
}
