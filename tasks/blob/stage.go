package blob

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Stage takes a file into the store under a new name, which looks like a hash and
// that nobody can guess: for one node to fetch it, which gives it its hash. The
// file is moved, or copied and removed where it lies on another file system. It
// is held once, and removed when it is released. It must be a regular file, no
// symbolic link.
//
// It is not hashed here, where that would have to be over before anything of it
// can be sent. Nor does it matter who else can write to it: what it is called is
// settled by what arrives.
func (s *Store) Stage(path string) (name string, size int64, err error) {
	st, err := os.Lstat(path)
	if err != nil {
		return "", 0, fmt.Errorf("blob store: %w", err)
	}
	if !st.Mode().IsRegular() {
		return "", 0, fmt.Errorf("blob store: %s is not a regular file", path)
	}
	var b [32]byte
	rand.Read(b[:])
	name = hex.EncodeToString(b[:])
	to := filepath.Join(s.dir, staged+name)

	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return "", 0, ErrClosed
	}
	if os.Rename(path, to) != nil {
		if err := s.stageCopy(path, to); err != nil {
			return "", 0, err
		}
	}
	e := &entry{path: to, size: st.Size(), holds: 1, verified: true, staged: true,
		sum: sync.OnceValues(func() (uint32, error) { return s.sumOf(to) })}
	s.mu.Lock()
	s.addLocked(name, e)
	s.mu.Unlock()
	return name, e.size, nil
}

// stageCopy copies a file from another file system.
func (s *Store) stageCopy(path, to string) error {
	from, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("blob store: %w", err)
	}
	defer from.Close()
	in, err := s.create(s.dir, incoming)
	if err != nil {
		return s.writeError(err)
	}
	_, err = in.ReadFrom(from)
	if err = errors.Join(err, in.Close()); err == nil {
		err = os.Rename(in.Name(), to)
	}
	if err != nil {
		os.Remove(in.Name())
		return s.writeError(err)
	}
	return os.Remove(path)
}
