// Package memfs is a file system in memory, for tests of what uses package journal. It
// knows what of it a crash would leave, and calls can be made to fail.
package memfs

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// FS is a journal.FS. F is journal.File, which this package does not import, so that the
// tests of journal, too, can use it.
type FS[F any] struct {
	// Before is called before each call that changes something, with Mu held. An
	// error is what the call then returns; of a write half was done.
	Before func(m *FS[F], op, name string) error

	Mu     sync.Mutex // guards all here
	Now    map[string]*Data
	free   int64
	synced map[string]*Data // the names that are durable
}

// Data is what is in a file. Contents that were handed out are not changed.
type Data struct {
	Now, synced []byte
}

// New returns an empty file system with much room.
func New[F any]() *FS[F] {
	return &FS[F]{free: 1 << 40, Now: map[string]*Data{}, synced: map[string]*Data{}}
}

func (m *FS[F]) call(op, name string) error {
	if m.Before == nil {
		return nil
	}
	return m.Before(m, op, name)
}

// MkdirAll has nothing to make.
func (m *FS[F]) MkdirAll(dir string) error {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	return m.call("mkdir", dir)
}

// ReadDir returns the names of the files of dir.
func (m *FS[F]) ReadDir(dir string) (names []string, err error) {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	for path := range m.Now {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Create makes a file, or empties it.
func (m *FS[F]) Create(name string) (f F, err error) {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	if err := m.call("create", name); err != nil {
		return f, err
	}
	d := &Data{}
	m.Now[name] = d
	return m.open(name, d), nil
}

// Open opens a file.
func (m *FS[F]) Open(name string) (f F, err error) {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	if err := m.call("open", name); err != nil {
		return f, err
	}
	d := m.Now[name]
	if d == nil {
		return f, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return m.open(name, d), nil
}

func (m *FS[F]) open(name string, d *Data) F { return any(&file[F]{fs: m, name: name, d: d}).(F) }

// Rename makes to what from is.
func (m *FS[F]) Rename(from, to string) error {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	if err := m.call("rename", to); err != nil {
		return err
	}
	m.Now[to] = m.Now[from]
	delete(m.Now, from)
	return nil
}

// Remove removes a name.
func (m *FS[F]) Remove(name string) error {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	if err := m.call("remove", name); err != nil {
		return err
	}
	if m.Now[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.Now, name)
	return nil
}

// SyncDir makes the names of dir durable.
func (m *FS[F]) SyncDir(dir string) error {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	if err := m.call("syncdir", dir); err != nil {
		return err
	}
	maps.DeleteFunc(m.synced, func(path string, _ *Data) bool { return filepath.Dir(path) == dir })
	for path, d := range m.Now {
		if filepath.Dir(path) == dir {
			m.synced[path] = d
		}
	}
	return nil
}

// Free says how much room there is.
func (m *FS[F]) Free(string) (int64, error) {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	return m.free, nil
}

// SetFree says how much room there is from now on.
func (m *FS[F]) SetFree(n int64) {
	m.Mu.Lock()
	defer m.Mu.Unlock()
	m.free = n
}

// File returns the contents of a file.
func (m *FS[F]) File(name string) []byte { return m.Now[name].Now }

// With returns a copy in which one file has other contents, or is gone when they
// are nil.
func (m *FS[F]) With(name string, b []byte) *FS[F] {
	c := m.Left(nil, true)
	if delete(c.Now, name); b != nil {
		c.Now[name] = &Data{Now: slices.Clip(b), synced: b}
	}
	c.synced = maps.Clone(c.Now)
	return c
}

// Left returns what is left after the end of the process (all), after a crash
// that loses what was not synced, or, with r, any part of it: each name may be
// the new or the old one, each sector of a file too. m.mu is held, or m is not in
// use.
func (m *FS[F]) Left(r *rand.Rand, all bool) *FS[F] {
	c := New[F]()
	c.free = m.free
	pick := func() bool { return all || r != nil && r.IntN(2) == 0 }
	copies := map[*Data]*Data{}
	names := slices.Sorted(maps.Keys(m.Now))
	for path := range m.synced {
		if m.Now[path] == nil {
			names = append(names, path)
		}
	}
	slices.Sort(names)
	for _, path := range names {
		d := m.synced[path]
		if pick() {
			d = m.Now[path]
		}
		if d == nil {
			continue
		}
		if copies[d] == nil {
			b := d.synced
			if all {
				b = d.Now
			} else if r != nil {
				b = d.mix(r)
			}
			b = slices.Clip(b)
			copies[d] = &Data{Now: b, synced: b}
		}
		c.Now[path] = copies[d]
	}
	c.synced = maps.Clone(c.Now)
	return c
}

// mix returns what may be left of a file.
func (d *Data) mix(r *rand.Rand) []byte {
	if bytes.Equal(d.Now, d.synced) {
		return d.synced
	}
	lo, hi := len(d.synced), len(d.Now)
	n := min(lo, hi)
	switch lo, hi = min(lo, hi), max(lo, hi); r.IntN(3) {
	case 0:
		n = hi
	case 1:
		n = lo + r.IntN(hi-lo+1)
	}
	b := make([]byte, n)
	for at := 0; at < n; at += sector {
		from := d.synced
		if r.IntN(2) == 0 {
			from = d.Now
		}
		if at < len(from) {
			copy(b[at:min(at+sector, n)], from[at:])
		}
	}
	return b
}

type file[F any] struct {
	fs     *FS[F]
	name   string
	d      *Data
	closed bool
}

func (f *file[F]) ReadAt(b []byte, off int64) (int, error) {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	n := 0
	if off < int64(len(f.d.Now)) {
		n = copy(b, f.d.Now[off:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file[F]) WriteAt(b []byte, off int64) (int, error) {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	err := f.fs.call("write", f.name)
	if err != nil {
		b = b[:len(b)/2]
	}
	now := f.d.Now
	if int(off) != len(now) { // else what was handed out ends before what is added
		now = make([]byte, max(len(f.d.Now), int(off)+len(b)))
		copy(now, f.d.Now)
	}
	f.d.Now = append(now[:off], b...)[:max(len(now), int(off)+len(b))]
	return len(b), err
}

func (f *file[F]) Size() (int64, error) {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	return int64(len(f.d.Now)), nil
}

func (f *file[F]) Truncate(size int64) error {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	if err := f.fs.call("truncate", f.name); err != nil {
		return err
	}
	f.d.Now = f.d.Now[:size:size]
	return nil
}

func (f *file[F]) Sync() error {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	if err := f.fs.call("sync", f.name); err != nil {
		return err
	}
	f.d.synced = f.d.Now
	return nil
}

func (f *file[F]) Close() error {
	f.fs.Mu.Lock()
	defer f.fs.Mu.Unlock()
	f.closed = true
	return nil
}
