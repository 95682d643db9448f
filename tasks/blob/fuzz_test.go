package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/scagent/scagent/test/bounds"
)

func openFuzzed(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// FuzzServe asks for contents by any path and range. What is answered is part of
// a content that is there.
func FuzzServe(f *testing.F) {
	s := openFuzzed(f)
	content := strings.Repeat("0123456789", 100)
	hash, _, err := s.Put(f.Context(), strings.NewReader(content), 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []string{hash, "../" + hash, strings.ToUpper(hash), hash + "/", hash[:63], strings.Repeat("0", 64), "/etc/passwd", "%2e%2e/" + hash, hash + "\n", ""} {
		f.Add("GET", p, "")
	}
	for _, r := range []string{"bytes=0-", "bytes=5-9", "bytes=-1", "bytes=999-2000", "bytes=1000-", "bytes=0-0,0-0,0-0", "bytes=9223372036854775807-", "bytes=-9223372036854775808", "x", "bytes=5-2"} {
		f.Add("GET", hash, r)
	}
	f.Add("HEAD", hash, "")
	f.Add("PUT", hash, "")
	f.Fuzz(func(t *testing.T, method, name, byteRange string) {
		bounds.Input(t, name, byteRange)
		r, err := http.NewRequest(method, "http://h"+Path, nil)
		if err != nil {
			t.Skip("no request")
		}
		r.URL.Path = Path + name
		r.Header.Set("Range", byteRange)
		defer bounds.Check(t)()
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		got := w.Body.String()
		switch {
		case w.Code == http.StatusOK && method == "GET" && got != content:
			t.Errorf("GET %q = %d %q", name, w.Code, got)
		case w.Code == http.StatusPartialContent && !strings.Contains(w.Header().Get("Content-Type"), "multipart") && !strings.Contains(content, got):
			t.Errorf("GET %q of %q = %d %q", name, byteRange, w.Code, got)
		case w.Code >= 500 || len(got) > 4*len(content)+4096:
			t.Errorf("%s %q of %q = %d, %d bytes", method, name, byteRange, w.Code, len(got))
		}
		if (w.Code == http.StatusOK || w.Code == http.StatusPartialContent) && !strings.Contains(name, hash) {
			t.Errorf("%q is answered with %d", name, w.Code)
		}
	})
}

// liar answers as it likes, one answer after the other, parted by a bar.
type liar struct {
	status  int
	headers string
	bodies  []string
	asked   int

	elsewhere int // requests for another URL
}

func (s *liar) RoundTrip(r *http.Request) (*http.Response, error) {
	body := s.bodies[s.asked%len(s.bodies)]
	s.asked++
	if r.URL.String() != "http://h/x" {
		s.elsewhere++
	}
	resp := &http.Response{StatusCode: s.status, Status: "x", Header: http.Header{}, Request: r, ContentLength: -1, Body: io.NopCloser(strings.NewReader(body))}
	for h := range strings.SplitSeq(s.headers, "\n") {
		name, value, _ := strings.Cut(h, ": ")
		resp.Header.Add(name, value)
	}
	if len(body)%2 == 1 { // breaks off
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(body), brokenReader{}))
	}
	return resp, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzFetch fetches a content from a server that answers anything. Nothing but
// the content comes into the store, and nothing is left behind on disk.
func FuzzFetch(f *testing.F) {
	const content = "the content"
	sum := sha256.Sum256([]byte(content))
	hash := hex.EncodeToString(sum[:])
	f.Add(200, "", content, uint8(len(content)))
	f.Add(206, "Content-Range: bytes 0-10/11", content, uint8(len(content)))
	f.Add(206, "Content-Range: bytes 4-", "the| content", uint8(len(content)))
	f.Add(200, "", "the|content", uint8(len(content)))
	f.Add(200, "", content+"x", uint8(len(content)))
	f.Add(200, "", content, uint8(0))
	f.Add(302, "Location: http://169.254.169.254/", "", uint8(11))
	f.Add(503, "", "", uint8(11))
	f.Add(404, "", "", uint8(11))
	f.Fuzz(func(t *testing.T, status int, headers, bodies string, size uint8) {
		bounds.Input(t, headers, bodies)
		dir := t.TempDir()
		defer bounds.Check(t)()
		synctest.Test(t, func(t *testing.T) {
			s, err := Open(dir, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			srv := &liar{status: status, headers: headers, bodies: strings.Split(bodies, "|")}
			err = fetch(context.Background(), s, &http.Client{Transport: srv}, "http://h/x", hash, int64(size))
			if srv.elsewhere > 0 {
				t.Errorf("%d requests went elsewhere", srv.elsewhere)
			}
			file, n, getErr := s.Get(hash)
			if (err == nil) != (getErr == nil) || getErr != nil && !errors.Is(getErr, ErrNotFound) {
				t.Fatalf("Fetch = %v, then Get = %v", err, getErr)
			}
			left, dirErr := os.ReadDir(dir)
			if err != nil {
				if dirErr != nil || len(left) > 0 {
					t.Errorf("Fetch = %v, and left %v, %v", err, left, dirErr)
				}
				return
			}
			defer file.Close()
			if b, err := io.ReadAll(file); err != nil || !bytes.Equal(b, []byte(content)) || n != int64(len(content)) || size != uint8(len(content)) {
				t.Errorf("the content is %q of %d bytes, %v", b, n, err)
			}
			if srv.asked > 1000 {
				t.Errorf("%d requests were made", srv.asked)
			}
		})
	})
}
