package blob

import (
	"errors"
	"net/http"
	"path"
	"strings"
	"time"
)

// Path begins the path of a content's URL; its hash follows.
const Path = "/scagent/v1/blob/"

// ServeHTTP answers GET and HEAD of Path followed by a hash, whole or in ranges.
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
	f, _, err := s.Get(hash)
	if errors.Is(err, ErrNotFound) {
		http.Error(w, "no such blob", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, "the blob cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	w.Header().Set("ETag", `"`+hash+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}
