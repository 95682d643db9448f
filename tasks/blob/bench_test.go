package blob

import (
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkTransfer brings a content from one store into another over loopback.
func BenchmarkTransfer(b *testing.B) {
	const size = 256 << 20
	from, to := mustOpenB(b), mustOpenB(b)
	srv := httptest.NewServer(from)
	defer srv.Close()
	path := filepath.Join(b.TempDir(), "f")
	b.Run("fetch/payload=256MiB", func(b *testing.B) {
		hash, _, err := from.Put(b.Context(), io.LimitReader(endless{}, size), size)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			h, err := to.Fetch(b.Context(), bulkClient(), srv.URL+Path+hash, hash, size)
			if err != nil {
				b.Fatal(err)
			}
			h.Close() // there is no cache: the next is a download again
		}
	})
	b.Run("receive/payload=256MiB", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			name, _, err := from.Stage(path)
			if err != nil {
				b.Fatal(err)
			}
			hash, err := to.Receive(b.Context(), bulkClient(), srv.URL+Path+name, size)
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			from.Release(name)
			to.grace = 0
			to.Release(hash)
			b.StartTimer()
		}
	})
	b.Run("hash/payload=256MiB", func(b *testing.B) {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		for b.Loop() {
			f, err := os.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			if err := newSums(true).read(b.Context(), f); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func mustOpenB(b *testing.B) *Store {
	s, err := Open(b.TempDir(), 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}
