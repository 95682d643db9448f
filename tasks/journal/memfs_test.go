package journal

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

// memFS is a file system in memory. It knows what of it a crash would leave, and
// calls can be made to fail.
type memFS struct {
	// before is called before each call that changes something, with mu held. An
	// error is what the call then returns; of a write half was done.
	before func(m *memFS, op, name string) error

	mu     sync.Mutex
	free   int64
	now    map[string]*memData
	synced map[string]*memData // the names that are durable
}

type memData struct {
	now, synced []byte
}

func newMemFS() *memFS {
	return &memFS{free: 1 << 40, now: map[string]*memData{}, synced: map[string]*memData{}}
}

func (m *memFS) call(op, name string) error {
	if m.before == nil {
		return nil
	}
	return m.before(m, op, name)
}

func (m *memFS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.call("mkdir", dir)
}

func (m *memFS) ReadDir(dir string) (names []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path := range m.now {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *memFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("create", name); err != nil {
		return nil, err
	}
	d := &memData{}
	m.now[name] = d
	return &memFile{fs: m, name: name, d: d}, nil
}

func (m *memFS) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("open", name); err != nil {
		return nil, err
	}
	d := m.now[name]
	if d == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{fs: m, name: name, d: d}, nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("rename", to); err != nil {
		return err
	}
	m.now[to] = m.now[from]
	delete(m.now, from)
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("remove", name); err != nil {
		return err
	}
	if m.now[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.now, name)
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("syncdir", dir); err != nil {
		return err
	}
	maps.DeleteFunc(m.synced, func(path string, _ *memData) bool { return filepath.Dir(path) == dir })
	for path, d := range m.now {
		if filepath.Dir(path) == dir {
			m.synced[path] = d
		}
	}
	return nil
}

func (m *memFS) Free(string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.free, nil
}

func (m *memFS) setFree(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = n
}

// file returns the contents of a file.
func (m *memFS) file(name string) []byte { return m.now[name].now }

// with returns a copy in which one file has other contents, or is gone when they
// are nil.
func (m *memFS) with(name string, b []byte) *memFS {
	c := m.left(nil, true)
	if delete(c.now, name); b != nil {
		c.now[name] = &memData{now: b, synced: b}
	}
	c.synced = maps.Clone(c.now)
	return c
}

// left returns what is left after the end of the process (all), after a crash
// that loses what was not synced, or, with r, any part of it: each name may be
// the new or the old one, each sector of a file too. m.mu is held, or m is not in
// use.
func (m *memFS) left(r *rand.Rand, all bool) *memFS {
	c := newMemFS()
	c.free = m.free
	pick := func() bool { return all || r != nil && r.IntN(2) == 0 }
	copies := map[*memData]*memData{}
	names := slices.Sorted(maps.Keys(m.now))
	for path := range m.synced {
		if m.now[path] == nil {
			names = append(names, path)
		}
	}
	slices.Sort(names)
	for _, path := range names {
		d := m.synced[path]
		if pick() {
			d = m.now[path]
		}
		if d == nil {
			continue
		}
		if copies[d] == nil {
			b := d.synced
			if all {
				b = d.now
			} else if r != nil {
				b = d.mix(r)
			}
			copies[d] = &memData{now: b, synced: b}
		}
		c.now[path] = copies[d]
	}
	c.synced = maps.Clone(c.now)
	return c
}

// mix returns what may be left of a file.
func (d *memData) mix(r *rand.Rand) []byte {
	if bytes.Equal(d.now, d.synced) {
		return d.synced
	}
	lo, hi := len(d.synced), len(d.now)
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
			from = d.now
		}
		if at < len(from) {
			copy(b[at:min(at+sector, n)], from[at:])
		}
	}
	return b
}

type memFile struct {
	fs     *memFS
	name   string
	d      *memData
	closed bool
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	n := 0
	if off < int64(len(f.d.now)) {
		n = copy(b, f.d.now[off:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.fs.call("write", f.name)
	if err != nil {
		b = b[:len(b)/2]
	}
	// Contents that were handed out, as synced or to a copy, are not changed.
	now := make([]byte, max(len(f.d.now), int(off)+len(b)))
	copy(now, f.d.now)
	copy(now[off:], b)
	f.d.now = now
	return len(b), err
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.d.now)), nil
}

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.call("truncate", f.name); err != nil {
		return err
	}
	f.d.now = f.d.now[:size:size]
	return nil
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.call("sync", f.name); err != nil {
		return err
	}
	f.d.synced = f.d.now
	return nil
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.closed = true
	return nil
}
