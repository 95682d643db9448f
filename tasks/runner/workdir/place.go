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
	"strings"
	"syscall"

	"github.com/scagent/scagent/tasks"
)

const defaultMode = 0o644

// Place puts the task's inputs into the directory, each with exactly its bytes
// and mode. The error is an *Error, or the cause of ctx when that has ended.
func (d *Dir) Place(ctx context.Context, a *tasks.Attempt) error {
	for i := range a.Task.Inputs {
		in := &a.Task.Inputs[i]
		if err := d.Put(ctx, a, in.Name, in.Mode, &in.Content); err != nil {
			return err
		}
	}
	return nil
}

// Put puts one file into the directory. The name must be free; directories
// above it are made, of mode 0755. Mode 0 stands for 0644. When Put returns, the
// file can be executed. Errors are as Place's.
func (d *Dir) Put(ctx context.Context, a *tasks.Attempt, name string, mode uint32, c *tasks.Content) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := tasks.CheckName(name); err != nil {
		return badInput("input: %v", err)
	}
	root, err := d.open()
	if err != nil {
		return err
	}
	name = path.Clean(name)
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
	n, err := write(root, name, fs.FileMode(mode&0o777), from)
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

func write(root *os.Root, name string, mode fs.FileMode, from io.Reader) (int64, error) {
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
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return root.Chmod(dir, 0o755)
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
