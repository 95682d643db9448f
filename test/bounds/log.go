package bounds

import (
	"io"
	"log"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Log returns a logger that writes to w, and fails the test when an entry is not
// one line of UTF-8 without control characters: what others have sent must not
// drive the terminal of who reads the log, nor forge lines of it.
func Log(t testing.TB, w io.Writer) *log.Logger { return log.New(lines{t, w}, "", 0) }

type lines struct {
	t testing.TB
	w io.Writer
}

func (l lines) Write(p []byte) (int, error) {
	line := strings.TrimSuffix(string(p), "\n")
	if !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
		l.t.Errorf("a log line has control characters: %q", line)
	}
	return l.w.Write(p)
}
