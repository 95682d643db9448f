//go:build unix

package helper

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepFiles keeps the files that this process was started with, beside the
// standard three, from what it starts: they are not meant for tasks.
func keepFiles() {
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, n := range names {
		if fd, err := strconv.Atoi(n.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
