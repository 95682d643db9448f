//go:build !linux

package home

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// gone says that a process has ended. On windows that is not asked: locks go with
// the process there.
func gone(pid int) bool {
	if runtime.GOOS == "windows" {
		return false
	}
	p, err := os.FindProcess(pid)
	return err == nil && errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}
