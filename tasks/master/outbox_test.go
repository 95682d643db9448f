package master

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/wire"
	running "github.com/scagent/scagent/tasks/worker"
)

// writing lets each task write before it runs for d.
func (c *tally) writing(d time.Duration, out string) runner {
	run := c.run(d)
	return func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		fmt.Fprint(a.Stdout, out)
		fmt.Fprint(a.Stderr, "err")
		return run(ctx, a)
	}
}

// What an attempt has come to is known after its worker was killed before the master
// heard of it, whoever else was killed meanwhile, and nothing is run again: neither
// what may be tried several times nor what may not.
func TestAnOutcomeSurvivesItsWorker(t *testing.T) {
	out := strings.Repeat("0123456789abcdef", 8<<10) // 128 KiB
	for _, both := range []bool{false, true} {
		for _, attempts := range []int{1, 3} {
			t.Run(fmt.Sprintf("attempts=%d/master=%v", attempts, both), func(t *testing.T) {
				var c tally
				r := c.writing(2*time.Second, out)
				durably(t, 1, r, func(t *testing.T, b *bench) {
					ids := b.submitMany(2, tasks.Any(), func(o *tasks.Options) { o.Attempts = attempts })
					time.Sleep(time.Second)
					if both {
						b.killMaster()
					} else {
						b.net.Cut(masterHost, b.workers["w1"].ip)
					}
					time.Sleep(2 * time.Second)
					if n := b.workers["w1"].w.Outcomes(); n != 2 {
						t.Fatalf("%d outcomes wait, want 2", n)
					}
					b.await("w1", 2)
					b.kill("w1")
					w := b.add("w1", r)
					b.net.Heal(masterHost, w.ip)
					if both {
						b.restartMaster()
					}
					for _, res := range b.awaitFinal(ids) {
						if res.State != tasks.StateDone || c.of(res.ID) != 1 || res.Worker != "w1" || res.Attempt != 1 {
							t.Errorf("%s, %s on %q, attempt %d, started %d times; want done on w1 in the first, started once", res.State, res.Text, res.Worker, res.Attempt, c.of(res.ID))
						}
						if string(res.Stdout) != out || string(res.Stderr) != "err" || res.StdoutCut != 0 {
							t.Errorf("%d bytes of output and %q, %d are missing; want %d and err", len(res.Stdout), res.Stderr, res.StdoutCut, len(out))
						}
					}
					// They may have come by the connection of the dead, which takes no acks, and
					// then wait for the next.
					b.wait(b.submit(cmd("x", tasks.On("w1"))))
					b.await("w1", 0)
					if n := w.w.Outcomes(); n != 0 {
						t.Errorf("%d outcomes wait after the acks", n)
					}
				})
			})
		}
	}
}

// await waits until the disk of a worker has so many outcomes.
func (b *bench) await(name string, n int) {
	b.t.Helper()
	j := b.workers[name].journal
	for range 100 {
		synctest.Wait() // also for the disk
		if j.Len(16) == n {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.t.Fatalf("there are %d outcomes on the disk of %s, want %d", j.Len(16), name, n)
}

// A worker that is away is not waited for; what it had done counts if it is back
// before another has done it again, with what it wrote.
func TestALateOutcomeCountsIfNoOtherIsThere(t *testing.T) {
	for _, out := range []string{"", "some output"} {
		t.Run(out, func(t *testing.T) {
			var c tally
			quick, slow := c.run(2*time.Second), c.run(time.Hour)
			if out != "" {
				quick = c.writing(2*time.Second, out)
			}
			durably(t, 1, quick, func(t *testing.T, b *bench) {
				run := b.submit(cmd("x", tasks.Any()))
				f, err := b.m.Follow(run.ID())
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				time.Sleep(time.Second)
				b.net.Cut(masterHost, b.workers["w1"].ip)
				b.add("w2", slow)
				time.Sleep(5 * time.Second)
				id := run.Tasks()[0].ID
				if c.of(id) != 2 || run.Tasks()[0].Worker != "w2" {
					t.Fatalf("it was started %d times and is on %q, want it to run a second time, on w2", c.of(id), run.Tasks()[0].Worker)
				}
				b.await("w1", 1)
				b.kill("w1")
				b.net.Heal(masterHost, "10.0.0.1")
				b.add("w1", quick)
				b.submit(cmd("y", tasks.On("w1"))) // so that there is a link
				time.Sleep(time.Second)
				res := run.Tasks()[0]
				if res.State != tasks.StateDone || res.Worker != "w1" || c.of(id) != 2 {
					t.Errorf("%s on %q after %d starts, want done, as w1 said", res.State, res.Worker, c.of(id))
				}
				if got := string(res.Stdout); got != out {
					t.Errorf("its output is %q, want %q", got, out)
				}
				var told string
				for {
					e, err := f.Next(t.Context())
					if err != nil {
						break
					}
					if e.Type == EventAgain {
						told = ""
					}
					if e.Stream == wire.Stdout {
						told += string(e.Output)
					}
				}
				if told != out {
					t.Errorf("a follower was told %q, want %q", told, out)
				}
				synctest.Wait()
				if n := b.workers["w2"].w.Load().Busy; n != 0 {
					t.Errorf("%d slots of w2 are busy with what has ended", n)
				}
			})
		})
	}
}

// What another attempt has written meanwhile is not mixed with it, and what has been
// given up for good stays so.
func TestALateOutcomeIsDroppedWhereItWouldHarm(t *testing.T) {
	for name, attempts := range map[string]int{"the other has written": 3, "lost": 1} {
		t.Run(name, func(t *testing.T) {
			var c tally
			first, second := c.writing(2*time.Second, "first"), c.writing(time.Minute, "second")
			durably(t, 1, first, func(t *testing.T, b *bench) {
				run := b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Attempts = attempts }))
				time.Sleep(time.Second)
				b.net.Cut(masterHost, b.workers["w1"].ip)
				b.add("w2", second)
				time.Sleep(5 * time.Second)
				b.await("w1", 1)
				b.kill("w1")
				b.net.Heal(masterHost, "10.0.0.1")
				b.add("w1", first)
				b.submit(cmd("y", tasks.On("w1")))
				time.Sleep(10 * time.Second)
				res := b.wait(run)[0]
				want, out := tasks.StateDone, "second"
				if attempts == 1 {
					want, out = tasks.StateLost, "first"
				}
				if res.State != want || string(res.Stdout) != out {
					t.Errorf("%s with %q, want %s with %q", res.State, res.Stdout, want, out)
				}
			})
		})
	}
}

// A node that was a worker, and is none any more, has lost what it had.
func TestWhoIsNoWorkerAnyMoreHasLostItsAttempts(t *testing.T) {
	var c tally
	durably(t, 1, c.run(time.Hour), func(t *testing.T, b *bench) {
		run := b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Attempts = 1 }))
		time.Sleep(time.Second)
		w := b.workers["w1"]
		b.net.Cut(masterHost, w.ip)
		b.kill("w1")
		b.net.Heal(masterHost, w.ip)
		hub := b.newHub(w.id, "w1", w.ip, wire.Config{})
		defer hub.Close()
		start := time.Now()
		if res := b.wait(run)[0]; res.State != tasks.StateLost || time.Since(start) > 10*time.Second {
			t.Errorf("%s after %v, want lost after the lease", res.State, time.Since(start))
		}
	})
}

// Only what the master has on disk goes to that of the worker.
func TestCallsAreNotPutOnTheWorkersDisk(t *testing.T) {
	var c tally
	durably(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
		j := &counting{Journal: b.workers["w1"].journal}
		b.kill("w1")
		b.add("w1", c.run(time.Second), func(cfg *running.Config) { j.Journal = cfg.Journal; cfg.Journal = j })
		s := cmd("x", tasks.Any(), func(o *tasks.Options) { o.Ephemeral = true })
		b.wait(b.submit(s))
		if _, err := b.m.Call(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
		if j.writes != 0 {
			t.Errorf("%d outcomes of ephemeral tasks went to the journal, want none", j.writes)
		}
		b.wait(b.submit(cmd("x", tasks.Any())))
		if j.writes != 1 {
			t.Errorf("%d outcomes of one task went to the journal", j.writes)
		}
	})
}

// counting is a worker's journal that counts what goes into it.
type counting struct {
	running.Journal
	writes int
}

func (j *counting) Try(done func(error), rs ...journal.Record) {
	j.writes++
	j.Journal.Try(done, rs...)
}

// What a worker has done is heard before it is given the same again, if that takes no
// longer than the master's disk: also what it wrote, be it that the master has it or
// the worker.
func TestAWorkerThatIsBackIsHeardFirst(t *testing.T) {
	for _, wrote := range []int{0, 1 << 10, 300 << 10} {
		t.Run(fmt.Sprint(wrote), func(t *testing.T) {
			var c tally
			r := c.run(2 * time.Second)
			out := strings.Repeat("x", wrote)
			if wrote > 0 {
				r = c.writing(2*time.Second, out)
			}
			durably(t, 1, r, func(t *testing.T, b *bench) {
				var stop func()
				b.m.cfg.Journal, stop = slow(b.journal)
				defer stop()
				run := b.submit(cmd("x", tasks.Any()))
				time.Sleep(time.Second)
				w := b.workers["w1"]
				b.net.Cut(masterHost, w.ip)
				time.Sleep(10 * time.Second)
				b.await("w1", 1)
				if s := b.m.Stats(); s.LostAttempts != 1 {
					t.Fatalf("%d attempts are lost, want one", s.LostAttempts)
				}
				b.kill("w1")
				b.net.SetDelay(50 * time.Millisecond)
				b.add("w1", r)
				b.net.Heal(masterHost, w.ip)
				res := b.wait(run)[0]
				if res.State != tasks.StateDone || res.Worker != "w1" || res.Attempt != 1 || c.of(res.ID) != 1 || string(res.Stdout) != out {
					t.Errorf("%s on %q by attempt %d of %d with %d bytes of output, want done on w1 by the only one with %d",
						res.State, res.Worker, res.Attempt, c.of(res.ID), len(res.Stdout), wrote)
				}
			})
		})
	}
}

// slow is j on a disk that takes 20 ms for each write, until it is stopped.
func slow(j Journal) (Journal, func()) {
	d := &slowDisk{j, make(chan func(), 100)}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		for {
			select {
			case write := <-d.writes:
				time.Sleep(20 * time.Millisecond)
				write()
			case <-ctx.Done():
				return
			}
		}
	}()
	return d, stop
}

type slowDisk struct {
	Journal
	writes chan func()
}

func (d *slowDisk) Write(done func(error), rs ...journal.Record) {
	d.writes <- func() { d.Journal.Write(done, rs...) }
}

func (d *slowDisk) Try(done func(error), rs ...journal.Record) {
	d.writes <- func() { d.Journal.Try(done, rs...) }
}

// An attempt that is not known after both were away has been one.
func TestAttemptsThatAreLostInARestartCount(t *testing.T) {
	var c tally
	r := c.run(time.Hour)
	durably(t, 1, r, func(t *testing.T, b *bench) {
		id := b.submitMany(1, tasks.Any(), func(o *tasks.Options) { o.Attempts = 2 })[0]
		for range 2 {
			time.Sleep(10 * time.Second)
			b.killMaster()
			b.kill("w1")
			b.add("w1", r)
			b.restartMaster()
		}
		if res := b.awaitFinal([]tasks.ID{id})[0]; res.State != tasks.StateLost || c.of(id) != 2 {
			t.Errorf("%s after %d starts, want lost after two", res.State, c.of(id))
		}
	})
}
