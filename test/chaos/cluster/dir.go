//go:build linux

package cluster

import (
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
	if d.lock, err = os.Create(filepath.Join(path, lockName)); err == nil {
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Chmod(path, 0o755)
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
	if d.lock != nil {
		d.lock.Close()
	}
	return os.RemoveAll(d.Path)
}

// removeStale removes directories that nobody holds and nobody marked as kept.
func removeStale() {
	paths, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, path := range paths {
		if _, err := os.Stat(filepath.Join(path, keptName)); err == nil {
			continue
		}
		lock, err := os.Open(filepath.Join(path, lockName))
		if err != nil {
			if fi, err := os.Stat(path); err == nil && time.Since(fi.ModTime()) > time.Minute { // it is not being made
				os.RemoveAll(path)
			}
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.RemoveAll(path)
		}
		lock.Close()
	}
}
