package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
	for addr, ok := range map[string]bool{
		"unix:///run/scagent/1.sock": true, "http://127.0.0.1:80": true, "http://[::1]:8080/": true, "http://localhost:1": true,
		"": false, "/run/x.sock": false, "unix://run/x": false, "unix:/run/x": false, "http://127.0.0.1": false, "https://127.0.0.1:1": false,
		"127.0.0.1:80": false, "http://a:1/b": false, "http://u@a:1": false, "http://a:1?b": false, "http://%zz:1": false,
	} {
		c, err := New(addr)
		if ok && (err != nil || c.Addr() != addr) {
			t.Errorf("New(%q) = %v", addr, err)
		}
		if !ok && (err == nil || !strings.Contains(err.Error(), "unix:///path")) {
			t.Errorf("New(%q) = %v; want an error that says what is wanted", addr, err)
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

func TestUnixSocketAndTCP(t *testing.T) {
	b := apitest.New(t, run)
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := api.NewServer(api.NewHandler(b, api.Options{}))
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

	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tsrv := api.NewServer(api.NewHandler(b, api.Options{Token: "t", Hosts: []string{tl.Addr().String()}}))
	go tsrv.Serve(tl)
	defer tsrv.Close()
	tc, err := New("http://" + tl.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close()
	var e *api.Error
	if _, err := tc.Info(t.Context()); !errors.As(err, &e) || e.Code != api.CodeUnauthorized {
		t.Errorf("Info without a token = %v, want unauthorized", err)
	}
	tc.Token = "t"
	if i, err := tc.Info(t.Context()); err != nil || i.Name != "m" {
		t.Errorf("Info over TCP = %+v, %v", i, err)
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
