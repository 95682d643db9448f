package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func mustOpen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustPut(t *testing.T, s *Store, b []byte) string {
	t.Helper()
	hash, size, err := s.Put(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil || hash != sum(b) || size != int64(len(b)) {
		t.Fatalf("Put of %d bytes = %s, %d, %v, want %s", len(b), hash, size, err, sum(b))
	}
	return hash
}

// mustHave checks that the store gives b under its hash.
func mustHave(t *testing.T, s *Store, b []byte) {
	t.Helper()
	f, size, err := s.Get(sum(b))
	if err != nil {
		t.Fatalf("Get = %v", err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, b) || size != int64(len(b)) {
		t.Fatalf("Get = %d bytes (%d), %v, want %d", len(got), size, err, len(b))
	}
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// noise returns n bytes that do not repeat.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// files returns how many files are in the directory, when what was to go has gone.
func files(t *testing.T, s *Store) int {
	t.Helper()
	s.removals.Wait()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestContentsComeBack(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "a", "blobs"))
	if st, err := os.Stat(s.dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", st.Mode(), err)
	}
	var bytes int64
	sizes := []int{0, 1, pieceBytes - 1, pieceBytes, pieceBytes + 1, 2 * pieceBytes, 7*pieceBytes + 13}
	for _, n := range sizes {
		mustPut(t, s, noise(n))
		bytes += int64(n)
	}
	for _, n := range sizes {
		mustHave(t, s, noise(n))
	}
	if got, want := s.Stats(), (Stats{Blobs: len(sizes), Bytes: bytes}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
	if n := files(t, s); n != len(sizes) {
		t.Errorf("%d files for %d contents", n, len(sizes))
	}
	if _, _, err := s.Get(sum([]byte("other"))); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of what is not there = %v", err)
	}
	if _, _, err := s.Get("../../etc/passwd"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a path = %v", err)
	}
}

func TestFailedPutLeavesNothing(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	broken := errors.New("broken")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	big := noise(3 * pieceBytes)
	for _, c := range []struct {
		name  string
		ctx   context.Context
		r     io.Reader
		limit int64
		want  error
	}{
		{"too large", t.Context(), bytes.NewReader(big), int64(len(big)) - 1, ErrTooLarge},
		{"limit 0", t.Context(), strings.NewReader("x"), 0, ErrTooLarge},
		{"reader fails", t.Context(), io.MultiReader(bytes.NewReader(big), iotest.ErrReader(broken)), 1 << 30, broken},
		{"reader ends early", t.Context(), io.MultiReader(bytes.NewReader(big), iotest.ErrReader(io.ErrUnexpectedEOF)), 1 << 30, io.ErrUnexpectedEOF},
		{"context", ended, bytes.NewReader(big), 1 << 30, broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := s.Put(c.ctx, c.r, c.limit); !errors.Is(err, c.want) {
				t.Errorf("Put = %v, want %v", err, c.want)
			}
			if n := files(t, s); n != 0 {
				t.Errorf("%d files are left", n)
			}
		})
	}
	if got := s.Stats(); got != (Stats{}) {
		t.Errorf("Stats = %+v", got)
	}
}

func TestFullDiskIsOneErrorAndLeavesNothing(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	s := mustOpen(t, t.TempDir())
	s.create = func(dir, pattern string) (*os.File, error) { // a name that writes to a full device
		name := filepath.Join(dir, pattern+"full")
		if err := os.Symlink("/dev/full", name); err != nil {
			return nil, err
		}
		return os.OpenFile(name, os.O_RDWR, 0)
	}
	for _, n := range []int{1, 5 * pieceBytes} {
		_, _, err := s.Put(t.Context(), bytes.NewReader(noise(n)), 1<<30)
		if !errors.Is(err, ErrFull) || err.Error() != "the disk of the blob store is full: "+s.dir+"; free some space there" {
			t.Errorf("Put of %d bytes = %v, want ErrFull", n, err)
		}
		if n := files(t, s); n != 0 {
			t.Errorf("%d files are left", n)
		}
	}
}

func TestEqualContentsAtOnceAreOne(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	b := noise(pieceBytes + 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if hash, _, err := s.Put(t.Context(), bytes.NewReader(b), 1<<30); err != nil || hash != sum(b) {
					t.Errorf("Put = %s, %v", hash, err)
				}
				f, _, err := s.Get(sum(b))
				if err != nil {
					t.Errorf("Get = %v", err)
					continue
				}
				f.Close()
			}
		})
	}
	wg.Wait()
	mustHave(t, s, b)
	if n := files(t, s); n != 1 || s.Stats() != (Stats{Blobs: 1, Bytes: int64(len(b))}) {
		t.Errorf("%d files, %+v", n, s.Stats())
	}
}

func TestWhatNobodyHoldsExpires(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, dir)
		defer s.Close()
		held, named, dropped := []byte("held"), []byte("named"), []byte("dropped")
		for _, b := range [][]byte{held, named, dropped} {
			mustPut(t, s, b)
		}
		if err := errors.Join(s.Hold(sum(held)), s.Hold(sum(held)), s.Hold(sum(named))); err != nil {
			t.Fatal(err)
		}
		if err := s.Hold(sum([]byte("none"))); !errors.Is(err, ErrNotFound) {
			t.Errorf("Hold of what is not there = %v", err)
		}
		s.Release(sum([]byte("none")))
		time.Sleep(Grace / 2)
		s.Release(sum(named)) // too young to be removed at once
		mustHave(t, s, named)
		time.Sleep(Grace/2 - time.Second)
		mustHave(t, s, dropped)
		late := []byte("late")
		mustPut(t, s, late)
		mustPut(t, s, named) // it came again: as good as new
		f, _, err := s.Get(sum(dropped))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		time.Sleep(time.Second + Grace/10)
		synctest.Wait()
		if got := s.Stats(); got != (Stats{Blobs: 3, Bytes: 13, Held: 1}) {
			t.Errorf("Stats after Grace = %+v, want held, named and late", got)
		}
		if _, _, err := s.Get(sum(dropped)); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get of what has expired = %v", err)
		}
		if b, err := io.ReadAll(f); err != nil || string(b) != "dropped" {
			t.Errorf("a file that was open = %q, %v", b, err)
		}
		time.Sleep(Grace + Grace/10)
		synctest.Wait()
		if got := s.Stats(); got != (Stats{Blobs: 1, Bytes: 4, Held: 1}) {
			t.Errorf("Stats after twice Grace = %+v, want held", got)
		}
		time.Sleep(100 * Grace)
		s.Release(sum(held))
		mustHave(t, s, held)
		s.Release(sum(held)) // the last: at once
		if n := files(t, s); n != 0 || s.Stats() != (Stats{}) {
			t.Errorf("%d files, %+v, want none", n, s.Stats())
		}
		mustPut(t, s, held)
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if _, _, err := s.Put(t.Context(), strings.NewReader("x"), 1); !errors.Is(err, ErrClosed) {
			t.Errorf("Put after Close = %v", err)
		}
		time.Sleep(10 * Grace)
		if n := files(t, s); n != 1 {
			t.Errorf("%d files after Close, want the one that was there", n)
		}
	})
}

func TestExpiredContentGoesWithItsLastHold(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer s.Close()
	free, held, again := []byte("free"), []byte("held"), []byte("again")
	for _, b := range [][]byte{free, held, again} {
		mustPut(t, s, b)
	}
	if err := errors.Join(s.Hold(sum(held)), s.Hold(sum(again))); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{free, held, again, []byte("none")} {
		s.Expire(sum(b))
	}
	if got := s.Stats(); got != (Stats{Blobs: 2, Bytes: 9, Held: 2}) || files(t, s) != 2 {
		t.Errorf("Stats after Expire = %+v and %d files, want those that are held", got, files(t, s))
	}
	mustHave(t, s, held)
	mustPut(t, s, again) // as good as new
	s.Release(sum(held))
	s.Release(sum(again))
	if got := s.Stats(); got != (Stats{Blobs: 1, Bytes: 5}) || files(t, s) != 1 {
		t.Errorf("Stats after Release = %+v and %d files, want what came in anew", got, files(t, s))
	}
	mustHave(t, s, again)
}

// Whoever lets go of a large content does not wait while the kernel removes it: a master
// does so under the lock that all its tasks need.
func TestNobodyWaitsForARemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, t.TempDir())
		s.unlink = func(path string) error {
			time.Sleep(time.Minute)
			return os.Remove(path)
		}
		begin := time.Now()
		released, expired := mustPut(t, s, noise(100)), mustPut(t, s, noise(200))
		s.Hold(released)
		s.Expire(released)
		s.Release(released)
		s.Expire(expired)
		if took := time.Since(begin); took != 0 || s.Stats().Blobs != 0 {
			t.Errorf("it took %s, and %d are left", took, s.Stats().Blobs)
		}
		s.Close()
		if n := files(t, s); n != 0 {
			t.Errorf("after Close %d files are there", n)
		}
	})
}

func TestContentPutAgainWhileItIsRemovedStays(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	s.grace = 0 // what is released goes at once
	b := noise(1000)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				mustPut(t, s, b)
				if s.Hold(sum(b)) != nil {
					continue // another released it in between
				}
				mustHave(t, s, b)
				s.Release(sum(b))
			}
		})
	}
	wg.Wait()
}

func TestNextAgentTakesOver(t *testing.T) {
	dir := t.TempDir()
	good, spoilt, cut, again := noise(100), noise(200), noise(300), noise(400)
	first := mustOpen(t, dir)
	for _, b := range [][]byte{good, spoilt, cut, again} {
		mustPut(t, first, b)
	}
	path := func(b []byte) string { return first.blobs[sum(b)].path }
	if err := os.WriteFile(path(spoilt), noise(201)[:200], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(path(cut), 0), os.WriteFile(path(again), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{incoming + "123", "README", sum(good) + "-x", sum(good) + "-99"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first.Close()

	s := mustOpen(t, dir)
	if got := s.Stats(); got.Blobs != 4 {
		t.Errorf("Stats = %+v, want 4 blobs", got)
	}
	mustHave(t, s, good)
	mustHave(t, s, good)
	for _, b := range [][]byte{spoilt, cut} {
		if _, _, err := s.Get(sum(b)); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get of a spoilt content = %v", err)
		}
	}
	if err := s.Hold(sum(again)); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, again) // in place of the spoilt one, and held as that was
	mustHave(t, s, again)
	if got := s.Stats(); got != (Stats{Blobs: 2, Bytes: 500, Held: 1}) {
		t.Errorf("Stats = %+v", got)
	}
	// The two contents, README and the file that is nearly named as ours.
	if n := files(t, s); n != 4 {
		t.Errorf("%d files, want 4", n)
	}
}

func TestOpenOfABadDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(file, 0); err == nil {
		s.Close()
		t.Error("Open of a file = nil")
	}
}

func BenchmarkPut(b *testing.B) {
	for name, n := range map[string]int{"4KiB": 4 << 10, "64MiB": 64 << 20} {
		b.Run("payload="+name, func(b *testing.B) {
			s, err := Open(b.TempDir(), 0)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			data := noise(n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.Put(b.Context(), bytes.NewReader(data), int64(n)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestSyncKnowsWhatIsThere(t *testing.T) {
	s, err := Open(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	hash, _, err := s.Put(t.Context(), strings.NewReader("x"), 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(hash); err != nil {
		t.Errorf("Sync of what was put: %v", err)
	}
	if err := s.Sync(strings.Repeat("0", 64)); !errors.Is(err, ErrNotFound) {
		t.Errorf("Sync of what is not there = %v, want ErrNotFound", err)
	}
}
