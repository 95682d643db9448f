package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Grace is how long a content stays that nobody holds, from when it came in.
const Grace = 10 * time.Minute

const incoming = "incoming-"

var (
	// ErrNotFound: no content of that hash is here.
	ErrNotFound = errors.New("no such blob")
	// ErrTooLarge: there is more than was allowed.
	ErrTooLarge = errors.New("blob too large")
	// ErrFull: the disk is full; nothing was left behind.
	ErrFull = errors.New("the disk of the blob store is full")
	// ErrCorrupt: the bytes are not those that the hash stands for.
	ErrCorrupt = errors.New("blob does not match its hash")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("blob store is closed")
)

var hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Store keeps contents in one directory, which no other Store may use. It may
// be used by any number of goroutines.
type Store struct {
	dir   string
	grace time.Duration
	// create makes a temporary file; tests replace it.
	create func(dir, pattern string) (*os.File, error)

	// mu guards the fields below. It is not held over I/O.
	mu       sync.Mutex
	closed   bool
	blobs    map[string]*entry
	bytes    int64 // sum of their sizes
	lastN    uint64
	sweeper  *time.Timer              // nil: nothing will expire
	fetching map[string]chan struct{} // downloads under way, closed at their end

	wg sync.WaitGroup // sweeps
}

// entry is one content. Its fields are guarded by Store.mu.
type entry struct {
	path     string // constant
	size     int64  // constant
	holds    int
	since    time.Time // when it came in, last
	verified bool      // it is known to match its hash
}

// Open returns the Store of a directory, which is made if need be and set to
// mode 0700. It removes what a dead agent left half-written.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, grace: Grace, create: os.CreateTemp,
		blobs: make(map[string]*entry), fetching: make(map[string]chan struct{})}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	for _, e := range entries {
		if err := s.load(e); err != nil {
			return nil, fmt.Errorf("blob store: %w", err)
		}
	}
	s.mu.Lock()
	s.armLocked()
	s.mu.Unlock()
	return s, nil
}

// load takes over one directory entry of an earlier Store.
func (s *Store) load(e fs.DirEntry) error {
	path := filepath.Join(s.dir, e.Name())
	hash, number, _ := strings.Cut(e.Name(), "-")
	n, err := strconv.ParseUint(number, 10, 63)
	if strings.HasPrefix(e.Name(), incoming) {
		return os.Remove(path)
	}
	if !hashForm.MatchString(hash) || err != nil || !e.Type().IsRegular() {
		return nil // not ours
	}
	if s.blobs[hash] != nil {
		return os.Remove(path)
	}
	st, err := e.Info()
	if err != nil {
		return err
	}
	s.lastN = max(s.lastN, n)
	s.blobs[hash] = &entry{path: path, size: st.Size(), since: time.Now()}
	s.bytes += st.Size()
	return nil
}

// Close stops the removal of expired contents and waits for one under way.
// Nothing comes in any more; what is there stays on disk.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	if s.sweeper != nil && s.sweeper.Stop() {
		s.wg.Done()
	}
	s.sweeper = nil
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Get opens a content for reading. It stays readable until it is closed, also
// when it is removed meanwhile.
func (s *Store) Get(hash string) (*os.File, int64, error) {
	s.mu.Lock()
	e := s.blobs[hash]
	verified := e != nil && e.verified
	s.mu.Unlock()
	if e == nil {
		return nil, 0, notFound(hash)
	}
	f, err := os.Open(e.path)
	if errors.Is(err, fs.ErrNotExist) {
		if !s.drop(hash, e) {
			return s.Get(hash) // it was removed, or came anew, in between
		}
		return nil, 0, notFound(hash)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("blob: %w", err)
	}
	if !verified {
		if err := s.verify(hash, e, f); err != nil {
			f.Close()
			return nil, 0, err
		}
	}
	return f, e.size, nil
}

// verify hashes a content that an earlier Store left.
func (s *Store) verify(hash string, e *entry, f *os.File) error {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("blob %s: %w", hash, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != hash {
		if s.drop(hash, e) {
			os.Remove(e.path)
		}
		return notFound(hash)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("blob %s: %w", hash, err)
	}
	s.mu.Lock()
	e.verified = true
	s.mu.Unlock()
	return nil
}

// drop forgets e, and reports whether it was still there.
func (s *Store) drop(hash string, e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs[hash] != e {
		return false
	}
	s.dropLocked(hash, e)
	return true
}

func (s *Store) dropLocked(hash string, e *entry) {
	delete(s.blobs, hash)
	s.bytes -= e.size
}

// Hold keeps a content until it is released as often as it was held.
func (s *Store) Hold(hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.blobs[hash]
	if e == nil {
		return notFound(hash)
	}
	e.holds++
	return nil
}

// Release takes back one Hold. With the last, a content older than Grace is
// removed; a younger one follows when it is.
func (s *Store) Release(hash string) {
	s.mu.Lock()
	e := s.blobs[hash]
	if e == nil || e.holds == 0 {
		s.mu.Unlock()
		return
	}
	e.holds--
	expired := e.holds == 0 && time.Since(e.since) >= s.grace && !s.closed
	if expired {
		s.dropLocked(hash, e)
	} else {
		s.armLocked()
	}
	s.mu.Unlock()
	if expired {
		os.Remove(e.path) // an error: the next Open takes it over
	}
}

// Stats counts what is in the store.
type Stats struct {
	Blobs int
	Bytes int64
	Held  int // of Blobs
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Blobs: len(s.blobs), Bytes: s.bytes}
	for _, e := range s.blobs {
		if e.holds > 0 {
			st.Held++
		}
	}
	return st
}

// armLocked sees to it that a sweep comes when something may expire.
func (s *Store) armLocked() {
	if s.closed || s.sweeper != nil || len(s.blobs) == 0 {
		return
	}
	var first time.Time
	for _, e := range s.blobs {
		if e.holds == 0 && (first.IsZero() || e.since.Before(first)) {
			first = e.since
		}
	}
	if first.IsZero() {
		return
	}
	// Not for each content by itself: they are swept in groups.
	wait := max(s.grace-time.Since(first), s.grace/20)
	s.wg.Add(1)
	s.sweeper = time.AfterFunc(wait, s.sweep)
}

// sweep removes what has expired.
func (s *Store) sweep() {
	defer s.wg.Done()
	var paths []string
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	for hash, e := range s.blobs {
		if e.holds == 0 && time.Since(e.since) >= s.grace {
			s.dropLocked(hash, e)
			paths = append(paths, e.path)
		}
	}
	s.sweeper = nil
	s.armLocked()
	s.mu.Unlock()
	for _, p := range paths {
		os.Remove(p) // an error: the next Open takes it over
	}
}

func notFound(hash string) error { return fmt.Errorf("%w: %.64q", ErrNotFound, hash) }

// writeError says in one line why a content could not be written.
func (s *Store) writeError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s; free some space there", ErrFull, s.dir)
	}
	return fmt.Errorf("blob store: %w", err)
}
