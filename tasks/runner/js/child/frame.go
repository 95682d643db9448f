package child

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/scagent/scagent/tasks"
)

// The types of frames. See the package's comment for what they carry.
const (
	frameSetup     = 1
	frameCall      = 2
	frameInterrupt = 3
	frameReady     = 4
	frameStdout    = 5
	frameStderr    = 6
	frameResult    = 7
)

// Bounds of frames. A length is checked before anything is allocated for it.
const (
	headerBytes = 5
	// maxCallBytes bounds a call: a task has at most tasks.MaxSpecBytes in all.
	maxCallBytes   = 2 * tasks.MaxSpecBytes
	maxOutputBytes = 32 << 10
	maxTextBytes   = 8 << 10
	resultFixed    = 1 + 8 + 2 // code, held, length of the text
	maxResultBytes = resultFixed + maxTextBytes + tasks.MaxValueBytes

	setupBytes = 8 + 4 + 8
)

// beginFrame appends the header of a frame whose body is appended next.
func beginFrame(b []byte, kind byte) []byte { return append(b, kind, 0, 0, 0, 0) }

// endFrame puts the length into the header of the frame that is all of b.
func endFrame(b []byte) []byte {
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-headerBytes))
	return b
}

// newReader returns a reader of frames, which has room for a piece of output.
func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, maxOutputBytes) }

// readHeader reads the header of the next frame.
func readHeader(r *bufio.Reader) (kind byte, n int, err error) {
	h, err := r.Peek(headerBytes)
	if err != nil {
		if err == io.EOF && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, err
	}
	kind, n = h[0], int(binary.BigEndian.Uint32(h[1:]))
	r.Discard(headerBytes)
	return kind, n, nil
}

// Setup is what a child is told first, and once.
type Setup struct {
	// MemoryBytes is how much memory a script is given. Linux.
	MemoryBytes int64
	// CachedPrograms and CachedBytes bound what is kept of compiled programs.
	CachedPrograms, CachedBytes int
}

func (s *Setup) frame() []byte {
	b := beginFrame(nil, frameSetup)
	b = binary.BigEndian.AppendUint64(b, uint64(s.MemoryBytes))
	b = binary.BigEndian.AppendUint32(b, uint32(s.CachedPrograms))
	b = binary.BigEndian.AppendUint64(b, uint64(s.CachedBytes))
	return endFrame(b)
}

func readSetup(r *bufio.Reader) (*Setup, error) {
	kind, n, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	if kind != frameSetup || n != setupBytes {
		return nil, unexpected(kind, n)
	}
	var b [setupBytes]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	return &Setup{
		MemoryBytes:    int64(binary.BigEndian.Uint64(b[:])),
		CachedPrograms: int(binary.BigEndian.Uint32(b[8:])),
		CachedBytes:    int(binary.BigEndian.Uint64(b[12:])),
	}, nil
}

// Script is what goes into one evaluation.
type Script struct {
	Source string
	Args   []json.RawMessage
	Seed   [2]uint64 // of Math.random
}

// size is that of the frame's body.
func (s *Script) size() int {
	n := 4 + 16 + 4 + len(s.Source) + 4
	for _, a := range s.Args {
		n += 4 + len(a)
	}
	return n
}

// appendCall appends the frame of a call of at most maxCallBytes to b, which is empty.
func appendCall(b []byte, number uint32, s *Script) []byte {
	u32 := binary.BigEndian.AppendUint32
	b = u32(beginFrame(b, frameCall), number)
	b = binary.BigEndian.AppendUint64(b, s.Seed[0])
	b = binary.BigEndian.AppendUint64(b, s.Seed[1])
	b = append(u32(b, uint32(len(s.Source))), s.Source...)
	b = u32(b, uint32(len(s.Args)))
	for _, a := range s.Args {
		b = append(u32(b, uint32(len(a))), a...)
	}
	return endFrame(b)
}

// parseCall reads the body of a call, and keeps it.
func parseCall(b []byte) (number uint32, s *Script, err error) {
	short := false
	u32 := func() uint32 {
		if len(b) < 4 {
			short = true
			return 0
		}
		n := binary.BigEndian.Uint32(b)
		b = b[4:]
		return n
	}
	text := func() []byte {
		n := int(u32())
		if n > len(b) {
			short = true
			return nil
		}
		t := b[:n:n]
		b = b[n:]
		return t
	}
	s = &Script{}
	number = u32()
	for i := range s.Seed {
		s.Seed[i] = uint64(u32())<<32 | uint64(u32())
	}
	s.Source = string(text())
	for n := u32(); n > 0 && !short; n-- {
		s.Args = append(s.Args, text())
	}
	if short || len(b) > 0 {
		return 0, nil, violation("a call whose parts do not add up")
	}
	return number, s, nil
}

func interruptFrame(number uint32) []byte {
	return endFrame(binary.BigEndian.AppendUint32(beginFrame(nil, frameInterrupt), number))
}

// appendOutput appends a frame of at most maxOutputBytes of a stream to b, which
// is empty.
func appendOutput(b []byte, kind byte, p []byte) []byte {
	return endFrame(append(beginFrame(b, kind), p...))
}

// appendResult appends the frame of an outcome to b, which is empty.
func appendResult(b []byte, out *tasks.Outcome, held uint64) []byte {
	text := out.Text
	if len(text) > maxTextBytes {
		text = strings.ToValidUTF8(text[:maxTextBytes], "")
	}
	b = append(beginFrame(b, frameResult), byte(out.Code))
	b = binary.BigEndian.AppendUint64(b, held)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
	return endFrame(append(b, out.Value...))
}

// answer is a frame of a child.
type answer struct {
	kind   byte
	output []byte // of frameStdout and frameStderr; valid until the next frame is read

	// Of frameResult.
	outcome tasks.Outcome
	held    uint64 // bytes of memory that the child has more than at its start
}

// readAnswer reads the next frame of a child, whatever that has become: what it
// returns without an error is what a child may say.
func readAnswer(r *bufio.Reader) (answer, error) {
	kind, n, err := readHeader(r)
	if err != nil {
		return answer{}, err
	}
	switch {
	case kind == frameReady && n == 0:
		return answer{kind: kind}, nil
	case (kind == frameStdout || kind == frameStderr) && n <= maxOutputBytes:
		p, err := r.Peek(n)
		if err != nil {
			return answer{}, io.ErrUnexpectedEOF
		}
		r.Discard(n) // p stays as it is until the next read
		return answer{kind: kind, output: p}, nil
	case kind == frameResult && n >= resultFixed && n <= maxResultBytes:
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return answer{}, io.ErrUnexpectedEOF
		}
		return parseResult(b)
	}
	return answer{}, unexpected(kind, n)
}

// violation says what the other end should not have sent.
type violation string

func (v violation) Error() string { return string(v) }

func unexpected(kind byte, n int) error {
	return violation(fmt.Sprintf("a frame of type %d with %d bytes", kind, n))
}

// parseResult reads the body of a result, and keeps it.
func parseResult(b []byte) (answer, error) {
	out := tasks.Outcome{Code: tasks.Code(b[0])}
	held, n := binary.BigEndian.Uint64(b[1:]), int(binary.BigEndian.Uint16(b[9:]))
	b = b[resultFixed:]
	if n > len(b) || n > maxTextBytes {
		return answer{}, violation(fmt.Sprintf("a result whose text has %d bytes", n))
	}
	if out.Text = string(b[:n]); !isLine(out.Text) {
		return answer{}, violation("a result whose text is no line")
	}
	value := b[n:]
	switch out.Code {
	case tasks.OK:
		if len(value) > tasks.MaxValueBytes || !json.Valid(value) {
			return answer{}, violation("a result whose value is not JSON, or is too long")
		}
		out.Value, out.Encoding = value, tasks.JSON
	case tasks.Failed, tasks.BadInput, tasks.Panic, tasks.Cancelled:
		if len(value) > 0 {
			return answer{}, violation(fmt.Sprintf("a result of code %s with a value", out.Code))
		}
	default:
		return answer{}, violation(fmt.Sprintf("a result of code %s", out.Code))
	}
	return answer{kind: frameResult, outcome: out, held: held}, nil
}

func isLine(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
