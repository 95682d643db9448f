package command

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
)

// blobs serves the content of every blob that is asked for.
func blobs(t *testing.T, content string) *client.Client {
	t.Helper()
	c, err := client.New(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, content) })))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFilesAreWrittenBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	w := &fileWriter{client: blobs(t, "large"), dir: dir}
	files := []api.OutputStatus{
		{Name: "a/b.sh", Mode: 0o4755, Size: 3, ContentBase64: []byte("one")},
		{Name: "c", Mode: 0o600, Size: 5, Blob: "x"},
		{Name: "empty", Mode: 0o644},
	}
	for range 2 { // over what is there, too
		if err := w.write(t.Context(), "n1", files); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		content string
		mode    os.FileMode
	}{"n1/a/b.sh": {"one", 0o755}, "n1/c": {"large", 0o600}, "n1/empty": {"", 0o644}} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		st, statErr := os.Stat(filepath.Join(dir, name))
		if err != nil || statErr != nil || string(b) != want.content || st.Mode() != want.mode {
			t.Errorf("%s = %q, %v, %v; want %q, %v", name, b, st.Mode(), err, want.content, want.mode)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "n1", ".scagent-*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

func TestDirectoriesAndLinksAreWrittenAsTheyWere(t *testing.T) {
	dir := t.TempDir()
	w := &fileWriter{client: blobs(t, ""), dir: dir}
	err := w.write(t.Context(), "n1", []api.OutputStatus{
		{Name: "d", Type: api.TypeDir, Mode: 0o555}, {Name: "d/empty", Type: api.TypeDir, Mode: 0o700},
		{Name: "d/f", Mode: 0o640, Size: 1, ContentBase64: []byte("x")}, {Name: "d/l", Type: api.TypeSymlink, ContentBase64: []byte("f")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"d": os.ModeDir | 0o555, "d/empty": os.ModeDir | 0o700, "d/f": 0o640} {
		if st, err := os.Lstat(filepath.Join(dir, "n1", name)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, st, err, want)
		}
	}
	if target, err := os.Readlink(filepath.Join(dir, "n1/d/l")); err != nil || target != "f" {
		t.Errorf("d/l leads to %q, %v, want f", target, err)
	}
	os.Chmod(filepath.Join(dir, "n1/d"), 0o755) // so that it can be removed
}

func TestFilesAreNotWrittenElsewhere(t *testing.T) {
	base := t.TempDir()
	dir, outside := filepath.Join(base, "out"), filepath.Join(base, "outside")
	for _, d := range []string{dir, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	w := &fileWriter{client: blobs(t, "12345678"), dir: dir}
	for _, f := range []api.OutputStatus{
		{Name: "../x"}, {Name: "/x"}, {Name: "a/../../x"}, {Name: ""}, {Name: "."}, {Name: "a\x00b"}, {Name: "link/x"}, {Name: "l\x1b"},
		{Name: "lnk", Type: api.TypeSymlink, ContentBase64: []byte("/etc")}, {Name: "lnk", Type: api.TypeSymlink, ContentBase64: []byte("../x")},
		{Name: "../d", Type: api.TypeDir},
		{Name: "short", Size: 9, Blob: "b"}, {Name: "long", Size: 3, Blob: "b"}, {Name: "lie", Size: 2, ContentBase64: []byte("a")},
	} {
		if err := w.write(t.Context(), "", []api.OutputStatus{f}); err == nil || strings.ContainsAny(err.Error(), "\x1b\x00\n") {
			t.Errorf("write %+v = %v, want a printable error", f, err)
		}
	}
	for path, want := range map[string]int{base: 2, outside: 0, dir: 1} {
		if entries, err := os.ReadDir(path); err != nil || len(entries) != want {
			t.Errorf("%s has %v, want %d entries", path, entries, want)
		}
	}
}
