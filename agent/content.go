package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/tasks"
)

// Contents too large to travel inside a task are files named by hash. Whoever
// needs one fetches it over HTTP from the node that has it: a worker the inputs
// of a task, a master the files that a task made.

// MaxBlobBytes bounds one file.
const MaxBlobBytes = 1 << 40

const blobPath = "/scagent/v1/blob/"

// newHTTPClient returns a client whose hosts are node ids.
func (a *Agent) newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return a.dialNode(ctx, port.SortHTTP, node)
		},
		MaxIdleConnsPerHost: 4,
		DisableCompression:  true,
	}}
}

// newTrackerClient returns a client for the URLs of trackers. In the open posture
// it stays on the LAN; in a secured pool it shows this node's certificate to, and
// wants one of the cluster from, whoever answers https.
func (a *Agent) newTrackerClient() *http.Client {
	t := &http.Transport{DialContext: (&net.Dialer{Control: a.leavesLAN}).DialContext, IdleConnTimeout: time.Minute}
	if a.keys != nil {
		t.DialTLSContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
			c, err := t.DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			s := tls.Client(c, a.keys.Client(port.SortHTTP.ALPN(), ""))
			if err := s.HandshakeContext(ctx); err != nil {
				c.Close()
				return nil, fmt.Errorf("%s: %w; does it have the same secret?", addr, err)
			}
			return s, nil
		}
	}
	return &http.Client{Transport: t}
}

// fetch brings content that a node has here, and holds it.
func (a *Agent) fetch(ctx context.Context, node string, c *tasks.Content) error {
	if a.blobs.Hold(c.Blob) == nil {
		return nil // it is here already
	}
	if err := a.blobs.Fetch(ctx, a.http, "http://"+node+blobPath+c.Blob, c.Blob, c.Size); err != nil {
		return err
	}
	return a.blobs.Hold(c.Blob)
}

// openContent opens content that a task names by hash, for a runner.
func (a *Agent) openContent(ctx context.Context, node string, c *tasks.Content) (io.ReadCloser, error) {
	if err := a.fetch(ctx, node, c); err != nil {
		return nil, err
	}
	f, _, err := a.blobs.Get(c.Blob)
	if err != nil {
		a.blobs.Release(c.Blob)
		return nil, err
	}
	return &heldFile{f, a, c.Blob}, nil
}

// heldFile gives its blob up when it is closed.
type heldFile struct {
	*os.File
	a    *Agent
	blob string
}

func (f *heldFile) Close() error {
	f.a.blobs.Release(f.blob)
	return f.File.Close()
}

// keep takes over a file that a task made: into memory if it has at most inline
// bytes, else into the blob store.
func (a *Agent) keep(path string, inline int64) (tasks.Content, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return tasks.Content{}, err
	}
	if fi.Size() <= inline {
		b, err := os.ReadFile(path)
		return tasks.Content{Inline: b}, err
	}
	hash, size, err := a.blobs.Adopt(path)
	if err != nil {
		return tasks.Content{}, err
	}
	return tasks.Content{Blob: hash, Size: size}, a.blobs.Hold(hash)
}

func (a *Agent) hold(c *tasks.Content) {
	if err := a.blobs.Hold(c.Blob); err != nil {
		a.cfg.Logger.Printf("[WARN] agent: content is gone: blob=%s err=%q", c.Blob, err)
	}
}

func (a *Agent) release(c *tasks.Content) {
	if c.Blob != "" {
		a.blobs.Release(c.Blob)
	}
}

// PutBlob stores content that tasks can name by its hash. What no task names is
// dropped after some minutes.
func (a *Agent) PutBlob(ctx context.Context, r io.Reader) (hash string, size int64, err error) {
	return a.blobs.Put(ctx, r, MaxBlobBytes)
}

// OpenBlob opens content by its hash.
func (a *Agent) OpenBlob(hash string) (io.ReadSeekCloser, int64, error) {
	f, size, err := a.blobs.Get(hash)
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", hash, err)
	}
	return f, size, nil
}
