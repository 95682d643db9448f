package history

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// MaxLineBytes bounds a line of a history.
const MaxLineBytes = 1 << 20

// ErrDamaged is returned for a line that is no event, where none can be.
var ErrDamaged = errors.New("damaged history")

// Reader reads a history. It must not be copied.
type Reader struct {
	s    *bufio.Scanner
	d    decoder
	line int
	torn int
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), MaxLineBytes)
	return &Reader{s: s}
}

// Line returns the number of the line that Next read last, from 1.
func (r *Reader) Line() int { return r.line }

// Torn returns how many lines were skipped because their agent ended while it wrote them.
func (r *Reader) Torn() int { return r.torn }

// Next reads the next event into e. It returns io.EOF at the end. The last line of
// a start that was cut short may be torn, and is skipped; elsewhere a line that is no
// event is ErrDamaged.
func (r *Reader) Next(e *Event) error {
	if !r.scan() {
		return r.end()
	}
	bad := r.d.event(r.s.Bytes(), e)
	if bad == nil {
		return nil
	}
	at, torn := r.line, begun(r.s.Bytes())
	if torn && !r.scan() {
		r.torn++
		return r.end()
	}
	if !torn || r.d.event(r.s.Bytes(), e) != nil || e.Name != Booted {
		return fmt.Errorf("%w: line %d: %v", ErrDamaged, at, bad)
	}
	r.torn++
	return nil
}

// begun says that a line begins as those of a Log do.
func begun(line []byte) bool {
	n := min(len(line), len(beginning))
	return string(line[:n]) == beginning[:n]
}

// scan reads the next line that has something in it.
func (r *Reader) scan() bool {
	for r.s.Scan() {
		r.line++
		if len(bytes.TrimSpace(r.s.Bytes())) > 0 {
			return true
		}
	}
	return false
}

func (r *Reader) end() error {
	if err := r.s.Err(); err != nil {
		return fmt.Errorf("%w: line %d: %w", ErrDamaged, r.line+1, err)
	}
	return io.EOF
}
