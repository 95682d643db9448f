package workdir

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// maxRemoveDepth is how many directories below each other are open while they are
// removed. A task can nest them deeper than there are files to be had.
const maxRemoveDepth = 16

// RemoveAll removes a directory as Remove does.
func RemoveAll(dir string) error {
	if err := os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	parent, err := os.OpenRoot(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer parent.Close()
		err = removeTree(parent, filepath.Base(dir))
	}
	if err != nil {
		return internal("remove work directory", err)
	}
	return nil
}

// removeTree removes what has that name in parent.
func removeTree(parent *os.Root, name string) error {
	top, err := openDir(parent, name)
	if err == nil {
		defer top.Close()
		r := &remover{top: top}
		for r.deeper = true; r.deeper && err == nil; {
			r.deeper = false
			err = r.empty(top, ".", 1)
		}
	}
	if e := parent.Remove(name); e == nil || errors.Is(e, fs.ErrNotExist) {
		return nil
	} else if err == nil || top == nil { // it is no directory
		err = e
	}
	return err
}

// remover removes what is in a directory.
type remover struct {
	top    *os.Root
	deeper bool // something too deep was moved to top, where it is shallow
}

// empty removes what is in dir, which is at that path below top. The error is about
// what could not be removed.
func (r *remover) empty(dir *os.Root, at string, depth int) error {
	for {
		list, err := dir.Open(".")
		if err != nil {
			return err
		}
		removed := false
		var left error
		for err == nil {
			var names []string
			names, err = list.Readdirnames(1024)
			for _, name := range names {
				if e := r.remove(dir, at, name, depth); e != nil {
					left = e
				} else {
					removed = true
				}
			}
		}
		list.Close()
		if !removed { // else some may have been passed over, as the list changed
			return left
		}
	}
}

// remove removes one thing from dir, or moves it to top.
func (r *remover) remove(dir *os.Root, at, name string, depth int) error {
	err := dir.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	sub, openErr := openDir(dir, name)
	if openErr != nil {
		return err
	}
	defer sub.Close()
	if depth == maxRemoveDepth {
		r.deeper = true
		return r.top.Rename(filepath.FromSlash(path.Join(at, name)), rand.Text())
	}
	err = r.empty(sub, path.Join(at, name), depth+1)
	if e := dir.Remove(name); e == nil || errors.Is(e, fs.ErrNotExist) {
		return nil
	} else if err == nil {
		err = e
	}
	return err
}

var errNoDir = errors.New("is no directory")

// openDir opens a directory to empty it, and gives its owner all rights to it. What
// a symbolic link leads to is not opened, even if one is put there meanwhile.
func openDir(parent *os.Root, name string) (*os.Root, error) {
	st, err := parent.Lstat(name)
	if err == nil && !st.IsDir() {
		err = errNoDir
	}
	if err != nil {
		return nil, err
	}
	if st.Mode()&0o700 != 0o700 {
		parent.Chmod(name, 0o700) // an error: what it forbids fails
	}
	dir, err := parent.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	is, err := dir.Stat(".")
	if err == nil && !os.SameFile(st, is) {
		err = errNoDir
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}
