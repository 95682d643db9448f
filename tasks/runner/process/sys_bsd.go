//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package process

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxRSSUnit is the unit of Rusage.Maxrss in bytes.
var maxRSSUnit = map[bool]int64{true: 1, false: 1024}[runtime.GOOS == "darwin"]

func pipeCloexec(p *[2]int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	unix.CloseOnExec(p[0])
	unix.CloseOnExec(p[1])
	return nil
}

// waitExit returns when the process has exited, and leaves it to be reaped: so
// its number, and that of its group, is not given to another meanwhile. Without
// a kqueue it returns at once, and the reaping waits.
func waitExit(pid int) {
	kq, err := unix.Kqueue()
	if err != nil {
		return
	}
	defer unix.Close(kq)
	var ev [1]unix.Kevent_t
	unix.SetKevent(&ev[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	ev[0].Fflags = unix.NOTE_EXIT
	for {
		// ESRCH: it has exited already.
		if _, err := unix.Kevent(kq, ev[:], ev[:], nil); err != unix.EINTR {
			return
		}
	}
}
