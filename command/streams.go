package command

import (
	"bufio"
	"errors"
	"fmt"
	"syscall"
)

const (
	stdout = "stdout"
	stderr = "stderr"
)

// streams are the two outputs of a process, buffered. What is written to both
// comes out in the order in which it was written.
type streams struct {
	out, err *bufio.Writer
	last     *bufio.Writer // the one that was written to last
}

func newStreams(e *Env) *streams {
	s := &streams{out: bufio.NewWriterSize(e.Stdout, 64<<10), err: bufio.NewWriterSize(e.Stderr, 16<<10)}
	s.last = s.out
	return s
}

// to returns the writer of a task's stream. Errors of writing show in flush.
func (s *streams) to(stream string) *bufio.Writer {
	w := s.out
	if stream == stderr {
		w = s.err
	}
	if w != s.last {
		s.last.Flush() // its error stays, and flush returns it
		s.last = w
	}
	return w
}

// flush writes what is buffered. The error is that of standard output: nobody
// can be told that standard error is gone.
func (s *streams) flush() error {
	s.err.Flush()
	return s.out.Flush()
}

// notWritten is what an error of flush means.
func notWritten(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return errClosed
	}
	return fmt.Errorf("write standard output: %w", err)
}
