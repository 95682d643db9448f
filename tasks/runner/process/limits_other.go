//go:build unix && !linux

package process

import (
	"errors"
	"syscall"
)

// startLimited starts a program. This system has no way to limit another process.
func startLimited(path string, argv []string, attr *syscall.ProcAttr, l *Limits, _ brand) (pid int, err error) {
	if !l.none() {
		return 0, errors.New("limits of processes need linux")
	}
	pid, _, err = syscall.StartProcess(path, argv, attr)
	return pid, err
}
