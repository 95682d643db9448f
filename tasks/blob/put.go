package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Contents are copied in pieces, and hashed by a second goroutine that is at
// most ringPieces behind.
const (
	pieceBytes = 256 << 10
	ringPieces = 4
)

var pieces = sync.Pool{New: func() any { return new([pieceBytes]byte) }}

// Put stores what r gives, at most limit bytes of it, and returns its hash and
// size. Nobody holds it yet. Errors: ErrTooLarge, ErrFull, ErrClosed, r's own,
// or the cause of ctx, which is looked at between two reads.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (hash string, size int64, err error) {
	in, err := s.begin(true)
	if err != nil {
		return "", 0, err
	}
	defer in.discard()
	if err := in.copy(ctx, r, limit); err != nil {
		if errors.Is(err, ErrTooLarge) {
			err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
		return "", 0, err
	}
	hash = in.sums.hash()
	_, err = in.commit(hash, &entry{verified: true})
	return hash, in.size, err
}

// inbound is a content on its way in. It belongs to one goroutine.
type inbound struct {
	s    *Store
	f    *os.File
	path string
	sums *sums
	told *uint32 // the checksum, by whoever sends it
	size int64   // bytes written and summed up
}

// begin begins a content, which is hashed or else only summed up.
func (s *Store) begin(hashed bool) (*inbound, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	f, err := s.create(s.dir, incoming)
	if err != nil {
		return nil, s.writeError(err)
	}
	return &inbound{s: s, f: f, path: f.Name(), sums: newSums(hashed)}, nil
}

// copy appends what r gives until its end. When that makes more than limit
// bytes, it is ErrTooLarge. After an error of r, what came before it is written
// and hashed.
func (in *inbound) copy(ctx context.Context, r io.Reader, limit int64) error {
	var hashing sync.WaitGroup
	queue := make(chan *piece, ringPieces) // full: the copying waits
	defer hashing.Wait()
	defer close(queue)
	for started := false; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := &piece{buf: pieces.Get().(*[pieceBytes]byte)}
		// One byte more than the limit, to see whether there is more.
		n, err := fill(r, p.buf[:min(pieceBytes, limit-in.size+1)])
		p.n = n
		if in.size+int64(n) > limit {
			pieces.Put(p.buf)
			return ErrTooLarge
		}
		if _, err := in.f.Write(p.buf[:n]); err != nil {
			pieces.Put(p.buf)
			return in.s.writeError(err)
		}
		in.size += int64(n)
		switch {
		case started:
			queue <- p
		case err != nil: // all that there is: not worth a goroutine
			in.add(p)
		default:
			started = true
			hashing.Go(func() {
				for p := range queue {
					in.add(p)
				}
			})
			queue <- p
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until b is full, or r ends or fails.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

type piece struct {
	buf *[pieceBytes]byte
	n   int
}

func (in *inbound) add(p *piece) {
	in.sums.Write(p.buf[:p.n])
	pieces.Put(p.buf)
}

// commit puts the whole content under its hash as e says, or drops it when that
// is there; then it is held as often more as e is. It returns what is there.
func (in *inbound) commit(hash string, e *entry) (*entry, error) {
	if in.f != nil {
		err := in.f.Close()
		in.f = nil
		if err != nil {
			return nil, in.s.writeError(err)
		}
	}
	s := in.s
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if old := s.blobs[hash]; old != nil && old.verified {
		s.againLocked(hash, old, e)
		s.mu.Unlock()
		in.remove()
		return old, nil
	}
	s.lastN++
	e.path, e.size = filepath.Join(s.dir, hash+"-"+strconv.FormatUint(s.lastN, 10)), in.size
	if e.sum = in.sums.known(); e.cached {
		e.path += cached
	}
	s.mu.Unlock()

	if err := os.Rename(in.path, e.path); err != nil {
		return nil, s.writeError(err)
	}
	in.path = ""

	s.mu.Lock()
	old := s.blobs[hash]
	if old != nil && old.verified { // another was faster
		s.againLocked(hash, old, e)
		s.mu.Unlock()
		s.remove(e.path)
		return old, nil
	}
	var gone []string
	if old != nil {
		e.holds, e.cached = e.holds+old.holds, e.cached && old.cached
		s.dropLocked(hash, old)
		gone = append(gone, old.path)
	}
	e.since = time.Now()
	s.addLocked(hash, e)
	gone = append(gone, s.trimLocked()...)
	if e.holds == 0 && !e.cached {
		s.armLocked(e.since)
	}
	s.mu.Unlock()
	s.remove(gone...)
	return e, nil
}

// againLocked is told of a content that came again, as e says.
func (s *Store) againLocked(hash string, old, e *entry) {
	if !e.cached {
		s.uncacheLocked(old)
		old.since = time.Now()
	}
	s.holdLocked(hash, old, e.holds)
	if old.holds == 0 && !old.cached {
		s.armLocked(old.since)
	}
}

// discard removes what was not committed.
func (in *inbound) discard() {
	if in.f != nil {
		in.f.Close()
	}
	in.remove()
}

func (in *inbound) remove() {
	if in.path != "" {
		os.Remove(in.path) // an error: the next Open tries again
	}
	in.path = ""
}
