package blob

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Grace is how long a content stays that nobody holds, from when it came in.
const Grace = 10 * time.Minute

// How names of files in the directory begin, or end.
const (
	incoming = "incoming-" // being written
	staged   = "staged-"   // of Stage
	cached   = "-cached"   // fetched
)

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
	cache int64 // bytes of fetched contents that stay when nobody holds them
	// create makes a temporary file, unlink removes a file; tests replace them.
	create func(dir, pattern string) (*os.File, error)
	unlink func(path string) error

	// mu guards the fields below. It is not held over I/O.
	mu       sync.Mutex
	closed   bool
	blobs    map[string]*entry
	bytes    int64 // sum of their sizes
	lastN    uint64
	sweeper  *time.Timer              // nil: nothing will expire
	fetched  int                      // downloads
	cached   int64                    // sum of the sizes of fetched contents
	unused   list.List                // hashes of fetched contents that nobody holds, the one used last at the back
	fetching map[string]chan struct{} // contents on their way in, closed at their end

	ctx      context.Context // ends with Close
	stop     context.CancelFunc
	wg       sync.WaitGroup // sweeps, and what goes on in the background
	removals sync.WaitGroup // see forgetLocked
	back     sync.Mutex     // held by who hashes in the background: one at a time
}

// entry is one content. Its fields are guarded by Store.mu.
type entry struct {
	path     string // constant
	size     int64  // constant
	holds    int
	since    time.Time              // when it came in, last
	cached   bool                   // it was fetched: it stays as long as there is room
	unused   *list.Element          // its place in Store.unused, if it is there
	verified bool                   // it is known to match its hash
	staged   bool                   // constant: it has no hash, see Stage
	source   string                 // constant: whom what is not verified came from; empty: an earlier agent
	sum      func() (uint32, error) // its checksum
}

// Open returns the Store of a directory, which is made if need be and set to
// mode 0700. It removes what a dead agent left half-written. Fetched contents
// that nobody holds stay while all fetched ones have at most so many bytes
// together; below 0 stands for DefaultCacheBytes.
func Open(dir string, cacheBytes int64) (*Store, error) {
	s := &Store{dir: dir, grace: Grace, create: os.CreateTemp, unlink: os.Remove,
		blobs: make(map[string]*entry), fetching: make(map[string]chan struct{})}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	if s.cache = cacheBytes; s.cache < 0 {
		s.cache = DefaultCacheBytes(dir)
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
	s.sortUnusedLocked()
	gone := s.trimLocked()
	if len(s.blobs) > s.unused.Len() {
		s.armLocked(time.Now())
	}
	s.mu.Unlock()
	s.remove(gone...)
	return s, nil
}

// load takes over one directory entry of an earlier Store.
func (s *Store) load(e fs.DirEntry) error {
	path := filepath.Join(s.dir, e.Name())
	name, fetched := strings.CutSuffix(e.Name(), cached)
	hash, number, _ := strings.Cut(name, "-")
	n, err := strconv.ParseUint(number, 10, 63)
	if strings.HasPrefix(e.Name(), incoming) || strings.HasPrefix(e.Name(), staged) {
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
	b := &entry{path: path, size: st.Size(), since: time.Now(), cached: fetched}
	if fetched { // the order in which they came in is that in which they go
		b.since = st.ModTime()
	}
	b.sum = func() (uint32, error) { return s.sumOf(path) }
	s.addLocked(hash, b)
	return nil
}

// Close ends what goes on in the background and waits for it. Nothing comes in
// any more; what is there stays on disk.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	if s.sweeper != nil && s.sweeper.Stop() {
		s.wg.Done()
	}
	s.sweeper = nil
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	s.removals.Wait()
	return nil
}

// Get opens a content for reading. It stays readable until it is closed, also
// when it is removed meanwhile.
func (s *Store) Get(hash string) (*os.File, int64, error) {
	f, e, err := s.get(hash)
	if err != nil {
		return nil, 0, err
	}
	return f, e.size, nil
}

func (s *Store) get(hash string) (*os.File, *entry, error) {
	s.mu.Lock()
	e := s.blobs[hash]
	verified := e != nil && e.verified
	s.mu.Unlock()
	if e == nil {
		return nil, nil, notFound(hash)
	}
	f, err := os.Open(e.path)
	if errors.Is(err, fs.ErrNotExist) {
		if !s.drop(hash, e) {
			return s.get(hash) // it was removed, or came anew, in between
		}
		return nil, nil, notFound(hash)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("blob: %w", err)
	}
	if !verified {
		if err := s.verify(hash, e, f); err != nil {
			f.Close()
			return nil, nil, err
		}
	}
	return f, e, nil
}

// Sync puts a content on disk, so that it is there after a crash of the machine too.
func (s *Store) Sync(hash string) error {
	s.mu.Lock()
	e := s.blobs[hash]
	s.mu.Unlock()
	if e == nil {
		return notFound(hash)
	}
	for _, path := range []string{e.path, s.dir} { // of the directory, so that the name is there
		if err := syncPath(path); err != nil {
			return fmt.Errorf("blob %s: %w", hash, err)
		}
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	if f.Close(); err != nil && runtime.GOOS == "windows" {
		return nil // what is open for reading cannot be synced there
	}
	return err
}

// verify hashes a content that an earlier Store left, or that came from another
// node.
func (s *Store) verify(hash string, e *entry, f *os.File) error {
	sums := newSums(true)
	if err := sums.read(s.ctx, io.NewSectionReader(f, 0, e.size+1)); err != nil {
		return fmt.Errorf("blob %s: %w", hash, err)
	}
	if sums.hash() != hash {
		if s.drop(hash, e) {
			os.Remove(e.path)
		}
		return notFound(hash)
	}
	s.mu.Lock()
	e.verified, e.sum = true, sums.known()
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

func (s *Store) addLocked(hash string, e *entry) {
	s.blobs[hash] = e
	s.bytes += e.size
	if e.cached {
		s.cached += e.size
	}
	s.holdLocked(hash, e, 0)
}

func (s *Store) dropLocked(hash string, e *entry) {
	s.uncacheLocked(e)
	delete(s.blobs, hash)
	s.bytes -= e.size
}

// holdLocked adds so many holds.
func (s *Store) holdLocked(hash string, e *entry, n int) {
	e.holds += n
	switch {
	case e.unused != nil && e.holds > 0:
		s.unused.Remove(e.unused)
		e.unused = nil
	case e.cached && e.unused == nil && e.holds == 0:
		e.unused = s.unused.PushBack(hash)
	}
}

// Hold keeps a content until it is released as often as it was held.
func (s *Store) Hold(hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.blobs[hash]
	if e == nil {
		return notFound(hash)
	}
	s.holdLocked(hash, e, 1)
	return nil
}

// Release takes back one Hold. With the last, a content older than Grace is
// removed; a younger one follows when it is. A fetched one stays while there is
// room.
func (s *Store) Release(hash string) {
	s.mu.Lock()
	e := s.blobs[hash]
	if e == nil || e.holds == 0 {
		s.mu.Unlock()
		return
	}
	s.holdLocked(hash, e, -1)
	var gone []string
	switch {
	case e.holds > 0 || s.closed:
	case e.cached:
		gone = s.trimLocked()
	case time.Since(e.since) >= s.grace:
		s.dropLocked(hash, e)
		gone = []string{e.path}
	default:
		s.armLocked(e.since)
	}
	s.forgetLocked(gone...)
	s.mu.Unlock()
}

// forgetLocked has files removed beside its caller, whom others may wait for: the kernel
// takes 50 ms for 1 GiB. The store is not closed.
func (s *Store) forgetLocked(paths ...string) {
	if len(paths) > 0 {
		s.removals.Go(func() { s.remove(paths...) })
	}
}

func (s *Store) remove(paths ...string) {
	for _, p := range paths {
		s.unlink(p) // an error: the next Open takes it over
	}
}

// Expire removes a content as soon as nobody holds it, without waiting for Grace,
// unless it comes in anew.
func (s *Store) Expire(hash string) {
	s.mu.Lock()
	e := s.blobs[hash]
	if e == nil || s.closed {
		s.mu.Unlock()
		return
	}
	if e.since = (time.Time{}); e.holds == 0 {
		s.dropLocked(hash, e)
		s.forgetLocked(e.path)
	}
	s.mu.Unlock()
}

// Stats counts what is in the store.
type Stats struct {
	Blobs   int
	Bytes   int64
	Held    int // of Blobs
	Fetched int // downloads of Fetch, since Open
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Blobs: len(s.blobs), Bytes: s.bytes, Fetched: s.fetched}
	for _, e := range s.blobs {
		if e.holds > 0 {
			st.Held++
		}
	}
	return st
}

// armLocked sees to it that a sweep comes when what came in first, and may
// expire, does.
func (s *Store) armLocked(first time.Time) {
	if s.closed || s.sweeper != nil {
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
	s.sweeper = nil
	var first time.Time // of those that stay
	for hash, e := range s.blobs {
		switch {
		case e.holds > 0 || e.cached:
		case time.Since(e.since) >= s.grace:
			s.dropLocked(hash, e)
			paths = append(paths, e.path)
		case first.IsZero() || e.since.Before(first):
			first = e.since
		}
	}
	if !first.IsZero() {
		s.armLocked(first)
	}
	s.mu.Unlock()
	s.remove(paths...)
}

func notFound(hash string) error { return fmt.Errorf("%w: %.64q", ErrNotFound, hash) }

// writeError says in one line why a content could not be written.
func (s *Store) writeError(err error) error {
	if isFull(err) {
		return fmt.Errorf("%w: %s; free some space there", ErrFull, s.dir)
	}
	return fmt.Errorf("blob store: %w", err)
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
