//go:build unix

package helper

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// inherited are the files that this process was started with, as Run has found them.
var inherited []int

// CloseInherited closes the files that a helper was started with, beside the
// standard three. They are closed on exec in any case.
func CloseInherited() {
	for _, fd := range inherited {
		unix.Close(fd)
	}
	inherited = nil
}

// keepFiles keeps the files that this process was started with, beside the
// standard three, from what it starts: they are not meant for tasks.
func keepFiles() {
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil || fd <= 2 {
			continue
		}
		// What a Go program opens itself is closed on exec, and so is told from them.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.CloseOnExec(fd)
			inherited = append(inherited, fd)
		}
	}
}
