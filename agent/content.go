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
	"github.com/scagent/scagent/tasks/blob"
)

// Contents too large to travel inside a task are files named by hash. Whoever
// needs one fetches it over HTTP from the node that has it: a worker the inputs
// of a task, a master the files that a task made. A file gets its hash where the
// master's node takes it in: from the client that puts it, or from the worker.

// MaxBlobBytes bounds one file.
const MaxBlobBytes = 1 << 40

const blobPath = blob.Path

// newHTTPClients returns clients whose hosts are node ids: one for what is small,
// and one for large contents.
func (a *Agent) newHTTPClients() (small, bulk *http.Client) {
	dial := func(ctx context.Context, node string) (net.Conn, error) {
		return a.dialNode(ctx, port.SortHTTP, node)
	}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return dial(ctx, node)
		},
		MaxIdleConnsPerHost: 4,
		DisableCompression:  true,
	}}, &http.Client{Transport: &blob.Bulk{Dial: dial}}
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

// contentAt returns how to fetch content that a node has.
func (a *Agent) contentAt(node string, c *tasks.Content) (client *http.Client, url string) {
	client = a.http
	if c.Size >= blob.BulkBytes {
		client = a.bulk
	}
	return client, "http://" + node + blobPath + c.Blob
}

// openContent opens content that a task names by hash, for a runner.
func (a *Agent) openContent(ctx context.Context, node string, c *tasks.Content) (io.ReadCloser, error) {
	client, url := a.contentAt(node, c)
	f, err := a.blobs.Fetch(ctx, client, url, c.Blob, c.Size)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// keep takes over a file that a task made: into memory if it has at most inline
// bytes, else into the blob store, where it has a name until the master names it
// by its hash.
func (a *Agent) keep(path string, inline int64) (tasks.Content, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return tasks.Content{}, err
	}
	if fi.Size() <= inline {
		b, err := readUpTo(path, inline+1)
		if err != nil {
			return tasks.Content{}, err
		}
		if int64(len(b)) <= inline { // else it has grown: who has it open is not ours to stop
			return tasks.Content{Inline: b}, nil
		}
	}
	name, size, err := a.blobs.Stage(path)
	return tasks.Content{Blob: name, Size: size}, err
}

// readUpTo reads at most so many bytes of a file.
func readUpTo(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// receive brings a file that a task made here from its worker, holds it, and names
// it by its hash.
func (a *Agent) receive(ctx context.Context, node string, c *tasks.Content) error {
	if node == a.id.id {
		return a.receiveOwn(ctx, c)
	}
	client, url := a.contentAt(node, c)
	hash, err := a.blobs.Receive(ctx, client, url, c.Size)
	if err == nil {
		c.Blob = hash
	}
	return err
}

// receiveOwn does so for the worker that is part of this agent.
func (a *Agent) receiveOwn(ctx context.Context, c *tasks.Content) error {
	f, _, err := a.blobs.Get(c.Blob)
	if err != nil {
		return err
	}
	defer f.Close()
	hash, size, err := a.blobs.Put(ctx, f, MaxBlobBytes)
	if err != nil {
		return err
	}
	c.Blob, c.Size = hash, size
	return a.blobs.Hold(hash)
}

func (a *Agent) hold(c *tasks.Content) {
	if err := a.blobs.Hold(c.Blob); err != nil {
		a.cfg.Logger.Printf("[WARN] agent: content is gone: blob=%s err=%q", c.Blob, err)
	}
}

func (a *Agent) syncContent(c *tasks.Content) error { return a.blobs.Sync(c.Blob) }

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
