package master

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// farm is a master with n workers of two slots on links in memory, which run
// nothing before open is called.
func farm(b *testing.B, n int) (bench *bench, open func()) {
	b.Helper()
	bench = newBench(b, log.New(io.Discard, "", 0))
	gate := make(chan struct{})
	run := func(ctx context.Context, _ *tasks.Attempt) tasks.Outcome {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return ended()
	}
	for i := range n {
		bench.add(fmt.Sprintf("w%d", i+1), run)
	}
	return bench, func() { close(gate) }
}

// BenchmarkTask is what a task costs from its turn to its result, worker and links
// (in memory) included, while so many tasks wait or, at the end, half as many, for so
// many workers: the cost must not grow with either. Nothing is added meanwhile, since
// one goroutine that adds gets the master's lock too rarely beside a thousand links.
func BenchmarkTask(b *testing.B) {
	for _, workers := range []int{1, 10, 100, 1000} {
		for _, queued := range []int{10_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("workers=%d/queued=%d", workers, queued), func(b *testing.B) {
				var took time.Duration
				for b.Loop() {
					took += drain(b, workers, queued)
				}
				b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/float64(queued/2), "ns/task")
			})
		}
	}
}

// drain returns how long it takes to see half of the queued tasks to their end.
func drain(b *testing.B, workers, queued int) time.Duration {
	f, open := farm(b, workers)
	opt := tasks.DefaultOptions()
	opt.Ephemeral = true
	batch, err := f.m.OpenBatch(tasks.Any(), opt, queued)
	if err != nil {
		b.Fatal(err)
	}
	for range queued {
		if _, err := batch.Add(b.Context(), &tasks.Task{Kind: tasks.Function, Name: "f"}); err != nil {
			b.Fatal(err)
		}
	}
	start, left := time.Now(), queued/2
	open()
	for r := range batch.Results(b.Context()) {
		if r.State != tasks.StateDone {
			b.Fatalf("result = %+v, want one of a task that is done", r)
		}
		if left--; left == 0 {
			break
		}
	}
	took := time.Since(start)
	batch.Seal()
	f.close()
	return took
}

// lonely is a master whose workers cannot be reached, so that what it is given
// waits.
func lonely(tb testing.TB, workers int) *Master {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.Node, cfg.Links = nodeID("m"), noLinks{}
	m, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	for i := range workers {
		m.Update(described(i, "a100"))
	}
	return m
}

type noLinks struct{}

func (noLinks) Connect(ctx context.Context, _ string) (*wire.Link, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// described is the i-th of many workers.
func described(i int, gpu string) tasks.Worker {
	return tasks.Worker{
		ID: fmt.Sprintf("%026d", i), Boot: "1", Name: fmt.Sprintf("node-%05d", i), Roles: []string{"worker"}, Slots: 2,
		Available: true, Known: true, Kinds: []tasks.Kind{tasks.Command, tasks.Function}, Functions: []string{"f"},
		Data:  fmt.Appendf(nil, `{"gpu":%q,"rack":"r%d","ssd":%t,"labels":{"zone":"z%d"}}`, gpu, i%40, i%2 == 0, i%4),
		Facts: fmt.Appendf(nil, `{"os":"linux","arch":"amd64","cpus":%d,"memory":%d,"hostname":"node-%05d","kernel":"6.1.0-44-amd64"}`, 1+i%64, 1<<30+i, i),
	}
}

// BenchmarkSubmitWhere is a submission by a query over 10,000 workers: the first
// with that query, and each after one worker has changed.
func BenchmarkSubmitWhere(b *testing.B) {
	const workers = 10_000
	where := func(i int) tasks.Submission {
		return cmd("x", tasks.Target{N: 1, Where: fmt.Sprintf(
			`facts.os == "linux" and facts.cpus >= 2 and data.labels.zone in ["z0", "z1", "z2"] and data.gpu != "%d"`, i)})
	}
	submit := func(b *testing.B, m *Master, s tasks.Submission) *Run {
		r, err := m.Submit(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	b.Run("first", func(b *testing.B) {
		m := lonely(b, workers)
		i := 0
		for b.Loop() {
			submit(b, m, where(i)).Cancel(tasks.StopCancel)
			i++
		}
	})
	for _, change := range []string{"nothing", "busy", "data"} {
		b.Run("again/changed="+change, func(b *testing.B) {
			m := lonely(b, workers)
			submit(b, m, where(0))
			ws := [2]tasks.Worker{described(0, "a100"), described(0, "a100")}
			switch change {
			case "busy":
				ws[1].Busy = 1
			case "data":
				ws[1].Data = described(0, "h100").Data
			}
			i := 0
			for b.Loop() {
				if change != "nothing" {
					m.Update(ws[(i+1)%2])
				}
				submit(b, m, where(0)).Cancel(tasks.StopCancel)
				i++
			}
		})
	}
}

func TestRunsOfOneTaskAreFound(t *testing.T) {
	m := lonely(t, 1)
	for range 1000 {
		r, err := m.Submit(t.Context(), cmd("x", tasks.Any()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.Run(r.ID()); got != r || err != nil {
			t.Fatalf("Run(%s) = %v, %v; want the run that was submitted", r.ID(), got, err)
		}
		id := r.Tasks()[0].ID
		if got, err := m.Run(id); err == nil {
			t.Fatalf("Run of task %s = run %s", id, got.ID())
		}
	}
	if kept := len(m.runs); kept > 100 { // those whose task has another millisecond in its id
		t.Errorf("%d of 1000 runs of one task take an entry of their own", kept)
	}
}

// heap returns the bytes of live objects.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first has finalized
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// maxTaskBytes is what a queued task may take beyond its payload.
const maxTaskBytes = 400

func TestQueuedTaskTakesFewBytes(t *testing.T) {
	n := 50_000
	if os.Getenv("SCAGENT_TEST_LONG") != "" {
		n = 1_000_000
	}
	s := cmd("x", tasks.Any())
	spec, err := specOf(&s.Task)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		fill func(t *testing.T, m *Master)
	}{
		{"one by one", func(t *testing.T, m *Master) {
			for range n {
				if _, err := m.Submit(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"batch", func(t *testing.T, m *Master) {
			b, err := m.OpenBatch(s.Target, s.Options, n)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if _, err := b.Add(t.Context(), &s.Task); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := lonely(t, 1)
			before := heap()
			c.fill(t, m)
			each := int(heap()-before) / n
			runtime.KeepAlive(m)
			t.Logf("%d queued tasks take %d bytes each, their payload of %d bytes included", n, each, len(spec))
			if each-len(spec) > maxTaskBytes {
				t.Errorf("a queued task takes %d bytes beyond its payload of %d, want at most %d", each-len(spec), len(spec), maxTaskBytes)
			}
		})
	}
}
