package bounds

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// spy is a test that remembers whether it has failed.
type spy struct {
	testing.TB
	failed bool
}

func (s *spy) Helper()               {}
func (s *spy) Errorf(string, ...any) { s.failed = true }

var sink []byte

func TestCheckSeesLargeAllocations(t *testing.T) {
	for size, want := range map[int]bool{MaxAlloc / 2: false, MaxAlloc * 2: true} {
		s := &spy{TB: t}
		end := Check(s)
		for range 64 { // in pieces, as decoders do
			sink = make([]byte, size/64)
		}
		end()
		if s.failed != want {
			t.Errorf("Check of %d MiB: failed is %v, want %v", size>>20, s.failed, want)
		}
	}
}

func TestLogSeesControlCharacters(t *testing.T) {
	for text, want := range map[string]bool{"plain ü": false, "a\x1b[2J": true, "two\nlines": true, "\xff": true, "\u0085": true} {
		s := &spy{TB: t}
		Log(s, io.Discard).Print(text)
		if s.failed != want {
			t.Errorf("Log of %q: failed is %v, want %v", text, s.failed, want)
		}
	}
}

func TestLoopsAreEnded(t *testing.T) {
	if os.Getenv("BOUNDS_LOOP") != "" {
		watch(t.Name(), 10*time.Millisecond)
		for {
			sink = make([]byte, 1)
		}
	}
	if runtime.GOOS == "windows" {
		t.Skip("processor time is not known here")
	}
	c := exec.Command(os.Args[0], "-test.run=^TestLoopsAreEnded$")
	c.Env = append(os.Environ(), "BOUNDS_LOOP=1")
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "TestLoopsAreEnded: one input has taken") {
		t.Errorf("a loop without end: %v\n%s", err, out)
	}
}
