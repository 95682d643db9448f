//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dirPrefix = "scagent-chaos-"
	lockName  = "lock"
	keptName  = "kept" // its presence says that the directory is somebody's to look at
)

// Dir is the directory of a run, which all users can pass, as those must as whom
// tasks run.
type Dir struct {
	Path string
	lock *os.File
}

// NewDir makes a directory and removes those of runs that were killed.
func NewDir() (*Dir, error) {
	removeStale()
	path, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: path}
	lock := filepath.Join(path, lockName)
	if d.lock, err = os.Create(lock + ".new"); err == nil {
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Chmod(path, 0o755)
	}
	if err == nil {
		err = os.Rename(lock+".new", lock) // nobody finds it before it is held
	}
	if err != nil {
		d.Remove()
		return nil, fmt.Errorf("make the directory of the run: %w", err)
	}
	return d, nil
}

// Keep leaves the directory for somebody to look at; it stays until it is removed
// by hand.
func (d *Dir) Keep() error {
	err := os.WriteFile(filepath.Join(d.Path, keptName), nil, 0o644)
	d.lock.Close()
	return err
}

// Remove removes the directory.
func (d *Dir) Remove() error {
	err := os.RemoveAll(d.Path)
	if d.lock != nil {
		d.lock.Close() // now that nobody else finds what to remove
	}
	return err
}

// removeStale removes directories that nobody holds and nobody marked as kept.
func removeStale() {
	paths, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, path := range paths {
		lock, err := os.Open(filepath.Join(path, lockName))
		if err != nil {
			fi, gone := os.Stat(path)
			if errors.Is(err, os.ErrNotExist) && gone == nil && time.Since(fi.ModTime()) > time.Minute { // it is not being made
				os.RemoveAll(path)
			}
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if _, err := os.Stat(filepath.Join(path, keptName)); err != nil { // its holder may have made it just now
				os.RemoveAll(path)
			}
		}
		lock.Close()
	}
}
