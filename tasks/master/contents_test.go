package master

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
)

// Files that a task in the journal names are on disk before it is accepted, those
// that it made before it has ended, and both are held again after a restart.
func TestFilesAreOnDiskBeforeTheJournalNamesThem(t *testing.T) {
	in, out := hash('1'), hash('2')
	durably(t, 1, func(context.Context, *tasks.Attempt) tasks.Outcome {
		return tasks.Outcome{Outputs: []tasks.OutputFile{{Name: "o", Content: tasks.Content{Blob: out, Size: 5}}}}
	}, func(t *testing.T, b *bench) {
		var mu sync.Mutex
		held, synced := map[string]int{}, map[string]bool{}
		hold := func(n int) func(*tasks.Content) {
			return func(c *tasks.Content) { mu.Lock(); held[c.Blob] += n; mu.Unlock() }
		}
		b.change = func(cfg *Config) {
			cfg.Hold, cfg.Release = hold(1), hold(-1)
			cfg.Fetch = func(_ context.Context, _ string, c *tasks.Content) error { hold(1)(c); return nil }
			cfg.Sync = func(c *tasks.Content) error {
				mu.Lock()
				defer mu.Unlock()
				if c.Size == 0 {
					return errors.New("the disk is gone")
				}
				synced[c.Blob] = true
				return nil
			}
		}
		b.killMaster()
		b.restartMaster()
		s := cmd("x", tasks.Any())
		s.Task.Inputs = []tasks.Input{{Name: "i", Content: tasks.Content{Blob: in}}}
		if _, err := b.m.Submit(t.Context(), s); !errors.Is(err, tasks.ErrNotKept) {
			t.Errorf("Submit with a file that cannot be put on disk = %v, want ErrNotKept", err)
		}
		s.Task.Inputs[0].Size = 5
		b.wait(b.submit(s))
		if !synced[in] || !synced[out] || held[in] != 0 || held[out] != 1 {
			t.Errorf("on disk %v, held %v; want both, and the output held", synced, held)
		}
		clear(held)
		b.killMaster()
		b.restartMaster()
		if held[in] != 0 || held[out] != 1 {
			t.Errorf("after a restart %v is held, want the output", held)
		}
	})
}

// The files of an attempt that failed, and is made again, are not held for ever.
func TestFilesOfAnAttemptThatIsMadeAgainAreReleased(t *testing.T) {
	inBubble(t, 1, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
		o := tasks.Outcome{Outputs: []tasks.OutputFile{{Name: "o", Content: tasks.Content{Blob: hash(byte('0' + a.N)), Size: 5}}}}
		if a.N < 3 {
			o.Code, o.Exit = tasks.Exit, 1
		}
		return o
	}, func(t *testing.T, b *bench) {
		var mu sync.Mutex
		held := map[string]int{}
		count := func(c *tasks.Content, n int) {
			mu.Lock()
			defer mu.Unlock()
			held[c.Blob] += n
		}
		b.change = func(cfg *Config) {
			cfg.Fetch = func(_ context.Context, _ string, c *tasks.Content) error { count(c, 1); return nil }
			cfg.Release = func(c *tasks.Content) { count(c, -1) }
		}
		b.killMaster()
		b.restartMaster()
		b.wait(b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Retry = 2 })))
		if held[hash('1')] != 0 || held[hash('2')] != 0 || held[hash('3')] != 1 {
			t.Errorf("held %v, want the file of the last attempt alone", held)
		}
	})
}

// Files on their way here from a worker that is started anew are gone: its attempt is lost.
func TestFilesOfAWorkerThatWasStartedAnew(t *testing.T) {
	var c tally
	writes := func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		o := c.run(time.Second)(ctx, a)
		if a.N == 1 {
			o.Outputs = []tasks.OutputFile{{Name: "o", Content: tasks.Content{Blob: hash('2'), Size: 5}}}
		}
		return o
	}
	durably(t, 1, writes, func(t *testing.T, b *bench) {
		fetched := make(chan struct{})
		b.change = func(cfg *Config) {
			cfg.Fetch = func(context.Context, string, *tasks.Content) error {
				<-fetched
				return errors.New("no such blob")
			}
		}
		b.killMaster()
		b.restartMaster()
		id := b.submit(cmd("x", tasks.Any())).Tasks()[0].ID
		time.Sleep(2 * time.Second)
		b.kill("w1")
		b.add("w1", writes)
		b.submit(cmd("y", tasks.Any())) // brings the link back
		time.Sleep(5 * time.Second)
		close(fetched)
		if r := b.awaitFinal([]tasks.ID{id})[0]; r.State != tasks.StateDone || c.of(id) != 2 {
			t.Errorf("%s (%s) after %d starts, want done after another", r.State, r.Text, c.of(id))
		}
	})
}

// making is run, and a file is left.
func (c *tally) making(d time.Duration) runner {
	return func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		o := c.run(d)(ctx, a)
		o.Outputs = []tasks.OutputFile{{Name: "o", Content: tasks.Content{Blob: hash('2'), Size: 5}}}
		return o
	}
}

// A cancellation that was answered while files were on their way holds after a restart.
func TestACancellationWhileFilesArriveIsOnDisk(t *testing.T) {
	var c tally
	writes := c.making(time.Second)
	durably(t, 1, writes, func(t *testing.T, b *bench) {
		b.change = func(cfg *Config) {
			cfg.Fetch = func(ctx context.Context, _ string, _ *tasks.Content) error {
				<-ctx.Done()
				return ctx.Err()
			}
		}
		b.killMaster()
		b.restartMaster()
		id := b.submit(cmd("x", tasks.Any())).Tasks()[0].ID
		time.Sleep(2 * time.Second)
		if n, err := b.m.Cancel(id, tasks.StopCancel); n != 1 || err != nil {
			t.Fatalf("Cancel = %d, %v, want 1", n, err)
		}
		b.killMaster()
		b.kill("w1")
		b.restartMaster()
		b.add("w1", writes)
		if r := b.awaitFinal([]tasks.ID{id})[0]; r.State != tasks.StateCancelled || c.of(id) != 1 {
			t.Errorf("%s after %d starts, want cancelled after the first", r.State, c.of(id))
		}
		synctest.Wait()
		if n := b.journal.Len(kindCancel); n != 0 {
			t.Errorf("the journal has %d cancellations of tasks that have ended", n)
		}
	})
}

// Files whose word comes when the master is closed are left where they are: the next start
// brings them.
func TestFilesThatCloseCutsOffComeWithTheNextStart(t *testing.T) {
	var c tally
	writes := c.making(time.Second)
	durably(t, 1, writes, func(t *testing.T, b *bench) {
		var fetches atomic.Int32
		b.change = func(cfg *Config) {
			cfg.Fetch = func(ctx context.Context, _ string, _ *tasks.Content) error {
				fetches.Add(1)
				return ctx.Err()
			}
		}
		b.killMaster()
		b.restartMaster()
		id := b.submit(cmd("x", tasks.Any())).Tasks()[0].ID
		time.Sleep(500 * time.Millisecond)
		b.m.Close()
		time.Sleep(time.Second) // it ends, and the link is still there
		if n := fetches.Load(); n != 0 {
			t.Errorf("after Close %d files are fetched", n)
		}
		b.killMaster()
		b.restartMaster()
		if r := b.awaitFinal([]tasks.ID{id})[0]; r.State != tasks.StateDone || c.of(id) != 1 || fetches.Load() != 1 {
			t.Errorf("%s after %d starts and %d fetches, want done after one", r.State, c.of(id), fetches.Load())
		}
	})
}

// Files are fetched from a worker so many at a time: connections and descriptors are bounded,
// however fast its tasks end.
func TestFilesOfAWorkerAreFetchedSoManyAtATime(t *testing.T) {
	inBubble(t, 1, func(context.Context, *tasks.Attempt) tasks.Outcome {
		return tasks.Outcome{Outputs: []tasks.OutputFile{{Name: "o", Content: tasks.Content{Blob: hash('2'), Size: 5}}}}
	}, func(t *testing.T, b *bench) {
		var mu sync.Mutex
		now, most := 0, 0
		b.change = func(cfg *Config) {
			cfg.Fetch = func(context.Context, string, *tasks.Content) error {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Minute) // of the bubble
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			}
		}
		b.killMaster()
		b.restartMaster()
		var runs []*Run
		for range 100 {
			runs = append(runs, b.submit(cmd("x", tasks.Any())))
		}
		for _, r := range runs {
			if s := b.wait(r)[0].State; s != tasks.StateDone {
				t.Errorf("a task is %s, want done", s)
			}
		}
		if most != maxFetches {
			t.Errorf("of 100 files %d were fetched at a time, want %d", most, maxFetches)
		}
	})
}

// A full disk is no failure of a task whose files are to be brought here: they are waited
// for, unless nobody wants them any more.
func TestFilesWaitForRoom(t *testing.T) {
	full := errors.New("full")
	for _, c := range []struct {
		name   string
		cancel bool
		want   tasks.State
	}{
		{"until there is some", false, tasks.StateDone},
		{"until it is cancelled", true, tasks.StateCancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			durably(t, 1, func(context.Context, *tasks.Attempt) tasks.Outcome {
				return tasks.Outcome{Outputs: []tasks.OutputFile{
					{Name: "o", Content: tasks.Content{Blob: "staged-1", Size: 5}}, {Name: "p", Content: tasks.Content{Blob: "staged-2", Size: 5}},
				}}
			}, func(t *testing.T, b *bench) {
				begin := time.Now()
				b.change = func(cfg *Config) {
					cfg.Full = func(err error) bool { return errors.Is(err, full) }
					cfg.Sync = func(*tasks.Content) error { return nil }
					cfg.Fetch = func(_ context.Context, _ string, c *tasks.Content) error {
						switch {
						case c.Blob == "staged-2" && time.Since(begin) < time.Hour:
							return full
						case c.Blob != "staged-1" && c.Blob != "staged-2":
							return errors.New("the worker has it by another name")
						}
						c.Blob = hash(c.Blob[len(c.Blob)-1])
						return nil
					}
				}
				b.killMaster()
				b.restartMaster()
				run := b.submit(cmd("x", tasks.Any()))
				time.Sleep(time.Minute)
				if r := run.Tasks()[0]; r.State.Final() {
					t.Fatalf("it is %s, %s, while the disk is full", r.State, r.Text)
				}
				if c.cancel {
					run.Cancel(tasks.StopCancel)
				}
				if r := b.wait(run)[0]; r.State != c.want || c.cancel == (time.Since(begin) >= time.Hour) {
					t.Errorf("it is %s after %v, %s; want %s", r.State, time.Since(begin), r.Text, c.want)
				}
			})
		})
	}
}

// hash is the name of a content.
func hash(digit byte) string {
	b := make([]byte, 64)
	for i := range b {
		b[i] = digit
	}
	return string(b)
}
