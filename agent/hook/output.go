package hook

import (
	"bytes"
	"context"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

const (
	// outputBytes is how much of what a run writes is logged.
	outputBytes = 64 << 10
	// lineBytes is where a line of the log is broken.
	lineBytes = 1 << 10
	// lineRate is how many lines of a hook are logged a second, when it has written
	// lineBurst without a pause.
	lineRate, lineBurst = 10, 1000
	// floodBytes is how much a second is read of what is dropped, so that who writes
	// without end does not cost the agent a processor.
	floodBytes = 16 << 20
)

// output is what one run writes, on its way to the log.
type output struct {
	ctx  context.Context                // ends when the run is to end
	log  func(stream, line string) bool // false: it was one too many
	slow *rate.Limiter                  // of what is dropped

	hold bool // lines are kept until the run has ended; constant until end

	mu      sync.Mutex // guards the fields below; not held over I/O
	held    [][2]string
	left    int   // bytes that may be logged still
	dropped int64 // bytes that were not
	lines   int   // lines that were too many
}

func newOutput(ctx context.Context, hold bool, log func(stream, line string) bool) *output {
	return &output{ctx: ctx, log: log, hold: hold, left: outputBytes, slow: rate.NewLimiter(floodBytes, floodBytes)}
}

// end logs what was held, if it is wanted. Nothing is written any more.
func (o *output) end(wanted bool) {
	o.hold = false
	if wanted {
		for _, l := range o.held {
			o.line(l[0], l[1])
		}
	}
}

// take returns how many of n bytes are to be logged; the rest is dropped.
func (o *output) take(n int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	some := min(n, o.left)
	o.left -= some
	o.dropped += int64(n - some)
	return some
}

// line logs a line, now or later.
func (o *output) line(stream, line string) {
	logged := !o.hold && o.log(stream, line)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.hold:
		o.held = append(o.held, [2]string{stream, line})
	case !logged:
		o.lines++
	}
}

// stream is one of the two that a run writes. It is used by one goroutine.
type stream struct {
	o       *output
	name    string
	partial []byte // of a line
	first   []byte // the first line, or the beginning of it
	begun   bool   // first is whole
}

// Write takes lines. It waits when there is much to drop.
func (s *stream) Write(b []byte) (int, error) {
	s.noteFirst(b)
	some := s.o.take(len(b))
	s.add(b[:some])
	for rest := len(b) - some; rest > 0; rest -= floodBytes {
		s.o.slow.WaitN(s.o.ctx, min(rest, floodBytes)) // an error: the run is to end, and is not held up
	}
	return len(b), nil
}

func (s *stream) add(b []byte) {
	for len(b) > 0 {
		n := min(lineBytes-len(s.partial), len(b))
		line, _, whole := bytes.Cut(b[:n], []byte("\n"))
		s.partial = append(s.partial, line...)
		b = b[len(line):]
		if whole {
			b = b[1:]
		}
		if whole || len(s.partial) == lineBytes {
			s.flush()
		}
	}
}

// flush takes what was begun for a line.
func (s *stream) flush() {
	if line := strings.TrimRight(string(s.partial), "\r"); line != "" {
		s.o.line(s.name, line)
	}
	s.partial = s.partial[:0]
}

// noteFirst keeps the first line that is not empty, for errors.
func (s *stream) noteFirst(b []byte) {
	const enough = 200
	for !s.begun && len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		s.first = append(s.first, line[:min(len(line), enough-len(s.first))]...)
		s.begun = len(s.first) == enough || whole && len(bytes.TrimSpace(s.first)) > 0
		if whole && !s.begun {
			s.first = s.first[:0]
		}
		b = rest
	}
}

// reply is what a command that answers a request writes.
type reply struct {
	bytes.Buffer
	tooLarge func()
}

// Write keeps at most MaxReplyBytes, and reports the first byte that is more.
func (r *reply) Write(b []byte) (int, error) {
	if r.Len()+len(b) > MaxReplyBytes {
		r.tooLarge()
		return len(b), nil
	}
	return r.Buffer.Write(b)
}
