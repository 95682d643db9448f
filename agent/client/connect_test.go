package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/tasks"
)

func TestAddresses(t *testing.T) {
	for _, addr := range []string{"unix:///run/scagent/1.sock", "http://127.0.0.1:80", "http://[::1]:8080/", "http://localhost:1", "http://127.0.0.2:1"} {
		if c, err := New(addr); err != nil || c.Addr() != addr {
			t.Errorf("New(%q) = %v", addr, err)
		}
	}
	const form, secret = "want unix:///path or http://127.0.0.1:PORT", "hunter2"
	for addr, want := range map[string]string{
		"": form, "/run/x.sock": form, "unix://run/x": form, "unix:/run/x": form, "127.0.0.1:80": form, "ftp://127.0.0.1:80": form,
		"http://127.0.0.1": "has no port", "http://127.0.0.1:": "has no port", "http://127.0.0.1:0": "has no port", "http://127.0.0.1:99999": form, "http://%zz:1": form, "http:///x": form,
		"http://127.0.0.1:1/b": "more than a host and a port", "https://127.0.0.1:1": "is TLS",
		// The token, and what somebody takes for it, is neither sent nor repeated.
		"http://" + secret + "@127.0.0.1:1": "never from the address", "http://x:" + secret + "@127.0.0.1:1": "never from the address",
		"http://127.0.0.1:1?token=" + secret: "never from the address", "http://127.0.0.1:1/#t=" + secret: "never from the address", "http://10.0.0.1:1?" + secret: "never from the address",
		"http://%" + secret + "@127.0.0.1:1": form,
		"http://10.0.0.1:1":                  "is not on this host", "http://0.0.0.0:1": "is not on this host", "http://[::]:1": "is not on this host", "http://example.com:1": "is not on this host",
		"http://localhost.example.com:1": "is not on this host", "http://127.0.0.1.nip.io:1": "is not on this host", "http://[fe80::1%25lo]:1": "is not on this host", "http://[::ffff:8.8.8.8]:1": "is not on this host",
	} {
		if _, err := New(addr); err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), secret) {
			t.Errorf("New(%q) = %v; want one line with %q, without a secret", addr, err, want)
		}
	}
}

// over serves an API at a loopback address that asks for a token.
func over(t *testing.T, host string) (addr string) {
	t.Helper()
	l, err := api.ListenTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	bound := netip.MustParseAddrPort(l.Addr().String())
	srv := api.NewServer(api.NewHandler(apitest.New(t, run), api.Options{Token: token1, Hosts: api.Hosts(bound)}))
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return fmt.Sprintf("http://%s:%d", host, bound.Port())
}

const (
	token1 = "1111111111111111111111111111111111111111111111111111111111111111"
	token2 = "2222222222222222222222222222222222222222222222222222222222222222"
)

func tokenFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokenOfAFile(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "localhost"} {
		addr := over(t, host)
		t.Setenv("SCAGENT_TOKEN_FILE", "")
		info := func() error {
			c, err := New(addr)
			if err != nil {
				return err
			}
			defer c.Close()
			i, err := c.Info(t.Context())
			if err == nil && i.Name != "m" {
				err = fmt.Errorf("info is %+v", i)
			}
			return err
		}
		var e *api.Error
		if err := info(); !errors.As(err, &e) || e.Code != api.CodeUnauthorized || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "SCAGENT_TOKEN_FILE") {
			t.Errorf("Info without a token = %v; want unauthorized, the address and what names a token", err)
		}
		right := tokenFile(t, token1+"\n", 0o600)
		t.Setenv("SCAGENT_TOKEN_FILE", right)
		if err := info(); err != nil {
			t.Errorf("Info with the token = %v", err)
		}
		wrong := tokenFile(t, token2, 0o600)
		t.Setenv("SCAGENT_TOKEN_FILE", wrong)
		if err := info(); !errors.As(err, &e) || e.Code != api.CodeUnauthorized || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), token2) {
			t.Errorf("Info with another agent's token = %v; want unauthorized, the address and the file", err)
		}
		for name, path := range map[string]string{"no file": "/nowhere", "a file for all": tokenFile(t, token1, 0o644), "no token": tokenFile(t, "x", 0o600), "a directory": t.TempDir()} {
			t.Setenv("SCAGENT_TOKEN_FILE", path)
			if err := info(); err == nil || !strings.Contains(err.Error(), "SCAGENT_TOKEN_FILE: ") || !strings.Contains(err.Error(), path) {
				t.Errorf("Info with %s = %v; want the variable and %s", name, err, path)
			}
		}
	}
}

func TestTokenIsNotSentWhereARedirectLeads(t *testing.T) {
	asked := make(chan string, 10)
	ask := func(w http.ResponseWriter, r *http.Request) { asked <- r.Host + " " + r.Header.Get("Authorization") }
	other := httptest.NewServer(http.HandlerFunc(ask))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ask(w, r)
		http.Redirect(w, r, other.URL+"/v1/info", http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	t.Setenv("SCAGENT_TOKEN_FILE", tokenFile(t, token1, 0o600))
	c, err := New(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Info(t.Context()); err == nil {
		t.Error("Info followed a redirect")
	}
	close(asked)
	for got := range asked {
		if want := srv.Listener.Addr().String() + " Bearer " + token1; got != want {
			t.Errorf("asked %q, want %q alone", got, want)
		}
	}
}

func TestFindTakesTheAddressItIsGiven(t *testing.T) {
	t.Setenv("SCAGENT_ADDR", "http://127.0.0.1:2")
	if c, err := Find("http://127.0.0.1:1"); err != nil || c.Addr() != "http://127.0.0.1:1" {
		t.Errorf("Find = %v, %v; want the address of the call", c, err)
	}
	if c, err := Find(""); err != nil || c.Addr() != "http://127.0.0.1:2" {
		t.Errorf("Find = %v, %v; want the address of the environment", c, err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	stale := filepath.Join(t.TempDir(), "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp.Close()
	for _, addr := range []string{"unix://" + stale, "unix://" + filepath.Join(t.TempDir(), "none.sock"), "http://" + tcp.Addr().String()} {
		c, err := New(addr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Info(t.Context())
		var none *NoAnswerError
		if !errors.As(err, &none) || none.Addr != addr {
			t.Fatalf("Info = %v, want a *NoAnswerError", err)
		}
		for _, w := range []string{addr, "scagent agent", "-addr"} {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q does not mention %s", err, w)
			}
		}
		if _, err := c.SubmitFollow(t.Context(), command("x")); !errors.As(err, &none) {
			t.Errorf("SubmitFollow = %v, want a *NoAnswerError", err)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := api.NewServer(api.NewHandler(apitest.New(t, run), api.Options{}))
	go srv.Serve(l)
	defer srv.Close()
	c, err := New("unix://" + sock)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if i, err := c.Info(t.Context()); err != nil || i.Name != "m" {
		t.Errorf("Info over a unix socket = %+v, %v", i, err)
	}
}

func TestSomethingElseAnswers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"a web server": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://evil.example/", http.StatusFound)
		},
		"an empty error": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			io.WriteString(w, `{"error":null}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := ForHandler(h)
			defer c.Close()
			if _, err := c.Info(t.Context()); err == nil || !strings.Contains(err.Error(), "not an agent") {
				t.Errorf("Info = %v; want that it is not an agent", err)
			}
		})
	}
}

func TestBrokenStreamsAreErrors(t *testing.T) {
	first := `{"type":"submitted","submitted":{"run":"` + (tasks.ID{1}).String() + `"}}` + "\n"
	for name, c := range map[string]struct {
		body  string
		abort bool
		early bool // SubmitFollow fails
		want  string
	}{
		"nothing":            {"", false, true, "hung up"},
		"cut at once":        {"", true, true, "hung up"},
		"another stream":     {`{"type":"started"}`, false, true, "not an agent"},
		"cut":                {first, true, false, "hung up"},
		"cut in an event":    {first + `{"type":"out`, true, false, "hung up"},
		"half an event":      {first + `{"type":"out`, false, false, "hung up"},
		"ended by the agent": {first + `{"type":"error","error":{"code":"closing","message":"is closing"}}`, false, false, "is closing"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := ForHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, c.body)
				http.NewResponseController(w).Flush()
				if c.abort {
					panic(http.ErrAbortHandler)
				}
			}))
			defer cl.Close()
			s, err := cl.SubmitFollow(t.Context(), command("x"))
			if err == nil {
				defer s.Close()
				_, err = s.Next()
				if c.early {
					t.Errorf("SubmitFollow succeeded; want an error")
				}
			}
			if err == nil || err == io.EOF || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v; want %q", err, c.want)
			}
		})
	}
}

func TestCloseWaitsForTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, done := make(chan struct{}), false
		c := ForHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(inside)
			<-r.Context().Done()
			time.Sleep(time.Minute)
			done = true
		}))
		failed := make(chan error)
		go func() {
			_, err := c.Info(t.Context())
			failed <- err
		}()
		<-inside
		go func() {
			if err := <-failed; err == nil {
				t.Error("Info succeeded; want that the agent hung up")
			}
		}()
		c.Close()
		if !done {
			t.Error("Close returned while the handler was still running")
		}
		c.Close()
		if _, err := c.Info(t.Context()); err == nil {
			t.Error("Info of a closed client succeeded")
		}
	})
}

func TestDialOfTheCaller(t *testing.T) {
	srv := httptest.NewServer(api.NewHandler(apitest.New(t, run), api.Options{}))
	defer srv.Close()
	c := NewDial("here", func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", srv.Listener.Addr().String())
	})
	defer c.Close()
	if i, err := c.Info(t.Context()); err != nil || i.Name != "m" {
		t.Errorf("Info = %+v, %v", i, err)
	}
	c = NewDial("there", func(ctx context.Context) (net.Conn, error) { return nil, os.ErrClosed })
	var none *NoAnswerError
	if _, err := c.Info(t.Context()); !errors.As(err, &none) || none.Addr != "there" {
		t.Errorf("Info = %v, want a *NoAnswerError that names the address", err)
	}
}
