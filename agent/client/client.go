package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/home"
)

const (
	dialTimeout = 5 * time.Second
	// maxAnswerBytes bounds an answer that is decoded as a whole.
	maxAnswerBytes = 256 << 20
	// maxErrorBytes bounds how much of an error is read.
	maxErrorBytes = 64 << 10
)

// Client sends requests to one agent. It may be used by any number of goroutines.
type Client struct {
	addr  string // as the user knows it; constant
	base  string // begins every URL; constant
	token token  // constant
	http  *http.Client
	stop  func() // ends what ForHandler started; may be nil
}

// New returns the client of an address: unix:///path/of/socket, or
// http://127.0.0.1:PORT, which is sent the token of the agent there. It does not
// connect.
func New(addr string) (*Client, error) {
	if socket, ok := strings.CutPrefix(addr, "unix://"); ok {
		if !filepath.IsAbs(socket) {
			return nil, badAddr(addr, "has no absolute path")
		}
		return newClient(addr, "http://scagent", func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, notReached(addr, socket, err)
			}
			return c, nil
		}), nil
	}
	u, tcp, err := parseURL(addr)
	if err != nil {
		return nil, err
	}
	t, tcp, err := findToken(u.Hostname(), tcp)
	if err != nil {
		return nil, err
	}
	// Not what the name resolves to: it could be made another.
	c := newClient(addr, "http://"+u.Host, func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, tcp.String())
		if err != nil {
			return nil, notReached(addr, "", err)
		}
		return c, nil
	})
	c.token = t
	return c, nil
}

// NewDial returns a client whose connections dial opens, such as to an in-memory
// listener. addr is what errors call the agent.
func NewDial(addr string, dial func(ctx context.Context) (net.Conn, error)) *Client {
	return newClient(addr, "http://scagent", func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, notReached(addr, "", err)
		}
		return c, nil
	})
}

// Find returns the client of the address, or if that is empty of the one in
// SCAGENT_ADDR, or if there is none of the agent that home.Find picks; its errors
// then are home.Find's.
func Find(addr string) (*Client, error) {
	if addr == "" {
		addr = os.Getenv("SCAGENT_ADDR")
	}
	if addr != "" {
		return New(addr)
	}
	a, err := home.Find()
	if err != nil {
		return nil, err
	}
	return New("unix://" + a.Socket)
}

var dialer = net.Dialer{Timeout: dialTimeout}

func newClient(addr, base string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *Client {
	return &Client{addr: addr, base: base, http: &http.Client{
		Transport: &http.Transport{
			DialContext:         dial,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     30 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Addr returns the address of the agent.
func (c *Client) Addr() string { return c.addr }

// Close closes idle connections, and ends what ForHandler started. It may be
// called twice.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	if c.stop != nil {
		c.stop()
	}
}

// NoAnswerError says that nobody listens at an address.
type NoAnswerError struct {
	Addr string
	Err  error
}

func (e *NoAnswerError) Error() string {
	return fmt.Sprintf("no agent answers at %s (%v); start one with `scagent agent`, or name another with -addr", e.Addr, e.Err)
}

func (e *NoAnswerError) Unwrap() error { return e.Err }

// notReached says why a connection could not be opened. socket is empty unless
// it was one of the file system.
func notReached(addr, socket string, err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err // without the names of system calls
	}
	if socket != "" && errors.Is(err, os.ErrPermission) {
		return home.NoAccess(socket)
	}
	return &NoAnswerError{Addr: addr, Err: err}
}

// do sends a request and returns the answer if it is a good one. body is nil, an
// io.Reader, the lines of a batch, or a value that is sent as JSON.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var r io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case *lines:
		r, kind = b, api.NDJSON
	case io.Reader:
		r, kind = b, "application/octet-stream"
	default:
		var j bytes.Buffer
		e := json.NewEncoder(&j)
		e.SetEscapeHTML(false) // what it does to < makes text six times as long
		if err := e.Encode(body); err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		r, kind = &j, "application/json"
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, r)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if c.token.text != "" {
		req.Header.Set("Authorization", "Bearer "+c.token.text)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, c.refused(resp)
	}
	return resp, nil
}

// failed makes one clear line of an error on the way.
func (c *Client) failed(ctx context.Context, err error) error {
	var none *NoAnswerError
	var denied *home.NoAccessError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &none):
		return none
	case errors.As(err, &denied):
		return denied
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("the agent at %s hung up: %w", c.addr, err)
}

// refused reads the error that an answer carries.
func (c *Client) refused(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes)) // what there is must do
	var e api.ErrorBody
	if json.Unmarshal(b, &e) == nil && e.Error != nil && e.Error.Message != "" {
		e.Error.Status = resp.StatusCode
		switch {
		case e.Error.Code != api.CodeUnauthorized:
		case c.token.text != "":
			e.Error.Message = fmt.Sprintf("the agent at %s does not take the token in %s; is that another agent's?", c.addr, c.token.source)
		case c.token.why != nil:
			e.Error.Message = fmt.Sprintf("the agent at %s asks for a token, and there is none: %v", c.addr, c.token.why)
		}
		return e.Error
	}
	return fmt.Errorf("what answers at %s is not an agent: %s", c.addr, resp.Status)
}

// call sends a request and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	resp, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBytes)) // so that the connection can be used again
	} else {
		err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(out)
	}
	if err != nil {
		return c.failed(ctx, err)
	}
	return nil
}
