package journal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/shirou/gopsutil/v4/disk"
)

// FS is what a Journal needs of a file system. Tests replace it to make calls
// fail, and to lose what was not synced.
type FS interface {
	MkdirAll(dir string) error
	ReadDir(dir string) ([]string, error)
	Create(name string) (File, error) // emptied if it is there
	Open(name string) (File, error)   // to read and write
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(dir string) error
	Free(dir string) (int64, error) // bytes that may still be written
}

// File is an open file of an FS. Sync makes its contents and length durable.
type File interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// osFS is the file system of the machine.
type osFS struct{ readOnly bool }

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osFS) ReadDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (fs osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (fs osFS) Open(name string) (File, error) {
	flag := os.O_RDWR
	if fs.readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(name string) error     { return os.Remove(name) }

func (osFS) Free(dir string) (int64, error) {
	u, err := disk.Usage(dir)
	if err != nil {
		return 0, err
	}
	if u.Total == 0 { // it does not say, as some that are no disk
		return math.MaxInt64, nil
	}
	return int64(u.Free), nil
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f osFile) Sync() error { return datasync(f.File) }

// readFile reads all of a file.
func readFile(fs FS, name string) (b []byte, err error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name)
}

func readAll(f File, name string) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("read %s: it got shorter meanwhile", name)
		}
		return nil, err
	}
	return b, nil
}

// writeFile makes a file of the given contents appear at once and for good.
func writeFile(fs FS, dir, name string, b []byte) error {
	tmp := join(dir, name+tmpSuffix)
	f, err := fs.Create(tmp)
	if err != nil {
		return err
	}
	if err = write(f, b, 0); err == nil {
		if err = f.Sync(); err != nil {
			err = syncError{err}
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fs.Rename(tmp, join(dir, name))
	}
	if err != nil {
		fs.Remove(tmp)
		return err
	}
	if err := fs.SyncDir(dir); noDescriptor(err) {
		return err // it could not even be opened: nothing is lost that was thought to be there
	} else if err != nil {
		return syncError{err}
	}
	return nil
}

// write writes all of b, or returns an error.
func write(f File, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// syncError is that of a sync. Linux forgets the error and the pages when it has
// told of them once, so that a second try that succeeds proves nothing (Rebello
// et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020).
type syncError struct{ error }

func (e syncError) Unwrap() error { return e.error }

// temporary reports whether a failed write may work later, when there is room.
func temporary(err error) bool {
	var s syncError
	return !errors.As(err, &s) && (errors.Is(err, io.ErrShortWrite) || noRoom(err))
}
