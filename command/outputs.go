package command

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// fileWriter writes the files that tasks left behind below a directory. Their
// names come from workers: nothing is written outside of the directory, not
// through a symbolic link either.
type fileWriter struct {
	client *client.Client
	dir    string
}

// write writes files into the directory, or into sub of it.
func (w *fileWriter) write(ctx context.Context, sub string, files []api.OutputStatus) error {
	if len(files) == 0 {
		return nil
	}
	if err := os.MkdirAll(w.dir, 0o777); err != nil {
		return err
	}
	root, err := os.OpenRoot(w.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for i := range files {
		if err := w.one(ctx, root, sub, &files[i]); err != nil {
			return fmt.Errorf("write %s: %w", clean(shorten(files[i].Name, 200)), err)
		}
	}
	// Directories last, the deepest first: their modes may forbid to write there.
	for _, f := range slices.Backward(files) {
		if f.Type == api.TypeDir {
			if err := root.Chmod(filepath.FromSlash(path.Join(sub, path.Clean(f.Name))), os.FileMode(f.Mode&0o777)); err != nil {
				return fmt.Errorf("write %s: %w", clean(shorten(f.Name, 200)), err)
			}
		}
	}
	return nil
}

func (w *fileWriter) one(ctx context.Context, root *os.Root, sub string, f *api.OutputStatus) error {
	if err := tasks.CheckName(f.Name); err != nil {
		return err
	}
	name := path.Join(sub, path.Clean(f.Name))
	dir := path.Dir(name)
	if f.Type == api.TypeDir {
		return root.MkdirAll(filepath.FromSlash(name), 0o777)
	}
	if err := root.MkdirAll(filepath.FromSlash(dir), 0o777); err != nil {
		return err
	}
	if f.Type == api.TypeSymlink {
		return w.link(root, name, f)
	}
	// A file is there whole or not at all.
	part := filepath.FromSlash(path.Join(dir, ".scagent-"+rand.Text()))
	if err := w.fill(ctx, root, part, f); err != nil {
		root.Remove(part) // the error of writing says more
		return err
	}
	return root.Rename(part, filepath.FromSlash(name))
}

// link makes a symbolic link, if it leads to what is below the same directory.
func (w *fileWriter) link(root *os.Root, name string, f *api.OutputStatus) error {
	target := string(f.ContentBase64)
	if path.IsAbs(target) || tasks.CheckName(path.Join(path.Dir(path.Clean(f.Name)), target)) != nil {
		return fmt.Errorf("it is a symbolic link to %s, outside", clean(shorten(target, 200)))
	}
	root.Remove(filepath.FromSlash(name)) // an older one; another error is Symlink's
	return root.Symlink(filepath.FromSlash(target), filepath.FromSlash(name))
}

func (w *fileWriter) fill(ctx context.Context, root *os.Root, part string, f *api.OutputStatus) (err error) {
	var content io.Reader = bytes.NewReader(f.ContentBase64)
	if f.Blob != "" {
		r, err := w.client.GetBlob(ctx, f.Blob)
		if err != nil {
			return err
		}
		defer r.Close()
		content = r
	}
	file, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := file.Close(); err == nil {
			err = e
		}
	}()
	n, err := io.Copy(file, io.LimitReader(content, f.Size+1))
	switch {
	case err != nil:
		return err
	case n != f.Size:
		return fmt.Errorf("the agent sent another number of bytes than the %d it named", f.Size)
	}
	return file.Chmod(os.FileMode(f.Mode & 0o777))
}
