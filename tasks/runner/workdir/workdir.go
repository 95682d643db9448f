package workdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/scagent/scagent/tasks"
)

const tmpName = ".tmp"

// Dir is the work directory of one attempt. Its methods are called by one
// goroutine at a time.
type Dir struct {
	path string
	base string   // what Create made: path itself or, after Sub, a directory above it
	root *os.Root // opened when first used, by Sub at once
	user *int     // id of whom Give gave it to; nil: the agent's own

	spare        *spare // nil: it was made for the attempt
	hasElsewhere bool
}

// Error says why a task cannot be run in its directory, or its outputs cannot
// be had.
type Error struct {
	Code tasks.Code // BadInput: the task is at fault; Internal: this machine
	Text string     // one line
	Err  error      // may be nil
}

// Error returns the line.
func (e *Error) Error() string { return e.Text }

// Outcome returns the outcome of an attempt that ended with this error.
func (e *Error) Outcome() tasks.Outcome { return tasks.Outcome{Code: e.Code, Text: e.Text} }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func badInput(format string, a ...any) error {
	return &Error{Code: tasks.BadInput, Text: fmt.Sprintf(format, a...)}
}

// internal is an error of this machine; the text names the remedy for a full disk.
func internal(what string, err error) error {
	text := fmt.Sprintf("%s: %v", what, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		text = what + ": the disk of the work directories is full"
	}
	return &Error{Code: tasks.Internal, Text: text, Err: err}
}

// Create makes the work directory of an attempt below root, and root itself if
// need be. Root may be passed through by every user, and listed only by the
// agent's, so that Give can hand a directory in it to another user.
func Create(root string, a *tasks.Attempt) (*Dir, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, internal("work directory", err)
	}
	path := filepath.Join(root, fmt.Sprintf("%s-%d", a.ID, a.N))
	d := &Dir{path: path, base: path}
	err = d.make()
	if errors.Is(err, fs.ErrNotExist) {
		if err = MakeRoot(root); err == nil {
			err = d.make()
		}
	}
	if errors.Is(err, fs.ErrExist) { // of an agent that died, or another agent's
		if path, err = os.MkdirTemp(root, filepath.Base(path)+"-"); err == nil {
			d.path, d.base = path, path
			err = d.makeTmp()
		}
	}
	if err != nil {
		return nil, internal("work directory", err)
	}
	return d, nil
}

// make makes the directory, which must not be there, and what belongs in it.
func (d *Dir) make() error {
	if err := os.Mkdir(d.path, 0o700); err != nil {
		return err
	}
	return d.makeTmp()
}

func (d *Dir) makeTmp() error {
	err := os.Mkdir(d.Tmp(), 0o700)
	if err != nil {
		os.Remove(d.path)
	}
	return err
}

// MakeRoot makes a directory for work directories, if it is not there, with the
// mode that it needs.
func MakeRoot(root string) error {
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(root, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(root, 0o711)
}

// elsewhere ends the name of a file with the path of what an attempt has outside
// of root.
const elsewhere = ".elsewhere"

// Elsewhere says that the attempt is about to make something at path, an absolute
// one outside of root. It is removed with the directory, also by RemoveRoot. There
// can be one.
func (d *Dir) Elsewhere(path string) error {
	if err := os.WriteFile(d.base+elsewhere, []byte(path), 0o600); err != nil {
		return internal("work directory", err)
	}
	d.hasElsewhere = true
	return nil
}

// Path returns the absolute path of the directory.
func (d *Dir) Path() string { return d.path }

// Home returns the path for HOME.
func (d *Dir) Home() string { return d.base }

// Tmp returns the path for TMPDIR.
func (d *Dir) Tmp() string { return filepath.Join(d.base, tmpName) }

// Sub returns a directory that has just been made in d as the work directory in
// place of d, while HOME and TMPDIR stay where they are. It must be called
// before anything of the task runs. The caller closes it, and removes d.
func (d *Dir) Sub(name string) (*Dir, error) {
	sub := &Dir{path: filepath.Join(d.path, name), base: d.base, user: d.user}
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	if sub.root, err = root.OpenRoot(name); err != nil {
		return nil, internal("work directory", err)
	}
	return sub, nil
}

// Close closes what d has open and removes nothing.
func (d *Dir) Close() {
	if d.root != nil {
		d.root.Close()
		d.root = nil
	}
}

// open opens the directory as a root that no path leads out of.
func (d *Dir) open() (*os.Root, error) {
	if d.root == nil {
		root, err := os.OpenRoot(d.path)
		if err != nil {
			return nil, internal("work directory", err)
		}
		d.root = root
	}
	return d.root, nil
}

// fromRoot opens the directory that all work directories are in, and returns
// the name of d in it.
func (d *Dir) fromRoot() (parent *os.Root, work string, err error) {
	if parent, err = os.OpenRoot(filepath.Dir(d.base)); err != nil {
		return nil, "", internal("work directory", err)
	}
	work, err = filepath.Rel(filepath.Dir(d.base), d.path)
	if err == nil {
		err = d.isAt(parent, work)
	}
	if err != nil {
		parent.Close()
		return nil, "", internal("work directory", err)
	}
	return parent, work, nil
}

// isAt checks that the task has not put something else in the place of d.
func (d *Dir) isAt(parent *os.Root, work string) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	is, err := root.Stat(".")
	if err != nil {
		return err
	}
	at, err := parent.Lstat(work)
	if err == nil && !os.SameFile(is, at) {
		err = errors.New("it was moved away")
	}
	return err
}

// Give makes another user the owner of the directory and of everything in it.
// Only root can.
func (d *Dir) Give(uid, gid int) error {
	root, err := d.open()
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(filepath.FromSlash(path), uid, gid)
	})
	if err != nil {
		return internal("give the work directory to another user", err)
	}
	d.user = &uid
	return nil
}

// CheckDir reports, as an error with code BadInput, why a command cannot run in
// dir, a directory of this machine that the task names.
func CheckDir(dir string) error {
	st, err := os.Stat(dir)
	switch {
	case !filepath.IsAbs(dir):
		return badInput("dir %q is not an absolute path", dir)
	case errors.Is(err, fs.ErrNotExist):
		return badInput("dir %s: there is no such directory on this worker", dir)
	case err != nil:
		return badInput("dir %s: %v", dir, err)
	case !st.IsDir():
		return badInput("dir %s is not a directory", dir)
	}
	return nil
}

// Remove removes the directory and everything in it. It does not follow
// symbolic links, and removes read-only directories too. It may be called twice.
func (d *Dir) Remove() error {
	d.Close()
	if sp := d.spare; sp != nil {
		*d = Dir{}
		return sp.giveBack()
	}
	if d.path == "" { // it was given back
		return nil
	}
	var err error
	if d.hasElsewhere {
		err = remove(d.base + elsewhere)
	}
	// Most tasks leave nothing behind.
	syscall.Rmdir(d.Tmp())
	if syscall.Rmdir(d.path) == nil {
		return err
	}
	return errors.Join(err, RemoveAll(d.path))
}

// RemoveRoot removes root with all work directories in it, and what belongs to
// them elsewhere, until ctx ends. Nothing may use them any more.
func RemoveRoot(ctx context.Context, root string) error {
	if st, err := os.Lstat(root); err != nil || !st.IsDir() {
		return RemoveAll(root)
	}
	dirs, err := os.ReadDir(root)
	errs := []error{err}
	for _, e := range dirs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		errs = append(errs, remove(filepath.Join(root, e.Name())))
	}
	return errors.Join(append(errs, RemoveAll(root))...)
}

// remove removes what is at path. What a file of Elsewhere names goes before it.
func remove(path string) error {
	if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() && strings.HasSuffix(path, elsewhere) {
		if to, err := os.ReadFile(path); err == nil && filepath.IsAbs(string(to)) {
			if err := RemoveAll(string(to)); err != nil {
				return err
			}
		}
	}
	return RemoveAll(path)
}
