package master

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// Ten tasks of ten seconds and ten thousand of ten milliseconds on eight slots
// take 25 s when no slot is ever idle.
func TestLongAndShortTasksKeepAllSlotsBusy(t *testing.T) {
	inBubble(t, 4, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
		if a.Task.Argv[0] == "long" {
			time.Sleep(10 * time.Second) // of the bubble
		} else {
			time.Sleep(10 * time.Millisecond)
		}
		return ended()
	}, func(t *testing.T, b *bench) {
		batch, err := b.m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 20_000)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for i := range 10_010 {
			what := "short"
			if i < 10 {
				what = "long"
			}
			if _, err := batch.Add(t.Context(), &tasks.Task{Kind: tasks.Command, Argv: []string{what}}); err != nil {
				t.Fatal(err)
			}
		}
		batch.Seal()
		done := 0
		for r := range batch.Results(t.Context()) {
			if r.State != tasks.StateDone {
				t.Fatalf("%+v", r)
			}
			done++
		}
		took := time.Since(start)
		t.Logf("%d tasks took %v", done, took)
		if ideal := 25 * time.Second; done != 10_010 || took > ideal*105/100 {
			t.Errorf("%d tasks took %v, want 10010 in %v and at most 5 %% more", done, took, ideal)
		}
	})
}

// Each of two masters that have far more to do than two workers can gets half of
// them, for tasks that are sent ahead and for tasks that are not.
func TestTwoMastersShareWorkers(t *testing.T) {
	for _, length := range []time.Duration{200 * time.Microsecond, 50 * time.Millisecond} {
		t.Run(length.String(), func(t *testing.T) {
			var mu sync.Mutex
			ran := map[string]int{}
			inBubble(t, 2, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
				time.Sleep(length) // of the bubble
				mu.Lock()
				defer mu.Unlock()
				ran[a.Task.Argv[0]]++
				return ended()
			}, func(t *testing.T, b *bench) {
				second := b.another("o", "10.0.0.101")
				var opened []*Batch
				for name, m := range map[string]*Master{"first": b.m, "second": second} {
					batch, err := m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 100_000)
					if err != nil {
						t.Fatal(err)
					}
					opened = append(opened, batch)
					for range 8_000 {
						if _, err := batch.Add(t.Context(), &tasks.Task{Kind: tasks.Command, Argv: []string{name}}); err != nil {
							t.Fatal(err)
						}
					}
				}
				time.Sleep(length * 1500) // far from the end
				mu.Lock()
				first, other := ran["first"], ran["second"]
				mu.Unlock()
				t.Logf("%d and %d tasks ran", first, other)
				if all := first + other; all < 4_000 || max(first, other)*100 > all*55 {
					t.Errorf("%d tasks of one master ran and %d of the other; want half each, within 10 %%", first, other)
				}
				for _, batch := range opened {
					batch.Seal()
					batch.Cancel(tasks.StopCancel)
				}
			})
		})
	}
}

// another adds a master to the bench, which knows the workers.
func (b *bench) another(name, ip string) *Master {
	b.t.Helper()
	cfg := DefaultConfig()
	var hub *wire.Hub
	cfg.Node, cfg.Links = nodeID(name), linksFunc(func(ctx context.Context, node string) (*wire.Link, error) { return hub.Connect(ctx, node) })
	m, err := New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	hub = b.newHub(nodeID(name), name, ip, wire.Config{Master: m, Events: m})
	m.Resume()
	b.t.Cleanup(func() { m.Close(); hub.Close() })
	for _, w := range b.workers {
		m.Update(w.info())
	}
	return m
}

type linksFunc func(context.Context, string) (*wire.Link, error)

func (f linksFunc) Connect(ctx context.Context, node string) (*wire.Link, error) { return f(ctx, node) }

// A task of two slots on a worker of two has its turn although there is always
// one of one slot that would take the slot that has just got free.
func TestTaskOfSeveralSlotsIsNotKeptWaiting(t *testing.T) {
	for _, target := range []tasks.Target{tasks.Any(), tasks.On("w1")} {
		t.Run(fmt.Sprint(target.On), func(t *testing.T) {
			inBubble(t, 1, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
				time.Sleep(time.Second) // of the bubble
				return ended()
			}, func(t *testing.T, b *bench) {
				b.submit(cmd("x", tasks.Any()))
				time.Sleep(time.Second / 2) // the slots get free in turn
				for range 3 {
					b.submit(cmd("x", tasks.Any()))
				}
				start := time.Now()
				wide := b.submit(cmd("wide", target, func(o *tasks.Options) { o.Slots = 2 }))
				for range 100 {
					b.submit(cmd("x", tasks.Any()))
				}
				b.wait(wide)
				if d := time.Since(start); d > 5*time.Second {
					t.Errorf("it ended after %v, want it soon after those before it", d)
				}
			})
		})
	}
}

// What is sent to a worker at once is bounded in bytes, not only in number.
func TestCreditCountsBytes(t *testing.T) {
	inBubble(t, 1, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
		if len(a.Task.Argv) > 1 {
			time.Sleep(time.Second) // of the bubble
		}
		return ended()
	}, func(t *testing.T, b *bench) {
		for range 10 { // so that it is sent ahead
			b.wait(b.submit(cmd("x", tasks.Any())))
		}
		big := slices.Repeat([]string{strings.Repeat("x", 1000)}, 700)
		var runs []*Run
		for range 200 {
			runs = append(runs, b.submit(tasks.Submission{Task: tasks.Task{Kind: tasks.Command, Argv: big}, Options: tasks.DefaultOptions()}))
			b.m.mu.Lock()
			offered := b.m.workers[b.workers["w1"].id].attempts.bytes
			b.m.mu.Unlock()
			if offered > maxOffered+tasks.MaxSpecBytes {
				t.Fatalf("%d bytes are offered to a worker, want at most %d", offered, maxOffered+tasks.MaxSpecBytes)
			}
		}
		for _, r := range runs {
			if res := b.wait(r)[0]; res.State != tasks.StateDone || res.Attempt != 1 {
				t.Fatalf("%+v", res)
			}
		}
	})
}

// The books of classes hold while workers come, change and go.
func TestReadyWorkersAreThoseWithCredit(t *testing.T) {
	inBubble(t, 3, func(context.Context, *tasks.Attempt) tasks.Outcome {
		time.Sleep(time.Second) // of the bubble
		return ended()
	}, func(t *testing.T, b *bench) {
		var runs []*Run
		for i := range 20 {
			target := []tasks.Target{tasks.Any(), {Where: "slots > 1", N: 1}, {Except: []string{"w1"}}, {Prefer: "free"}}[i%4]
			runs = append(runs, b.submit(cmd("x", target)))
		}
		info := b.workers["w2"].info()
		info.Available = false
		b.m.Update(info)
		b.m.Remove(b.workers["w3"].id)
		time.Sleep(1500 * time.Millisecond)
		b.m.Update(b.workers["w2"].info())
		b.m.Update(b.workers["w3"].info())
		for _, r := range runs {
			b.wait(r)
		}
		synctest.Wait()
		b.m.mu.Lock()
		defer b.m.mu.Unlock()
		b.m.checkBooksLocked(t)
		for _, c := range b.m.classes {
			if want := 3; c.fits != nil && len(c.demands.except) == 0 && len(c.fits) != want {
				t.Errorf("class %+v fits %d workers, want %d", c.key, len(c.fits), want)
			}
		}
	})
}

// A task that is for a worker which now has fewer slots than it takes fails, and holds
// nothing else up.
func TestATaskForAWorkerThatHasBecomeSmaller(t *testing.T) {
	var c tally
	inBubble(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
		two := func(o *tasks.Options) { o.Slots = 2 }
		var runs []*Run
		for _, s := range []tasks.Submission{cmd("a", tasks.On("w1"), two), cmd("b", tasks.On("w1"), two), cmd("c", tasks.Any())} {
			runs = append(runs, b.submit(s))
		}
		info := b.workers["w1"].info()
		info.Slots = 1
		b.m.Update(info)
		var states []tasks.State
		for _, r := range runs {
			states = append(states, b.wait(r)[0].State)
		}
		if want := []tasks.State{tasks.StateDone, tasks.StateFailed, tasks.StateDone}; !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}

// What waits for free slots of others goes on when gossip says that some are free.
func TestTasksThatWaitForFreeSlotsGoOnWhenThereAreSome(t *testing.T) {
	var c tally
	inBubble(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
		info := b.workers["w1"].info()
		target := tasks.Target{N: 1, Where: "free >= 2"}
		rs, err := b.m.SubmitMany(t.Context(), []tasks.Submission{cmd("a", target), cmd("b", target)})
		if err != nil {
			t.Fatal(err)
		}
		info.Busy = 2 // another master's
		b.m.Update(info)
		b.wait(rs[0])
		go func() {
			time.Sleep(10 * time.Second)
			info.Busy = 0
			b.m.Update(info)
		}()
		start := time.Now()
		wait := func(o *tasks.Options) { o.WaitWorkers = time.Hour }
		var wg sync.WaitGroup
		wg.Go(func() { b.wait(b.submit(cmd("c", target, wait))) })
		b.wait(rs[1])
		wg.Wait()
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("they ran after %v, want soon after 10s", took)
		}
	})
}

// Slots that are kept for a task are free when it is cancelled.
func TestSlotsKeptForATaskThatIsCancelledAreFree(t *testing.T) {
	for _, target := range []tasks.Target{tasks.Any(), tasks.On("w1")} {
		inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			if a.Task.Argv[0] == "long" {
				return stopped(ctx)
			}
			time.Sleep(10 * time.Second) // of the bubble
			return ended()
		}, func(t *testing.T, b *bench) {
			b.submit(cmd("long", tasks.Any()))
			b.submit(cmd("short", tasks.Any()))
			synctest.Wait()
			both := b.submit(cmd("both", target, func(o *tasks.Options) { o.Slots = 2 }))
			time.Sleep(time.Minute) // one of the slots is kept for it
			next := b.submit(cmd("next", target))
			time.Sleep(time.Minute)
			if s := next.Tasks()[0].State; s != tasks.StateQueued {
				t.Errorf("to %+v: the next is %s, want it to wait for the one before", target, s)
			}
			both.Cancel(tasks.StopCancel)
			time.Sleep(time.Minute)
			if s := next.Tasks()[0].State; s != tasks.StateDone {
				t.Errorf("to %+v: a minute after the one before was cancelled the next is %s, want done", target, s)
			}
		})
	}
}
