package blob

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
)

// Path begins the path of a content's URL; its hash follows.
const Path = "/scagent/v1/blob/"

// sumHeader has the checksum of the whole content, in hexadecimal digits.
const sumHeader = "Scagent-Crc32c"

// ServeHTTP answers GET and HEAD of Path followed by a hash, or by the name of what
// is staged, whole or in ranges, and with the checksum. That of something large
// that was staged is worked out while it is sent: HEAD waits for it.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "want GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	hash, ok := strings.CutPrefix(path.Clean(r.URL.Path), Path)
	if !ok || !hashForm.MatchString(hash) {
		http.Error(w, "want "+Path+" and 64 lower-case hexadecimal digits", http.StatusNotFound)
		return
	}
	f, e, err := s.get(hash)
	if errors.Is(err, ErrNotFound) {
		http.Error(w, "no such blob", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, "the blob cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	if e.staged && e.size >= BulkBytes && r.Method == http.MethodGet {
		s.goSum(e)
	} else if crc, err := s.sum(e); err == nil {
		w.Header().Set(sumHeader, fmt.Sprintf("%08x", crc))
	}
	w.Header().Set("ETag", `"`+hash+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}

// sum returns the checksum of what get returned.
func (s *Store) sum(e *entry) (uint32, error) {
	s.mu.Lock()
	sum := e.sum
	s.mu.Unlock()
	return sum()
}

// goSum begins to work out the checksum.
func (s *Store) goSum(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Go(func() { e.sum() })
	}
}
