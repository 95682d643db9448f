package blob

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// mustStage stages a file of these bytes.
func mustStage(t *testing.T, s *Store, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o444); err != nil {
		t.Fatal(err)
	}
	name, size, err := s.Stage(path)
	if err != nil || size != int64(len(b)) || !hashForm.MatchString(name) {
		t.Fatalf("Stage = %s, %d, %v", name, size, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file staged is still there: %v", err)
	}
	return name
}

func TestWhatIsStagedIsReceivedUnderItsHash(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	srv := server(t, from, nil)
	for _, n := range []int{0, 1, BulkBytes - 1, BulkBytes, 5*BulkBytes + 3} {
		b := noise(n)
		name := mustStage(t, from, filepath.Join(t.TempDir(), "f"), b)
		again := mustStage(t, from, filepath.Join(t.TempDir(), "f"), b)
		if name == again || name == sum(b) {
			t.Errorf("names %s and %s of what is %s", name, again, sum(b))
		}
		for _, client := range []*http.Client{srv.Client(), bulkClient()} {
			hash, err := to.Receive(t.Context(), client, srv.URL+Path+name, int64(n))
			if err != nil || hash != sum(b) {
				t.Fatalf("Receive of %d bytes = %s, %v, want %s", n, hash, err, sum(b))
			}
			mustHave(t, to, b)
		}
		if got := to.blobs[sum(b)].holds; got != 2 {
			t.Errorf("it is held %d times, want 2", got)
		}
		from.Release(name)
		if _, err := to.Receive(t.Context(), srv.Client(), srv.URL+Path+name, int64(n)); !errors.Is(err, ErrNotFound) {
			t.Errorf("Receive of what was released = %v", err)
		}
		from.Release(again)
	}
	if n := files(t, from); n != 0 {
		t.Errorf("%d files are left of what was released", n)
	}
}

func TestStage(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	work := t.TempDir()
	b := noise(100)
	mustStage(t, s, filepath.Join(work, "f"), b)
	if shm, err := os.MkdirTemp("/dev/shm", "scagent-test-"); err == nil { // another file system
		defer os.RemoveAll(shm)
		name := mustStage(t, s, filepath.Join(shm, "f"), noise(pieceBytes+5))
		f, _, err := s.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := new(bytes.Buffer)
		if _, err := got.ReadFrom(f); err != nil || !bytes.Equal(got.Bytes(), noise(pieceBytes+5)) {
			t.Errorf("what was staged from another file system has %d bytes, %v", got.Len(), err)
		}
	}
	if err := os.Symlink("f", filepath.Join(work, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", ".", "none"} {
		if got, _, err := s.Stage(work + "/" + name); err == nil {
			t.Errorf("Stage(%s) = %s", name, got)
		}
	}
	s.Close()
	path := filepath.Join(work, "late")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Stage(path); !errors.Is(err, ErrClosed) {
		t.Errorf("Stage after Close = %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("a file that was not staged: %v", err)
	}
	if n := files(t, mustOpen(t, dir)); n != 0 { // what was staged is of no use to it
		t.Errorf("%d files are left for the next agent", n)
	}
}

// What a disk has spoilt since the checksum was made does not arrive.
func TestWhatIsSpoiltIsNotReceived(t *testing.T) {
	from, to := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	srv := server(t, from, nil)
	for _, n := range []int{1000, BulkBytes + 1} {
		b := noise(n)
		name := mustStage(t, from, filepath.Join(t.TempDir(), "f"), b)
		e := from.blobs[name]
		if _, err := e.sum(); err != nil {
			t.Fatal(err)
		}
		spoil(t, e.path, int64(n)-1)
		for _, client := range []*http.Client{srv.Client(), bulkClient()} {
			if hash, err := to.Receive(t.Context(), client, srv.URL+Path+name, int64(n)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("Receive of %d spoilt bytes = %s, %v, want ErrCorrupt", n, hash, err)
			}
		}
	}
	if n := files(t, to); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// spoil changes one byte of a file.
func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
