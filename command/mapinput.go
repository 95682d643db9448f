package command

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"strconv"
	"strings"
)

// maxInputBytes is the longest input. It travels inside a task.
const maxInputBytes = 512 << 10

// array is the numbers of -array.
type array struct{ from, to, step int }

// parseArray reads A-B[:STEP].
func parseArray(s string) (array, error) {
	numbers, step, stepped := strings.Cut(s, ":")
	from, to, ok := strings.Cut(numbers, "-")
	a := array{step: 1}
	var err [3]error
	a.from, err[0] = strconv.Atoi(from)
	a.to, err[1] = strconv.Atoi(to)
	if stepped {
		a.step, err[2] = strconv.Atoi(step)
	}
	switch {
	case !ok || errors.Join(err[:]...) != nil || strings.ContainsAny(s, "+ "):
		return a, errors.New("want A-B or A-B:STEP, in whole numbers")
	case a.from > a.to:
		return a, fmt.Errorf("want a first number that is at most the last; there is nothing from %d to %d", a.from, a.to)
	case a.step < 1:
		return a, errors.New("want a step of at least 1")
	case a.to > math.MaxInt32:
		return a, fmt.Errorf("want numbers up to %d", math.MaxInt32)
	}
	return a, nil
}

func (a array) count() int { return (a.to-a.from)/a.step + 1 }

// inputs yields the inputs of map, one after the other; an error is the last.
func (o *mapOptions) all(stdin io.Reader) iter.Seq2[mapInput, error] {
	switch {
	case o.array != nil:
		return func(yield func(mapInput, error) bool) {
			for i, n := 1, o.array.from; n <= o.array.to; i, n = i+1, n+o.array.step {
				if !yield(mapInput{text: strconv.Itoa(n), seq: i, index: uint32(n)}, nil) {
					return
				}
			}
		}
	case o.listed:
		return func(yield func(mapInput, error) bool) {
			for i, text := range o.list {
				if !yield(mapInput{text: text, seq: i + 1, index: uint32(i)}, nil) {
					return
				}
			}
		}
	case o.from == "" || o.from == "-":
		return readInputs("standard input", stdin, o.delimiter())
	}
	return func(yield func(mapInput, error) bool) {
		f, err := os.Open(o.from)
		if err != nil {
			yield(mapInput{}, fmt.Errorf("-a: %w", err))
			return
		}
		defer f.Close()
		readInputs(o.from, f, o.delimiter())(yield)
	}
}

func (o *mapOptions) delimiter() byte {
	if o.null {
		return 0
	}
	return '\n'
}

// total returns how many inputs there are, if that is known before they are read.
func (o *mapOptions) total() (n int, known bool) {
	switch {
	case o.array != nil:
		return o.array.count(), true
	case o.listed:
		return len(o.list), true
	}
	return 0, false
}

// readInputs yields what the delimiter ends; the last one needs none.
func readInputs(name string, r io.Reader, delimiter byte) iter.Seq2[mapInput, error] {
	return func(yield func(mapInput, error) bool) {
		s := bufio.NewScanner(r)
		s.Buffer(nil, maxInputBytes+1)
		s.Split(func(data []byte, last bool) (int, []byte, error) {
			if i := bytes.IndexByte(data, delimiter); i >= 0 {
				return i + 1, data[:i], nil
			}
			if last && len(data) > 0 {
				return len(data), data, nil
			}
			return 0, nil, nil
		})
		seq := 0
		for s.Scan() {
			seq++
			if !yield(mapInput{text: s.Text(), seq: seq, index: uint32(seq - 1)}, nil) {
				return
			}
		}
		err := s.Err()
		switch {
		case errors.Is(err, bufio.ErrTooLong):
			err = fmt.Errorf("input %d of %s is longer than %d bytes; send it as a file", seq+1, name, maxInputBytes)
		case err != nil:
			err = fmt.Errorf("read %s: %w", name, err)
		default:
			return
		}
		yield(mapInput{}, err)
	}
}
