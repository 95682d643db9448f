package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// bulkClient has hosts that are addresses.
func bulkClient() *http.Client {
	return &http.Client{Transport: &Bulk{Dial: func(ctx context.Context, host string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", host)
	}}}
}

// counted serves a store and counts the requests for contents.
func counted(t *testing.T, s *Store) (url string, gets *atomic.Int32) {
	gets = new(atomic.Int32)
	srv := server(t, s, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				gets.Add(1)
			}
			h.ServeHTTP(w, r)
		})
	})
	return srv.URL + Path, gets
}

// mustFetch fetches b and holds it.
func mustFetch(t *testing.T, s *Store, url string, b []byte) *Held {
	t.Helper()
	client := http.DefaultClient
	if len(b) >= BulkBytes {
		client = bulkClient()
	}
	h, err := s.Fetch(t.Context(), client, url+sum(b), sum(b), int64(len(b)))
	if err != nil {
		t.Fatalf("Fetch of %d bytes = %v", len(b), err)
	}
	t.Cleanup(func() { h.Close() })
	got, err := io.ReadAll(h)
	if err != nil || !bytes.Equal(got, b) {
		t.Fatalf("what was fetched has %d bytes, %v, want %d", len(got), err, len(b))
	}
	return h
}

func TestFetchedContentsStayWithinTheBound(t *testing.T) {
	from, dir := mustOpen(t, t.TempDir()), t.TempDir()
	url, gets := counted(t, from)
	to, err := Open(dir, 3500)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	all := make([][]byte, 5)
	for i := range all {
		all[i] = bytes.Repeat([]byte{byte(i)}, 1000)
		mustPut(t, from, all[i])
	}
	// use fetches one and says whether it had to be downloaded.
	use := func(i int) bool {
		t.Helper()
		before := gets.Load()
		mustFetch(t, to, url, all[i]).Close()
		return gets.Load() > before
	}
	for i, c := range []struct {
		content  int
		download bool
	}{
		{0, true}, {1, true}, {2, true}, // there is room for three
		{0, false}, {1, false}, // 2 is the one not used for longest
		{3, true}, {0, false}, {1, false}, {3, false},
		{2, true}, // and 0 had to go
		{1, false}, {3, false}, {0, true},
	} {
		if got := use(c.content); got != c.download {
			t.Fatalf("step %d: content %d was downloaded: %v, want %v", i, c.content, got, c.download)
		}
		if st := to.Stats(); st.Bytes > 3500 || files(t, to) != st.Blobs {
			t.Fatalf("step %d: %+v and %d files, want at most 3500 bytes", i, st, files(t, to))
		}
	}

	// What is in use stays, whatever the bound.
	var held []*Held
	for i := range all {
		held = append(held, mustFetch(t, to, url, all[i]))
	}
	if st := to.Stats(); st.Bytes != 5000 || st.Held != 5 {
		t.Errorf("%+v, want all five held", st)
	}
	for _, h := range held {
		h.Close()
	}
	if st := to.Stats(); st.Bytes != 3000 || st.Held != 0 {
		t.Errorf("%+v, want the three used last", st)
	}

	// The next agent goes on with them, in the order in which they came.
	for i, age := range map[int]time.Duration{2: time.Hour, 3: 3 * time.Hour, 4: 2 * time.Hour} {
		at := time.Now().Add(-age)
		if err := os.Chtimes(to.blobs[sum(all[i])].path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	to.Close()
	if to, err = Open(dir, 2000); err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if st := to.Stats(); st.Bytes != 2000 {
		t.Errorf("%+v after a restart with less room, want 2000 bytes", st)
	}
	for _, i := range []int{2, 4} {
		if use(i) {
			t.Errorf("content %d was downloaded after the restart", i)
		}
	}
}

// A client that puts what is in the cache may name it as long as what is new.
func TestWhatWasFetchedAndThenPutStays(t *testing.T) {
	from := mustOpen(t, t.TempDir())
	url, _ := counted(t, from)
	to, err := Open(t.TempDir(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	a, b := noise(900), noise(901)
	mustPut(t, from, a)
	mustPut(t, from, b)
	mustFetch(t, to, url, a).Close()
	mustPut(t, to, a)
	mustFetch(t, to, url, b).Close()
	mustHave(t, to, a)
	mustHave(t, to, b)
}

func TestWhatIsHeldAloneIsMovedAndThenCached(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	url, gets := counted(t, from)
	b := noise(BulkBytes + 7)
	mustPut(t, from, b)
	path := filepath.Join(t.TempDir(), "input")

	h := mustFetch(t, to, url, b)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if moved, err := h.MoveTo(path); moved || !errors.Is(err, fs.ErrExist) {
		t.Errorf("MoveTo a name that is taken = %v, %v", moved, err)
	}
	os.Remove(path)
	if moved, err := h.MoveTo(path); !moved || err != nil {
		t.Fatalf("MoveTo = %v, %v", moved, err)
	}
	h.Close()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
		t.Errorf("the file has %d bytes, %v", len(got), err)
	}
	// The second task gets a copy of its own, without a download.
	h = mustFetch(t, to, url, b)
	second := filepath.Join(t.TempDir(), "input")
	if moved, err := h.MoveTo(second); moved || err != nil {
		t.Errorf("MoveTo of what is cached = %v, %v", moved, err)
	}
	if err := os.WriteFile(path, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustHave(t, to, b)
	if n := gets.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

func TestWhatIsHeldTwiceIsNotMoved(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	url, gets := counted(t, from)
	b := noise(BulkBytes)
	mustPut(t, from, b)
	first, second := mustFetch(t, to, url, b), mustFetch(t, to, url, b)
	if moved, err := first.MoveTo(filepath.Join(t.TempDir(), "x")); moved || err != nil {
		t.Errorf("MoveTo = %v, %v", moved, err)
	}
	first.Close()
	second.Close()
	if n := gets.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

// A task may change its input before the copy for the cache is made.
func TestAChangedInputIsNotCached(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	url, gets := counted(t, from)
	for i, change := range []func(path string) error{
		func(path string) error { spoil(t, path, 5); return nil },
		func(path string) error { return os.Truncate(path, 7) },
		func(path string) error { return os.Truncate(path, 10*BulkBytes) },
	} {
		b := noise(BulkBytes + i)
		mustPut(t, from, b)
		h := mustFetch(t, to, url, b)
		path := filepath.Join(t.TempDir(), "input")
		to.back.Lock() // the copying waits
		if moved, err := h.MoveTo(path); !moved || err != nil {
			t.Fatalf("MoveTo = %v, %v", moved, err)
		}
		err := change(path)
		to.back.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		gets.Store(0)
		mustFetch(t, to, url, b).Close() // it waits for the copy, and finds none
		if n := gets.Load(); n != 1 {
			t.Errorf("change %d: %d downloads of a content whose copy was spoilt, want 1", i, n)
		}
		mustHave(t, to, b)
	}
}

func TestWithoutACacheNothingStays(t *testing.T) {
	from, dir := mustOpen(t, t.TempDir()), t.TempDir()
	url, gets := counted(t, from)
	to, err := Open(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	b := noise(BulkBytes)
	mustPut(t, from, b)
	for range 2 {
		h := mustFetch(t, to, url, b)
		if moved, err := h.MoveTo(filepath.Join(t.TempDir(), "x")); !moved || err != nil {
			t.Errorf("MoveTo = %v, %v", moved, err)
		}
		h.Close()
	}
	mustFetch(t, to, url, b).Close()
	if n, left := gets.Load(), files(t, to); n != 3 || left != 0 {
		t.Errorf("%d downloads and %d files, want 3 and none", n, left)
	}
}

// lying serves what is not the content, with a checksum that fits it.
func lying(t *testing.T, hash string, lie []byte) (url string) {
	s := mustOpen(t, t.TempDir())
	real := mustPut(t, s, lie)
	srv := server(t, s, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == Path+hash {
				r.URL.Path = Path + real
			}
			h.ServeHTTP(w, r)
		})
	})
	return srv.URL + Path
}

// A node that lies about what it has can deceive itself alone.
func TestALieIsNotGivenToOthers(t *testing.T) {
	for _, size := range []int{1000, BulkBytes + 1} {
		truth, lie := noise(size), noise(size + 1)[:size]
		honest := mustOpen(t, t.TempDir())
		mustPut(t, honest, truth)
		honestURL, _ := counted(t, honest)
		lyingURL := lying(t, sum(truth), lie)
		for _, moved := range []bool{false, true} {
			to := mustOpen(t, t.TempDir())
			h, err := to.Fetch(t.Context(), bulkClient(), lyingURL+sum(truth), sum(truth), int64(size))
			switch {
			case size < BulkBytes:
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("Fetch of a small lie = %v, want ErrCorrupt", err)
				}
			case err != nil:
				t.Fatal(err)
			case moved:
				if ok, err := h.MoveTo(filepath.Join(t.TempDir(), "x")); !ok || err != nil {
					t.Errorf("MoveTo = %v, %v", ok, err)
				}
			}
			mustFetch(t, to, honestURL, truth).Close()
			mustHave(t, to, truth)
			if h != nil {
				h.Close()
			}
		}
		// Nor is it served, or read by who names the hash here.
		to := mustOpen(t, t.TempDir())
		if h, err := to.Fetch(t.Context(), bulkClient(), lyingURL+sum(truth), sum(truth), int64(size)); err == nil {
			defer h.Close()
		}
		if _, _, err := to.Get(sum(truth)); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get of a lie = %v, want ErrNotFound", err)
		}
	}
}

func TestALargeContentIsComparedWithItsChecksum(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	url, _ := counted(t, from)
	b := noise(3 * BulkBytes)
	mustPut(t, from, b)
	spoil(t, from.blobs[sum(b)].path, BulkBytes)
	if _, err := to.Fetch(t.Context(), bulkClient(), url+sum(b), sum(b), int64(len(b))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Fetch of a spoilt content = %v, want ErrCorrupt", err)
	}
	if n := files(t, to); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// A server that tells no checksum is believed only what the hash says.
func TestWithoutAChecksumTheHashCounts(t *testing.T) {
	b := noise(BulkBytes + 5)
	for _, c := range []struct {
		name string
		body []byte
		want error
	}{{"the content", b, nil}, {"another", noise(BulkBytes + 6)[:BulkBytes+5], ErrCorrupt}} {
		t.Run(c.name, func(t *testing.T) {
			to := mustOpen(t, t.TempDir())
			srv := server(t, to, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(c.body))
				})
			})
			err := fetch(t.Context(), to, bulkClient(), srv.URL+Path+sum(b), sum(b), int64(len(b)))
			if !errors.Is(err, c.want) {
				t.Errorf("Fetch = %v, want %v", err, c.want)
			}
			if err == nil {
				mustHave(t, to, b)
			}
		})
	}
}

func TestALargeFetchGoesOnWhereItBroke(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	b := noise(10 * BulkBytes)
	mustPut(t, from, b)
	f := &flaky{Handler: from, after: 4*BulkBytes + 100}
	srv := server(t, from, func(http.Handler) http.Handler { return f })
	if err := fetch(t.Context(), to, bulkClient(), srv.URL+Path+sum(b), sum(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	mustHave(t, to, b)
	if n := f.requests.Load(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestALargeFetchEndsWithItsContext(t *testing.T) {
	to := mustOpen(t, t.TempDir())
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	srv := server(t, to, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10485760")
			w.Write(make([]byte, 2*BulkBytes))
			w.(http.Flusher).Flush()
			cancel(why)
			<-r.Context().Done()
		})
	})
	if err := fetch(ctx, to, bulkClient(), srv.URL+Path+sum(nil), sum(nil), 10<<20); !errors.Is(err, why) {
		t.Errorf("Fetch = %v, want %v", err, why)
	}
	if n := files(t, to); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

func TestEndlessHeadersEndALargeFetch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan int)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		l.Close() // for any other try
		defer c.Close()
		n, _ := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for err == nil && n < 64<<20 {
			var m int
			m, err = io.WriteString(c, "X-Header: value value value value value value value value value value\r\n")
			n += m
		}
		sent <- n
	}()
	to := mustOpen(t, t.TempDir())
	if err := fetch(t.Context(), to, bulkClient(), "http://"+l.Addr().String()+Path+sum(nil), sum(nil), BulkBytes); err == nil {
		t.Error("Fetch from endless headers = nil")
	}
	if n := <-sent; n >= 64<<20 {
		t.Errorf("%d bytes of headers were taken", n)
	}
}

func TestAFullDiskEndsALargeFetch(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	url, gets := counted(t, from)
	b := noise(2 * BulkBytes)
	mustPut(t, from, b)
	to.create = func(dir, pattern string) (*os.File, error) { // a name that writes to a full device
		name := filepath.Join(dir, pattern+"full")
		if err := os.Symlink("/dev/full", name); err != nil {
			return nil, err
		}
		return os.OpenFile(name, os.O_RDWR, 0)
	}
	if err := fetch(t.Context(), to, bulkClient(), url+sum(b), sum(b), int64(len(b))); !errors.Is(err, ErrFull) {
		t.Errorf("Fetch = %v, want ErrFull", err)
	}
	if n, left := gets.Load(), files(t, to); n != 1 || left != 0 {
		t.Errorf("%d requests and %d files, want one and none", n, left)
	}
}

// Who removes files of the store by hand costs a download.
func TestACachedFileThatIsGoneIsFetchedAgain(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	url, gets := counted(t, from)
	b := noise(1000)
	mustPut(t, from, b)
	mustFetch(t, to, url, b).Close()
	if err := os.Remove(to.blobs[sum(b)].path); err != nil {
		t.Fatal(err)
	}
	mustFetch(t, to, url, b).Close()
	if n := gets.Load(); n != 2 {
		t.Errorf("%d downloads, want 2", n)
	}
}
