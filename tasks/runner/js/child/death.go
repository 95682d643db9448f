package child

import (
	"fmt"
	"slices"
	"strings"

	"github.com/scagent/scagent/tasks"
)

// What the Go runtime writes when it ends a process because it cannot go on.
var (
	noMemory = []string{"out of memory", "cannot allocate memory", "ThreadSanitizer failed to allocate"} // the last: built with -race
	noStack  = []string{"stack overflow"}
)

// reason is the outcome of a script whose process has ended by itself; unknown
// says that nobody can tell what the script has to do with it.
func (p *Pool) reason(c *proc) (out tasks.Outcome, unknown bool) {
	said, state := c.said.String(), c.cmd.ProcessState
	given := p.cfg.Setup.MemoryBytes
	if contains(said, noMemory) || starved(said, state, given) {
		out.Code, out.Text = tasks.Failed, fmt.Sprintf("the script used more than %s of memory", memory(given))
		return out, false
	}
	if contains(said, noStack) {
		out.Code, out.Text = tasks.Failed, "the script nests too deep: the engine's stack is full"
		return out, false
	}
	if out.Signal = signal(state); out.Signal != "" {
		out.Code, out.Text = tasks.Signalled, fmt.Sprintf("the script's process was killed by %s", out.Signal)
		return out, false
	}
	out.Code, out.Text = tasks.Panic, "panic: the script's process ended: "+state.String()
	for l := range strings.Lines(said) {
		if what, ok := strings.CutPrefix(l, "fatal error: "); ok {
			out.Text = "panic: " + line(what)
			break
		}
	}
	return out, true
}

func contains(s string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, w) })
}

// memory writes a number of bytes.
func memory(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// line makes s a line of bounded length.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.TrimSpace(s))
	return strings.ToValidUTF8(s[:min(len(s), maxTextBytes)], "")
}
