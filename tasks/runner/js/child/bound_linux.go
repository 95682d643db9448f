package child

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
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

// faultAt is what the Go runtime writes of a fault in its own code, which nobody
// can catch. (One of the engine is a panic.)
var faultAt = regexp.MustCompile(`(?m)^SIGSEGV: segmentation violation\nPC=\S+ m=\d+ sigcode=\d+ addr=0x([0-9a-f]+)$`)

// starved reports whether a process that may have so much memory faulted for want
// of it. The collector does not always notice that it got none: it goes on with a
// pointer that is nil. Elsewhere than there, the process has to have been large.
func starved(said string, s *os.ProcessState, memoryBytes int64) bool {
	m := faultAt.FindStringSubmatch(said)
	if m == nil {
		return false
	}
	addr, err := strconv.ParseUint(m[1], 16, 64)
	if err == nil && addr < nearNil {
		return true
	}
	ru, ok := s.SysUsage().(*syscall.Rusage)
	return ok && ru.Maxrss<<10 >= memoryBytes/2 // Maxrss: or of this process, when it started that one
}

// nearNil is more than the offset of anything in what the collector asks for.
const nearNil = 64 << 10

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
