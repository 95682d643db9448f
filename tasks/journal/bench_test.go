package journal

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkFdatasync is what a durable write costs at least: 4 KiB appended to a
// file, and synced.
func BenchmarkFdatasync(b *testing.B) {
	b.ReportAllocs()
	f, page := benchFile(b)
	var off int64
	for b.Loop() {
		appendSync(b, f, page, &off)
	}
}

func benchFile(b *testing.B) (File, []byte) {
	f, err := osFS{}.Create(b.TempDir() + "/f")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f, bytes.Repeat([]byte("p"), 4096)
}

func appendSync(b *testing.B, f File, page []byte, off *int64) {
	if _, err := f.WriteAt(page, *off); err != nil {
		b.Fatal(err)
	}
	*off += int64(len(page))
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}

func benchConfig(b *testing.B) Config {
	cfg := DefaultConfig()
	cfg.Dir, cfg.Node = b.TempDir(), testNode
	return cfg
}

func BenchmarkWrite(b *testing.B) {
	value := bytes.Repeat([]byte("v"), 300)

	// One waits for each write; between two there is a bare fdatasync, with which
	// the median is compared.
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		j := mustOpen(b, benchConfig(b))
		f, page := benchFile(b)
		var off int64
		var writes, syncs []time.Duration
		done := make(chan error, 1)
		tell := func(err error) { done <- err }
		n := 0
		for b.Loop() {
			t := time.Now()
			j.Try(tell, Record{1, id(n), value})
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			n++
			writes = append(writes, time.Since(t))
			t = time.Now()
			appendSync(b, f, page, &off)
			syncs = append(syncs, time.Since(t))
		}
		b.ReportMetric(float64(median(writes).Microseconds()), "µs/write")
		b.ReportMetric(float64(median(syncs).Microseconds()), "µs/fdatasync")
		b.ReportMetric(float64(median(writes))/float64(median(syncs)), "x-fdatasync")
	})

	b.Run("writers=64", func(b *testing.B) {
		b.ReportAllocs()
		j := mustOpen(b, benchConfig(b))
		var mu sync.Mutex
		n := 0
		b.SetParallelism(32) // times 2 processors
		b.RunParallel(func(pb *testing.PB) {
			done := make(chan error, 1)
			tell := func(err error) { done <- err }
			for pb.Next() {
				mu.Lock()
				n++
				i := id(n)
				mu.Unlock()
				j.Try(tell, Record{1, i, value})
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})

	b.Run("bulk", func(b *testing.B) {
		b.ReportAllocs()
		j := mustOpen(b, benchConfig(b))
		room := make(chan struct{}, 20_000)
		tell := func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-room
		}
		n := 0
		for b.Loop() {
			room <- struct{}{}
			j.Try(tell, Record{1, id(n), value})
			n++
		}
		for range cap(room) {
			room <- struct{}{}
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	})
}

func median(d []time.Duration) time.Duration {
	s := append([]time.Duration(nil), d...)
	slices.Sort(s)
	return s[len(s)/2]
}

func BenchmarkOpen(b *testing.B) {
	b.ReportAllocs()
	cfg := benchConfig(b)
	j := mustOpen(b, cfg)
	value := bytes.Repeat([]byte("v"), 300)
	for n := range 100_000 {
		j.Write(func(error) {}, Record{1, id(n), value})
	}
	mustClose(b, j)
	for b.Loop() {
		j, err := Open(cfg)
		if err != nil || j.Len(1) != 100_000 {
			b.Fatal(err)
		}
		b.StopTimer()
		j.Close()
		b.StartTimer()
	}
}
