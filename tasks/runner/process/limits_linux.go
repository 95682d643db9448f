package process

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// startLimited starts a program that has its limits and its brand before its
// first instruction: it is traced, so that it stops when it has become the
// program, is given them, and is let go. A shim that sets them itself would cost
// another program for each task. Without both, it just starts.
func startLimited(path string, argv []string, attr *syscall.ProcAttr, l *Limits, b brand) (pid int, err error) {
	if l.none() && b.limit == 0 {
		return startPlain(path, argv, attr)
	}
	if privileged(path, attr.Dir) {
		// Whoever is traced gains none, so it is a shell that is: its limits last.
		path, argv = "/bin/sh", append([]string{"sh", "-c", `exec "$0" "$@"`, path}, argv[1:]...)
	}
	pid, err = startTraced(path, argv, attr, func(pid int) error { return l.apply(pid, b) })
	if err == syscall.EPERM && !mayTrace(attr.Sys.Credential) {
		if l.none() {
			return startPlain(path, argv, attr)
		}
		err = os.NewSyscallError("ptrace", err)
	}
	return pid, err
}

func startPlain(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	pid, _, err = syscall.StartProcess(path, argv, attr)
	return pid, err
}

// startTraced starts a program and calls prepare before its first instruction.
// When that fails the program is killed.
func startTraced(path string, argv []string, attr *syscall.ProcAttr, prepare func(pid int) error) (pid int, err error) {
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
	if err := letGo(pid, prepare); err != nil {
		unix.Kill(pid, unix.SIGKILL)
		reapChild(pid)
		return 0, err
	}
	return pid, nil
}

// letGo waits until a traced program stops before its first instruction, calls
// prepare, and lets it go. That it has been killed meanwhile is no error: it is
// reaped like any other.
func letGo(pid int, prepare func(pid int) error) error {
	var info unix.Siginfo
	var err error = unix.EINTR
	for err == unix.EINTR {
		err = unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
	}
	if err != nil {
		return os.NewSyscallError("waitid", err)
	}
	if info.Code != cldTrapped {
		return nil
	}
	// Should the agent be killed now, the program ends by the SIGTRAP that it has
	// stopped for: it does not run without limits.
	if err := prepare(pid); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	if err := unix.PtraceDetach(pid); err != unix.ESRCH {
		return os.NewSyscallError("ptrace", err)
	}
	return nil
}

// cldTrapped is the CLD_TRAPPED of waitid(2): a traced child has stopped.
const cldTrapped = 4

func reapChild(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// apply sets the limits of a process, and its brand. A lower limit that it has
// already stays. With limits no core is written either: it would have the task's
// data, in a directory that is removed.
func (l *Limits) apply(pid int, b brand) error {
	b.set(pid)
	if l.none() {
		return nil
	}
	for _, one := range []struct {
		resource int
		n        int64
	}{{unix.RLIMIT_DATA, l.Memory}, {unix.RLIMIT_NPROC, l.Processes}, {unix.RLIMIT_NOFILE, l.OpenFiles}, {unix.RLIMIT_FSIZE, l.FileBytes}, {unix.RLIMIT_CORE, -1}} {
		if one.n == 0 {
			continue
		}
		var has unix.Rlimit
		err := unix.Prlimit(pid, one.resource, nil, &has)
		if err == nil {
			n := min(uint64(max(one.n, 0)), has.Max)
			err = unix.Prlimit(pid, one.resource, &unix.Rlimit{Cur: n, Max: n}, nil)
		}
		if err != nil {
			return os.NewSyscallError("prlimit", err)
		}
	}
	return nil
}

// privileged reports whether a program runs with more rights than who starts it.
func privileged(path, dir string) bool {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	n, err := unix.Getxattr(path, "security.capability", nil)
	return st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 || err == nil && n > 0
}
