package blob

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/shirou/gopsutil/v4/disk"
)

// DefaultCacheBytes returns the bound for fetched contents in a directory: 10 GiB,
// or a tenth of what is free on its disk where that is less.
func DefaultCacheBytes(dir string) int64 {
	const most = 10 << 30
	if u, err := disk.Usage(dir); err == nil {
		return int64(min(most, u.Free/10))
	}
	return most
}

// uncacheLocked makes a fetched content one that was put, for which Grace counts.
func (s *Store) uncacheLocked(e *entry) {
	if !e.cached {
		return
	}
	e.cached = false
	s.cached -= e.size
	if e.unused != nil {
		s.unused.Remove(e.unused)
		e.unused = nil
	}
}

// trimLocked forgets fetched contents that nobody holds, the one used longest ago
// first, until all fetched ones are within the bound. The caller removes the files.
func (s *Store) trimLocked() (paths []string) {
	for s.cached > s.cache && s.unused.Len() > 0 {
		hash := s.unused.Front().Value.(string)
		e := s.blobs[hash]
		s.dropLocked(hash, e)
		paths = append(paths, e.path)
	}
	return paths
}

// sortUnusedLocked brings what an earlier Store left into the order in which it
// came in.
func (s *Store) sortUnusedLocked() {
	var all []string
	for e := s.unused.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(string))
	}
	slices.SortFunc(all, func(a, b string) int { return s.blobs[a].since.Compare(s.blobs[b].since) })
	for _, hash := range all {
		s.unused.MoveToBack(s.blobs[hash].unused)
	}
}

// Held is a fetched content, open for reading. It is held until it is closed.
type Held struct {
	*os.File
	s    *Store
	hash string
	e    *entry // nil: given back
}

// Close closes the file and gives the content back.
func (h *Held) Close() error {
	if h.e != nil {
		h.s.Release(h.hash)
		h.e = nil
	}
	return h.File.Close()
}

// MoveTo makes the content the file of that name, in place of a copy of it, where
// that is worth it, and reports whether it did. The name must be free. What has
// just been downloaded, and nobody else uses, is moved: the copy that the cache
// needs is made, and hashed, while the caller goes on. The caller may change the
// file meanwhile; a copy that does not match the hash is dropped.
func (h *Held) MoveTo(path string) (bool, error) {
	s, e := h.s, h.e
	if !s.isSole(h) {
		return false, nil
	}
	if err := os.Link(e.path, path); errors.Is(err, fs.ErrExist) {
		return false, err
	} else if err != nil {
		return false, nil // it is on another file system, or on one without links
	}
	from, err := os.Open(path)
	if err != nil {
		return false, errors.Join(err, os.Remove(path))
	}
	s.mu.Lock()
	moved := s.isSoleLocked(h)
	if moved {
		s.dropLocked(h.hash, e)
		h.e = nil
	}
	copied := moved && e.size <= s.cache
	if copied {
		s.fetching[h.hash] = make(chan struct{}) // who wants the content waits for the copy
		s.wg.Go(func() {
			defer from.Close()
			defer s.arrived(h.hash)
			s.fill(h.hash, from, e.size)
		})
	}
	s.mu.Unlock()
	if !copied {
		from.Close()
	}
	if !moved {
		return false, os.Remove(path)
	}
	s.remove(e.path)
	return true, nil
}

func (s *Store) isSole(h *Held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isSoleLocked(h)
}

// isSoleLocked reports whether what h holds came for h alone, and is not known to
// match its hash.
func (s *Store) isSoleLocked(h *Held) bool {
	return !s.closed && h.e != nil && !h.e.verified && h.e.holds == 1 && s.blobs[h.hash] == h.e
}

// fill copies what a task was given into the cache.
func (s *Store) fill(hash string, from io.Reader, size int64) {
	s.back.Lock()
	defer s.back.Unlock()
	in, err := s.begin(true)
	if err != nil {
		return // it is fetched again when it is needed again; so below
	}
	defer in.discard()
	if err := in.copy(s.ctx, from, size); err != nil || in.sums.hash() != hash {
		return
	}
	in.commit(hash, &entry{cached: true, verified: true})
}
