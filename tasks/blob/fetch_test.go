package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// server serves a store through wrap, which may be nil.
func server(t *testing.T, s *Store, wrap func(http.Handler) http.Handler) *httptest.Server {
	var h http.Handler = s
	if wrap != nil {
		h = wrap(s)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// fetch fetches a content into s and gives it back at once.
func fetch(ctx context.Context, s *Store, client *http.Client, url, hash string, size int64) error {
	h, err := s.Fetch(ctx, client, url, hash, size)
	if err != nil {
		return err
	}
	return h.Close()
}

func TestServe(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	b := noise(1000)
	mustPut(t, s, b)
	srv := server(t, s, nil)
	url := srv.URL + Path + sum(b)
	for _, c := range []struct {
		name, method, url, ranges string
		status                    int
		body                      string
	}{
		{"whole", "GET", url, "", 200, string(b)},
		{"head", "HEAD", url, "", 200, ""},
		{"from", "GET", url, "bytes=990-", 206, string(b[990:])},
		{"part", "GET", url, "bytes=1-2", 206, string(b[1:3])},
		{"past the end", "GET", url, "bytes=1000-", 416, "*"},
		{"put", "PUT", url, "", 405, "*"},
		{"unknown", "GET", srv.URL + Path + sum(nil), "", 404, "no such blob\n"},
		{"upper case", "GET", srv.URL + Path + strings.ToUpper(sum(b)), "", 404, "*"},
		{"no hash", "GET", srv.URL + Path, "", 404, "*"},
		{"a path", "GET", srv.URL + Path + "..%2f..%2fetc%2fpasswd", "", 404, "*"},
		{"elsewhere", "GET", srv.URL + "/x/" + sum(b), "", 404, "*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, c.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.ranges != "" {
				req.Header.Set("Range", c.ranges)
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != c.status || c.body != "*" && string(body) != c.body {
				t.Errorf("%s %s = %s with %d bytes, %v, want %d with %d", c.method, c.url, resp.Status, len(body), err, c.status, len(c.body))
			}
			if c.status == 200 && (resp.ContentLength != 1000 || resp.Header.Get("Content-Type") != "application/octet-stream") {
				t.Errorf("headers %v", resp.Header)
			}
		})
	}
}

func TestFetch(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	var requests atomic.Int32
	srv := server(t, from, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { requests.Add(1); h.ServeHTTP(w, r) })
	})
	for _, n := range []int{0, 1, pieceBytes, 5*pieceBytes + 3} {
		b := noise(n)
		mustPut(t, from, b)
		for range 2 { // the second finds it here
			if err := fetch(t.Context(), to, srv.Client(), srv.URL+Path+sum(b), sum(b), int64(n)); err != nil {
				t.Fatalf("Fetch of %d bytes = %v", n, err)
			}
		}
		mustHave(t, to, b)
	}
	if n := requests.Load(); n != 4 {
		t.Errorf("%d requests for 4 contents", n)
	}
}

// flaky breaks each connection after so many bytes of a body.
type flaky struct {
	http.Handler
	after    int
	whole    bool // it ignores Range
	requests atomic.Int32
	ranges   sync.Map
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := f.requests.Add(1)
	f.ranges.Store(n, r.Header.Get("Range"))
	if f.whole {
		r.Header.Del("Range")
	}
	f.Handler.ServeHTTP(&breaking{ResponseWriter: w, left: f.after}, r)
}

type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.ResponseWriter.Write(p[:b.left])
		panic(http.ErrAbortHandler)
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}

func TestFetchGoesOnWhereItBroke(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	b := noise(1_000_000)
	mustPut(t, from, b)
	f := &flaky{Handler: from, after: 300_000}
	srv := server(t, from, func(http.Handler) http.Handler { return f })
	if err := fetch(t.Context(), to, srv.Client(), srv.URL+Path+sum(b), sum(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	mustHave(t, to, b)
	if n := f.requests.Load(); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
	for n, want := range []string{"", "bytes=300000-", "bytes=600000-", "bytes=900000-"} {
		if got, _ := f.ranges.Load(int32(n + 1)); got != want {
			t.Errorf("request %d asked for %q, want %q", n+1, got, want)
		}
	}
}

func TestFetchThatGetsNowhereGivesUp(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	b := noise(100_000)
	mustPut(t, from, b)
	for _, f := range []*flaky{{Handler: from}, {Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), after: 1}} {
		srv := server(t, from, func(http.Handler) http.Handler { return f })
		err := fetch(t.Context(), to, srv.Client(), srv.URL+Path+sum(b), sum(b), int64(len(b)))
		if err == nil || !strings.Contains(err.Error(), "gave up at 0 of 100000 bytes") || f.requests.Load() != fetchTries {
			t.Errorf("Fetch = %v after %d requests", err, f.requests.Load())
		}
	}
	if n := files(t, to); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

func TestFetchFromAServerWithoutRangesStartsAgain(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	b := noise(1_000_000)
	mustPut(t, from, b)
	f := &flaky{Handler: from, after: 300_000, whole: true}
	srv := server(t, from, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f.requests.Load() == 2 {
				f.after = 1 << 30
			}
			f.ServeHTTP(w, r)
		})
	})
	if err := fetch(t.Context(), to, srv.Client(), srv.URL+Path+sum(b), sum(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	mustHave(t, to, b)
}

func TestFetchOfSomethingElse(t *testing.T) {
	to := mustOpen(t, t.TempDir())
	b := noise(300_000)
	answer := func(status int, body []byte, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			w.Write(body)
		}
	}
	unending := func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		size int
		want error
	}{
		{"other bytes", answer(200, noise(300_001)[:300_000]), len(b), ErrCorrupt},
		{"longer", answer(200, noise(300_001)), len(b), ErrCorrupt},
		{"shorter", answer(200, b[1:]), len(b), ErrCorrupt},
		{"never ends", unending, len(b), ErrCorrupt},
		{"not there", answer(404, nil), len(b), ErrNotFound},
		{"refused", answer(403, nil), len(b), errPermanent},
		{"a part that was not asked for", answer(206, b, "Content-Range", "bytes 5-300004/300005"), len(b), errPermanent},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := server(t, to, func(http.Handler) http.Handler { return c.h })
			if err := fetch(t.Context(), to, srv.Client(), srv.URL, sum(b), int64(c.size)); !errors.Is(err, c.want) {
				t.Errorf("Fetch = %v, want %v", err, c.want)
			}
			if n := files(t, to); n != 0 {
				t.Errorf("%d files are left", n)
			}
		})
	}
	if err := fetch(t.Context(), to, http.DefaultClient, "http://127.0.0.1/", "../x", 1); err == nil {
		t.Error("Fetch of a path = nil")
	}
	if err := fetch(t.Context(), to, http.DefaultClient, "http://127.0.0.1/", sum(b), -1); err == nil {
		t.Error("Fetch of a negative size = nil")
	}
}

func TestFetchesOfOneContentShareADownload(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	b := noise(100_000)
	mustPut(t, from, b)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	srv := server(t, from, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			<-release
			h.ServeHTTP(w, r)
		})
	})
	get := func(ctx context.Context) error {
		return fetch(ctx, to, srv.Client(), srv.URL+Path+sum(b), sum(b), int64(len(b)))
	}
	first, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() { errs <- get(first) }()
	<-arrived
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := get(t.Context()); err != nil {
				t.Errorf("Fetch = %v", err)
			}
		})
	}
	cancel() // the first gives up; one of the others takes over
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("Fetch = %v, want canceled", err)
	}
	<-arrived
	close(release)
	wg.Wait()
	mustHave(t, to, b)
	if n := len(arrived); n != 0 {
		t.Errorf("%d more requests than needed", n)
	}
}

func TestFetchLeavesAConnectionThatBringsNothing(t *testing.T) {
	fromDir, toDir := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		from, to := mustOpen(t, fromDir), mustOpen(t, toDir)
		defer from.Close()
		defer to.Close()
		b := noise(2000)
		mustPut(t, from, b)
		// A network in memory; the first connection answers half and then nothing.
		conns := make(chan net.Conn)
		var dials atomic.Int32
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			if dials.Add(1) == 1 {
				go func() {
					theirs.Read(make([]byte, 4096))
					fmt.Fprintf(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n%s", b[:1000])
				}()
				return ours, nil
			}
			conns <- theirs
			return ours, nil
		}}}
		l := &listener{conns: conns, done: make(chan struct{})}
		srv := &http.Server{Handler: from}
		go srv.Serve(l)
		defer srv.Close()

		begin := time.Now()
		if err := fetch(t.Context(), to, client, "http://peer"+Path+sum(b), sum(b), 2000); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < fetchIdle || took > fetchIdle+time.Second {
			t.Errorf("Fetch took %v, want a little over %v", took, fetchIdle)
		}
		mustHave(t, to, b)
	})
}

// listener hands out connections from a channel.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }
