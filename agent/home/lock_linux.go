package home

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The lock is one of an open file description (fcntl(2), F_OFD_SETLK): it goes
// with the process and, unlike those of flock(2), can be looked at without being
// taken, so that a client that looks never makes an agent skip a number.

// tryLock takes the lock of a file, made if need be, or returns errLocked.
func tryLock(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, whole())
	if err == nil {
		return &lock{f}, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, errLocked
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// locked reports whether somebody has the lock.
func locked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	fl := whole()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, fl); err != nil {
		return false, fmt.Errorf("look at the lock %s: %w", path, err)
	}
	return fl.Type != unix.F_UNLCK, nil
}

func whole() *unix.Flock_t {
	return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
}
