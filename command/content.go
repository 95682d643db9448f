package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// maxInlineTotal is how much content travels inside a task, all told. It keeps
// a task with many small files below tasks.MaxSpecBytes.
const maxInlineTotal = 256 << 10

// packer decides for each content of a task whether it travels inside it or is
// uploaded first.
type packer struct {
	left    int64 // of maxInlineTotal
	uploads []upload
}

// upload is content that the agent must have before the task is submitted.
type upload struct {
	what string // for errors
	open func() (io.ReadCloser, error)
	set  func(hash string)
}

func newPacker() *packer { return &packer{left: maxInlineTotal} }

// fits takes n bytes off what may travel inside the task, if they are few enough.
func (p *packer) fits(n int64) bool {
	if n > tasks.MaxInlineBytes || n > p.left {
		return false
	}
	p.left -= n
	return true
}

// file packs a regular file into one of the two, and returns its permissions.
func (p *packer) file(path string, inline *[]byte, blob *string) (mode uint32, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case st.IsDir():
		return 0, fmt.Errorf("%s is a directory; want a regular file", path)
	case !st.Mode().IsRegular():
		return 0, fmt.Errorf("%s is not a regular file", path)
	}
	mode = uint32(st.Mode().Perm())
	if p.fits(st.Size()) {
		*inline, err = io.ReadAll(io.LimitReader(f, st.Size()))
		return mode, err
	}
	p.uploads = append(p.uploads, upload{
		what: path,
		open: func() (io.ReadCloser, error) { return os.Open(path) },
		set:  func(hash string) { *blob = hash },
	})
	return mode, nil
}

// stream packs what r has. Of what is too large it has read only the beginning
// when it returns; the rest is read by the upload.
func (p *packer) stream(what string, r io.Reader, inline **[]byte, blob *string) error {
	head, err := io.ReadAll(io.LimitReader(r, tasks.MaxInlineBytes+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	if p.fits(int64(len(head))) {
		*inline = &head
		return nil
	}
	p.uploads = append(p.uploads, upload{
		what: what,
		open: func() (io.ReadCloser, error) { return io.NopCloser(io.MultiReader(bytes.NewReader(head), r)), nil },
		set:  func(hash string) { *blob = hash },
	})
	return nil
}

// send uploads what does not travel inside the task.
func (p *packer) send(ctx context.Context, c *client.Client) error {
	for _, u := range p.uploads {
		r, err := u.open()
		if err != nil {
			return err
		}
		hash, _, err := c.PutBlob(ctx, r)
		r.Close()
		if err != nil {
			return fmt.Errorf("send %s: %w", u.what, err)
		}
		u.set(hash)
	}
	return nil
}
