package master

import (
	"context"
	"io"
	"log"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
)

// BenchmarkDurableSubmit submits tasks that are on disk before their ids are given
// out: one after the other, by 64 goroutines, and a thousand at a time. The first
// is to be compared with BenchmarkAppendAndSync, on the same disk. The tasks wait
// behind one that takes long.
func BenchmarkDurableSubmit(b *testing.B) {
	start := func(b *testing.B) *bench {
		bn := newBench(b, log.New(io.Discard, "", 0), func(bn *bench) {
			bn.dir = b.TempDir()
			bn.change = func(cfg *Config) { cfg.MaxQueued = 100_000_000 }
		})
		b.Cleanup(bn.close)
		bn.m.Update(tasks.Worker{ID: nodeID("w1"), Boot: "1", Name: "w1", Slots: 1, Available: true, Known: true, Kinds: []tasks.Kind{tasks.Command}})
		b.ReportAllocs()
		b.ResetTimer()
		return bn
	}
	s := cmd("echo", tasks.Any())
	b.Run("one", func(b *testing.B) {
		bn := start(b)
		for b.Loop() {
			bn.submit(s)
		}
	})
	b.Run("clients=64", func(b *testing.B) {
		bn := start(b)
		b.SetParallelism(64 / 2)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				bn.submit(s)
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	})
	b.Run("bulk", func(b *testing.B) {
		bn := start(b)
		many := make([]tasks.Submission, 1000)
		for i := range many {
			many[i] = s
		}
		n := 0
		for b.Loop() {
			if _, err := bn.m.SubmitMany(b.Context(), many); err != nil {
				b.Fatal(err)
			}
			n += len(many)
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tasks/s")
	})
}

// BenchmarkAppendAndSync is what the disk takes.
func BenchmarkAppendAndSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	for b.Loop() {
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRestart starts a master that has 100,000 tasks in its journal, and waits until
// a worker runs the first of them.
func BenchmarkRestart(b *testing.B) {
	began := make(chan struct{}, 1)
	bn := newBench(b, log.New(io.Discard, "", 0), func(bn *bench) { bn.dir = b.TempDir() })
	defer bn.close()
	w := bn.add("w1", func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		select {
		case began <- struct{}{}:
		default:
		}
		return stopped(ctx)
	})
	many := make([]tasks.Submission, MaxMany)
	for i := range many {
		many[i] = cmd("echo", tasks.Any())
	}
	for range 100_000 / MaxMany {
		if _, err := bn.m.SubmitMany(b.Context(), many); err != nil {
			b.Fatal(err)
		}
	}
	<-began
	for b.Loop() {
		b.StopTimer()
		bn.killMaster()
		bn.kill(w.name)
		bn.add(w.name, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			select {
			case began <- struct{}{}:
			default:
			}
			return stopped(ctx)
		})
		b.StartTimer()
		bn.restartMaster()
		<-began
	}
}

// BenchmarkRetire has a run end when as many ended ones are kept as may be.
func BenchmarkRetire(b *testing.B) {
	bn := newBench(b, log.New(io.Discard, "", 0), func(bn *bench) { bn.dir = b.TempDir() })
	defer bn.close()
	m := bn.m
	m.mu.Lock()
	defer m.mu.Unlock()
	ended := func() *Run {
		r := &Run{m: m, id: m.ids.Next(), durable: true, count: 1, ended: 1}
		r.tasks = []*task{{id: m.ids.Next(), run: r, result: &tasks.Result{ID: m.ids.Next(), Run: r.id, FinishedAt: time.Now()}}}
		return r
	}
	for range m.cfg.MaxRetained {
		m.retireLocked(ended())
	}
	for b.Loop() {
		m.retireLocked(ended())
	}
}
