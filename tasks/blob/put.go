package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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
	in, err := s.begin()
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
	return in.commit()
}

// Adopt moves a file into the store, or copies and removes it where it lies on
// another file system, has a second name or is another user's. It must be a regular
// file, no symbolic link, that nobody writes to.
func (s *Store) Adopt(path string) (hash string, size int64, err error) {
	st, err := os.Lstat(path)
	if err != nil {
		return "", 0, fmt.Errorf("blob store: %w", err)
	}
	if !st.Mode().IsRegular() {
		return "", 0, fmt.Errorf("blob store: %s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("blob store: %w", err)
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !os.SameFile(st, now) {
		return "", 0, fmt.Errorf("blob store: %s was replaced while it was opened", path)
	}
	if !ours(st) {
		return s.adoptCopy(f, path)
	}
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, fmt.Errorf("blob store: %w", err)
	}
	err = f.Chmod(0o600)
	if err == nil {
		in := &inbound{s: s, path: path, hash: h, size: size}
		hash, size, err = in.commit()
	}
	if err == nil || errors.Is(err, ErrClosed) {
		return hash, size, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, fmt.Errorf("blob store: %w", err)
	}
	return s.adoptCopy(f, path) // on another file system
}

func (s *Store) adoptCopy(f *os.File, path string) (hash string, size int64, err error) {
	if hash, size, err = s.Put(context.Background(), f, 1<<62); err == nil {
		err = os.Remove(path)
	}
	return hash, size, err
}

// inbound is a content on its way in. It belongs to one goroutine.
type inbound struct {
	s    *Store
	f    *os.File
	path string
	hash hash.Hash
	size int64 // bytes written and hashed
}

func (s *Store) begin() (*inbound, error) {
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
	return &inbound{s: s, f: f, path: f.Name(), hash: sha256.New()}, nil
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
	in.hash.Write(p.buf[:p.n])
	pieces.Put(p.buf)
}

func (in *inbound) sum() string { return hex.EncodeToString(in.hash.Sum(nil)) }

// commit puts the whole content under its hash, or drops it when that is there.
func (in *inbound) commit() (string, int64, error) {
	if in.f != nil {
		err := in.f.Close()
		in.f = nil
		if err != nil {
			return "", 0, in.s.writeError(err)
		}
	}
	s, hash := in.s, in.sum()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return "", 0, ErrClosed
	}
	if e := s.blobs[hash]; e != nil && e.verified {
		e.since = time.Now()
		s.mu.Unlock()
		in.remove()
		return hash, in.size, nil
	}
	s.lastN++
	e := &entry{path: filepath.Join(s.dir, hash+"-"+strconv.FormatUint(s.lastN, 10)), size: in.size, verified: true}
	s.mu.Unlock()

	if err := os.Rename(in.path, e.path); err != nil {
		return "", 0, s.writeError(err)
	}
	in.path = ""

	s.mu.Lock()
	old := s.blobs[hash]
	var unwanted string
	e.since = time.Now()
	if old != nil && old.verified { // another was faster
		old.since, unwanted = e.since, e.path
	} else {
		if old != nil {
			e.holds, unwanted = old.holds, old.path
			s.dropLocked(hash, old)
		}
		s.blobs[hash] = e
		s.bytes += e.size
		s.armLocked()
	}
	s.mu.Unlock()
	if unwanted != "" {
		os.Remove(unwanted)
	}
	return hash, in.size, nil
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
