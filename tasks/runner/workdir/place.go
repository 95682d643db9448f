package workdir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/scagent/scagent/tasks"
)

// The modes of inputs that have none, and of directories that are made for them.
const (
	defaultMode = 0o644
	parentMode  = 0o755
)

// Place puts the task's inputs into the directory, each with exactly its bytes
// and mode, in any order: directories above a file are made, of mode 0755, and
// get the modes that inputs give them last, so that a read-only one can be
// filled. Symbolic links must lead to what is inside the directory, or would be;
// they come after the files, none of which is written through one. The error is
// an *Error, or the cause of ctx when that has ended.
func (d *Dir) Place(ctx context.Context, a *tasks.Attempt) error {
	var dirs, links []*tasks.Input
	for i := range a.Task.Inputs {
		in := &a.Task.Inputs[i]
		var err error
		switch fs.FileMode(in.Mode).Type() {
		case 0:
			err = d.Put(ctx, a, in.Name, in.Mode, &in.Content)
		case fs.ModeDir:
			err = d.putDir(ctx, in)
			dirs = append(dirs, in)
		case fs.ModeSymlink:
			links = append(links, in)
		default:
			err = badInput("input %q: its mode is %s; want that of a file, a directory or a symbolic link", shorten(in.Name), fs.FileMode(in.Mode))
		}
		if err != nil {
			return err
		}
	}
	if err := d.putLinks(ctx, links); err != nil {
		return err
	}
	// What is below a directory first: its mode may forbid to go there.
	slices.SortFunc(dirs, func(a, b *tasks.Input) int { return strings.Compare(path.Clean(b.Name), path.Clean(a.Name)) })
	for _, in := range dirs {
		mode := fs.FileMode(in.Mode).Perm()
		if mode == 0 {
			mode = parentMode
		}
		name := path.Clean(in.Name)
		if err := d.root.Chmod(filepath.FromSlash(name), mode); err != nil {
			return placeError(name, err)
		}
	}
	return nil
}

// putDir makes a directory, if it is not there as the parent of another input.
func (d *Dir) putDir(ctx context.Context, in *tasks.Input) error {
	name, root, err := d.ready(ctx, in.Name)
	switch {
	case err != nil:
		return err
	case name == tmpName:
		return placeError(name, fs.ErrExist)
	case in.Len() > 0:
		return badInput("input %q: a directory has no content", shorten(name))
	}
	if err := makeParents(root, path.Join(name, "x")); err != nil {
		return placeError(name, err)
	}
	return nil
}

// putLinks makes symbolic links and then looks where they lead: one may go
// through another.
func (d *Dir) putLinks(ctx context.Context, links []*tasks.Input) error {
	for _, in := range links {
		name, root, err := d.ready(ctx, in.Name)
		if err != nil {
			return err
		}
		target := string(in.Inline)
		if !leadsInside(name, target) {
			return badInput("input %q is a symbolic link to %.80q, which is not inside the work directory", shorten(name), target)
		}
		if err := makeParents(root, name); err != nil {
			return placeError(name, err)
		}
		if err := root.Symlink(filepath.FromSlash(target), filepath.FromSlash(name)); err != nil {
			return placeError(name, err)
		}
	}
	for _, in := range links {
		if _, err := d.root.Stat(filepath.FromSlash(path.Clean(in.Name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return badInput("input %q is a symbolic link that leads out of the work directory, or nowhere", shorten(in.Name))
		}
	}
	return nil
}

// leadsInside reports whether the target of the symbolic link of that name is,
// by the words of it, below the directory that name is relative to.
func leadsInside(name, target string) bool {
	return target != "" && !path.IsAbs(target) && tasks.CheckName(path.Join(path.Dir(name), target)) == nil
}

// ready checks what comes before anything is put into the directory, and returns
// the name without detours.
func (d *Dir) ready(ctx context.Context, name string) (string, *os.Root, error) {
	if ctx.Err() != nil {
		return "", nil, context.Cause(ctx)
	}
	if err := tasks.CheckName(name); err != nil {
		return "", nil, badInput("input: %v", err)
	}
	root, err := d.open()
	return path.Clean(name), root, err
}

// Put puts one file into the directory. The name must be free; directories
// above it are made, of mode 0755. Mode 0 stands for 0644. When Put returns, the
// file can be executed. Errors are as Place's.
func (d *Dir) Put(ctx context.Context, a *tasks.Attempt, name string, mode uint32, c *tasks.Content) error {
	name, root, err := d.ready(ctx, name)
	if err != nil {
		return err
	}
	var from io.ReadCloser = io.NopCloser(bytes.NewReader(c.Inline))
	if c.Blob != "" {
		if from, err = a.Open(ctx, c); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return internal(fmt.Sprintf("fetch input %q", name), err)
		}
	}
	defer from.Close()
	if mode == 0 {
		mode = defaultMode
	}
	if err := makeParents(root, name); err != nil {
		return placeError(name, err)
	}
	n, err := d.write(root, name, fs.FileMode(mode&0o777), from)
	if err != nil {
		return placeError(name, err)
	}
	if n != c.Len() {
		return internal(fmt.Sprintf("input %q", name), fmt.Errorf("has %d bytes; want %d", n, c.Len()))
	}
	if mode&0o111 != 0 {
		// A process that is just being started has our file open for writing until
		// it executes its own program, and no such file can be executed. This waits
		// for those.
		syscall.ForkLock.RLock()
		//lint:ignore SA2001 nothing is to be done while it is held
		syscall.ForkLock.RUnlock()
	}
	return nil
}

// Stdin returns what the attempt reads as its standard input: a.Stdin or, where
// that is nil, the content that the task names; nil if there is none. The caller
// closes it, if it is an io.Closer. Errors are as Place's.
func Stdin(ctx context.Context, a *tasks.Attempt) (io.Reader, error) {
	c := a.Task.Stdin
	switch {
	case a.Stdin != nil || c == nil:
		return a.Stdin, nil
	case c.Blob == "":
		return bytes.NewReader(c.Inline), nil
	}
	r, err := a.Open(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, internal("fetch standard input", err)
	}
	return r, nil
}

// mover is content that can become a file without a copy. MoveTo reports whether
// it did; if not, nothing is there.
type mover interface {
	MoveTo(path string) (bool, error)
}

// arriving is the name of a file until it is where no link of a repository can
// have led it.
const arriving = ".scagent-arriving"

// write makes the file and returns its size.
func (d *Dir) write(root *os.Root, name string, mode fs.FileMode, from io.Reader) (int64, error) {
	// Into a directory that is another user's, nothing moves: its path may lead elsewhere
	// by now, where that user could put nothing.
	if m, ok := from.(mover); ok && d.user == nil {
		moved, err := m.MoveTo(filepath.Join(d.path, arriving))
		if err != nil {
			return 0, err
		}
		if moved {
			return settle(root, name, mode)
		}
	}
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, from)
	if err == nil {
		err = f.Chmod(mode) // exactly, whatever the umask
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return n, err
}

// settle gives what has arrived its name and mode, and returns its size.
func settle(root *os.Root, name string, mode fs.FileMode) (int64, error) {
	name = filepath.FromSlash(name)
	err := root.Link(arriving, name)
	if err := errors.Join(err, root.Remove(arriving)); err != nil {
		return 0, err
	}
	if err := root.Chmod(name, mode); err != nil {
		return 0, err
	}
	st, err := root.Lstat(name)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// makeParents makes the directories above name that are not there yet.
func makeParents(root *os.Root, name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	if st, err := root.Stat(filepath.FromSlash(dir)); err == nil && st.IsDir() {
		return nil
	}
	if err := makeParents(root, dir); err != nil {
		return err
	}
	dir = filepath.FromSlash(dir)
	if err := root.Mkdir(dir, parentMode); err != nil {
		return err
	}
	return root.Chmod(dir, parentMode) // exactly, whatever the umask
}

func placeError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EISDIR):
		if name == tmpName {
			return badInput("input %q: the name is taken by TMPDIR; choose another", name)
		}
		return badInput("input %q: another input has this name, or lies below it", name)
	case errors.Is(err, syscall.ENOTDIR):
		return badInput("input %q: a part of its path is another input, a file", name)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return badInput("input %q: the name is too long for this worker", shorten(name))
	}
	return internal(fmt.Sprintf("input %q", shorten(name)), err)
}

func shorten(s string) string {
	if len(s) <= 80 {
		return s
	}
	return strings.ToValidUTF8(s[:80], "") + "…"
}
