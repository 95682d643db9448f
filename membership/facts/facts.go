package facts

import (
	"context"
	"os"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"
)

// maxTextBytes bounds each text, whatever the machine says.
const maxTextBytes = 64

// Facts are what an agent finds out about its machine by itself.
type Facts struct {
	OS       string `json:"os"`                 // as in GOOS: linux, darwin, windows
	Arch     string `json:"arch"`               // as in GOARCH: amd64, arm64
	CPUs     int    `json:"cpus"`               // how many this process may use, at least 1
	Memory   uint64 `json:"memory,omitempty"`   // of the whole machine, in bytes
	Hostname string `json:"hostname,omitempty"` // as the kernel has it, at most 64 bytes
	Kernel   string `json:"kernel,omitempty"`   // its release, as uname -r prints it, at most 64 bytes
}

// Collect finds the facts. What cannot be found out, also because ctx ends,
// stays at its zero value.
func Collect(ctx context.Context) Facts {
	f := Facts{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: cpus()}
	if m, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		f.Memory = m.Total
	}
	if name, err := os.Hostname(); err == nil {
		f.Hostname = clean(name)
	}
	if k, err := host.KernelVersionWithContext(ctx); err == nil {
		f.Kernel = clean(k)
	}
	return f
}

// cpus counts the CPUs of this process's affinity mask and, as far as the
// runtime derives GOMAXPROCS from it, of its cgroup's quota. A GOMAXPROCS in
// the environment bounds the agent's own threads, not the tasks, so it does not
// count.
func cpus() int {
	if os.Getenv("GOMAXPROCS") != "" {
		return runtime.NumCPU()
	}
	return min(runtime.NumCPU(), runtime.GOMAXPROCS(0))
}

// clean makes s fit for gossip and for terminals: valid UTF-8 without control
// characters, at most maxTextBytes.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	for len(s) > maxTextBytes {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
