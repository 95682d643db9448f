package child

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks/runner/helper"
)

// bound gives this process so much more memory than it has, and no files but its
// standard ones, for good. When the machine runs out of memory, it goes before
// others do.
func bound(memoryBytes int64) error {
	helper.CloseInherited()
	os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // an error: there is no /proc
	data, err := dataBytes()
	if err != nil {
		return err
	}
	for _, l := range []struct {
		resource int
		n        uint64
	}{{unix.RLIMIT_DATA, data + uint64(memoryBytes)}, {unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 0}} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.n, Max: l.n}); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	return nil
}

// peak returns how much memory a process had at most, or this one when it started
// that one.
func peak(s *os.ProcessState) int64 {
	if ru, ok := s.SysUsage().(*syscall.Rusage); ok {
		return ru.Maxrss << 10
	}
	return 0
}

// dataBytes is what counts for RLIMIT_DATA in this process.
func dataBytes() (uint64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for l := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(l, []byte("VmData:")); ok {
			kib, err := strconv.ParseUint(string(bytes.TrimSuffix(bytes.TrimSpace(v), []byte(" kB"))), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no VmData")
}
