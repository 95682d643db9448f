package process

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// startLimited starts a program that has its limits before its first
// instruction: it is traced, so that it stops when it has become the program,
// gets the limits, and is let go. A shim that sets them itself would cost another
// program for each task.
func startLimited(path string, argv []string, attr *syscall.ProcAttr, l *Limits) (pid int, err error) {
	if l.none() {
		pid, _, err = syscall.StartProcess(path, argv, attr)
		return pid, err
	}
	// Only the thread that began to trace may go on with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sys := *attr.Sys
	sys.Ptrace = true
	traced := *attr
	traced.Sys = &sys
	if pid, _, err = syscall.StartProcess(path, argv, &traced); err != nil {
		return 0, err
	}
	var ws syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if err == nil && !ws.Stopped() {
		return 0, syscall.ECHILD // it was killed before it began; it is reaped now
	}
	if err == nil {
		err = l.apply(pid)
	}
	if err == nil {
		err = os.NewSyscallError("ptrace", unix.PtraceDetach(pid))
	}
	if err != nil {
		unix.Kill(pid, unix.SIGKILL)
		unix.PtraceDetach(pid)
		syscall.Wait4(pid, nil, 0, nil)
		return 0, err
	}
	return pid, nil
}

// apply sets the limits of a process. No core is written either: it would have
// the task's data, in a directory that is removed.
func (l *Limits) apply(pid int) error {
	set := func(resource int, n int64) error {
		v := unix.Rlimit{Cur: uint64(n), Max: uint64(n)}
		return os.NewSyscallError("prlimit", unix.Prlimit(pid, resource, &v, nil))
	}
	for _, one := range []struct {
		resource int
		n        int64
	}{{unix.RLIMIT_DATA, l.Memory}, {unix.RLIMIT_NPROC, l.Processes}, {unix.RLIMIT_NOFILE, l.OpenFiles}, {unix.RLIMIT_FSIZE, l.FileBytes}} {
		if one.n > 0 {
			if err := set(one.resource, one.n); err != nil {
				return err
			}
		}
	}
	return set(unix.RLIMIT_CORE, 0)
}
