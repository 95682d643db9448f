package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/scagent/scagent/agent/api"
)

// Info returns what the agent says of itself.
func (c *Client) Info(ctx context.Context) (api.Info, error) {
	var out api.Info
	err := c.call(ctx, http.MethodGet, "/v1/info", nil, nil, &out)
	return out, err
}

// Members returns who is in the agent's pool.
func (c *Client) Members(ctx context.Context) ([]api.Member, error) {
	var out []api.Member
	err := c.call(ctx, http.MethodGet, "/v1/members", nil, nil, &out)
	return out, err
}

// SetAvailable takes the agent's worker out of the list of those that get tasks,
// or puts it back.
func (c *Client) SetAvailable(ctx context.Context, available bool) error {
	return c.call(ctx, http.MethodPut, "/v1/available", nil, api.AvailableRequest{Available: &available}, nil)
}

// SetData replaces the node's data, which is any JSON.
func (c *Client) SetData(ctx context.Context, data json.RawMessage) error {
	return c.call(ctx, http.MethodPut, "/v1/data", nil, data, nil)
}

// Drain makes the agent take no new tasks, and waits until none runs there.
func (c *Client) Drain(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/drain", nil, nil, nil)
}

// Join makes the agent join at addresses, and says how many of them answered.
func (c *Client) Join(ctx context.Context, addrs ...string) (int, error) {
	var out api.Joined
	err := c.call(ctx, http.MethodPost, "/v1/join", nil, api.JoinRequest{Addrs: addrs}, &out)
	return out.Joined, err
}

// Leave makes the agent leave the pool and end.
func (c *Client) Leave(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/leave", nil, nil, nil)
}

// PutBlob stores content with the agent, for a task that names it by its hash.
// It is dropped after some minutes unless a task does. r is not closed.
func (c *Client) PutBlob(ctx context.Context, r io.Reader) (hash string, size int64, err error) {
	var out api.Blob
	// Bare of its Close method, which net/http would call.
	err = c.call(ctx, http.MethodPut, "/v1/blobs", nil, struct{ io.Reader }{r}, &out)
	return out.Blob, out.Size, err
}

// GetBlob returns content by its hash.
func (c *Client) GetBlob(ctx context.Context, hash string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/blobs/"+hash, nil, nil)
	if err != nil {
		return nil, err
	}
	return &body{resp.Body, c, ctx}, nil
}
