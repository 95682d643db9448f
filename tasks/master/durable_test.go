package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
)

// tally counts how often each task was started.
type tally struct {
	mu     sync.Mutex
	starts map[tasks.ID]int
}

// run lets each task run for d.
func (c *tally) run(d time.Duration) runner {
	return func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		c.mu.Lock()
		if c.starts == nil {
			c.starts = map[tasks.ID]int{}
		}
		c.starts[a.ID]++
		c.mu.Unlock()
		select {
		case <-time.After(d):
			return tasks.Outcome{Value: []byte(`"` + a.Task.Argv[0] + `"`), Encoding: tasks.JSON}
		case <-ctx.Done():
			return stopped(ctx)
		}
	}
}

func (c *tally) of(id tasks.ID) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.starts[id]
}

// awaitFinal waits until the tasks have ended, asking the master for each.
func (b *bench) awaitFinal(ids []tasks.ID) []tasks.Result {
	b.t.Helper()
	var rs []tasks.Result
	until := time.Now().Add(time.Hour)
	for _, id := range ids {
		for {
			r, err := b.m.Task(id)
			if err != nil {
				b.t.Fatalf("task %s: %v", id, err)
			}
			if r.State.Final() {
				rs = append(rs, r)
				break
			}
			if time.Now().After(until) {
				b.t.Fatalf("task %s has not ended after an hour: %+v", id, r)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return rs
}

func (b *bench) submitMany(n int, target tasks.Target, change ...func(*tasks.Options)) []tasks.ID {
	b.t.Helper()
	var ids []tasks.ID
	for i := range n {
		ids = append(ids, b.submit(cmd(fmt.Sprint(i), target, change...)).Tasks()[0].ID)
	}
	return ids
}

// A master that is killed, and is back within the grace, runs nothing twice.
func TestNothingRunsTwiceWhenTheMasterIsBackInTime(t *testing.T) {
	for _, away := range []time.Duration{0, 2 * time.Second, 25 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			var c tally
			durably(t, 3, c.run(20*time.Second), func(t *testing.T, b *bench) {
				ids := b.submitMany(20, tasks.Any()) // six run, the others wait
				time.Sleep(5 * time.Second)
				b.killMaster()
				time.Sleep(away)
				b.restartMaster()
				for i, r := range b.awaitFinal(ids) {
					if r.State != tasks.StateDone || string(r.Value) != fmt.Sprintf("%q", fmt.Sprint(i)) || c.of(r.ID) != 1 {
						t.Errorf("task %d: %s, value %s, started %d times; want done with its number, started once", i, r.State, r.Value, c.of(r.ID))
					}
				}
				if s := b.m.Stats(); s.LostAttempts != 0 || s.Open != 0 || s.Stuck != 0 {
					t.Errorf("stats %+v, want nothing lost, open or stuck", s)
				}
			})
		})
	}
}

// A worker that is not back within the grace has lost its attempts.
func TestAfterTheGraceAnotherAttemptIsMade(t *testing.T) {
	var c tally
	durably(t, 2, c.run(time.Minute), func(t *testing.T, b *bench) {
		ids := b.submitMany(4, tasks.Any())
		time.Sleep(time.Second)
		b.killMaster()
		gone := b.workers["w1"]
		b.net.Cut(masterHost, gone.ip)
		b.restartMaster()
		time.Sleep(b.m.cfg.Grace - time.Second)
		if n := b.m.Stats().LostAttempts; n != 0 {
			t.Errorf("%d attempts are lost within the grace, want none", n)
		}
		for _, r := range b.awaitFinal(ids) {
			if r.State != tasks.StateDone || r.Worker != "w2" {
				t.Errorf("task %s: %s on %s, want done on w2", r.ID, r.State, r.Worker)
			}
		}
		if n := b.m.Stats().LostAttempts; n != 2 {
			t.Errorf("%d attempts were lost, want the two of the worker that is away", n)
		}
	})
}

// A worker that was started anew meanwhile has lost its attempts at once.
func TestAWorkerThatWasStartedAnewHasLostItsAttempts(t *testing.T) {
	var c tally
	r := c.run(time.Minute)
	durably(t, 1, r, func(t *testing.T, b *bench) {
		ids := b.submitMany(2, tasks.Any())
		once := b.submit(cmd("once", tasks.On("w1"), func(o *tasks.Options) { o.Attempts = 1 })).Tasks()[0].ID
		time.Sleep(90 * time.Second) // once has begun
		b.killMaster()
		b.kill("w1")
		b.add("w1", r)
		start := time.Now()
		b.restartMaster()
		rs := b.awaitFinal(append(ids, once))
		if rs[0].State != tasks.StateDone || rs[1].State != tasks.StateDone {
			t.Errorf("the tasks are %s and %s, want done", rs[0].State, rs[1].State)
		}
		if rs[2].State != tasks.StateLost || c.of(once) != 1 {
			t.Errorf("the task of one attempt is %s and was started %d times, want lost after one start", rs[2].State, c.of(once))
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("that took %v, want it at once", d)
		}
	})
}

// What has ended can be asked for after a restart, as before, until its retention
// ends.
func TestWhatHasEndedIsKeptOverARestart(t *testing.T) {
	durably(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		fmt.Fprintf(a.Stdout, "out of %s\n", a.Task.Argv[0])
		fmt.Fprintf(a.Stderr, "err of %s\n", a.Task.Argv[0])
		if a.Task.Argv[0] == "bad" {
			return tasks.Outcome{Code: tasks.Exit, Exit: 3, Text: "exit status 3"}
		}
		return tasks.Outcome{Value: []byte("1"), Encoding: tasks.JSON, MaxRSS: 5}
	}, func(t *testing.T, b *bench) {
		one := b.submit(cmd("good", tasks.Any()))
		all := b.submit(cmd("bad", tasks.All()))
		before := append(b.wait(one), b.wait(all)...)
		b.killMaster()
		time.Sleep(time.Hour)
		b.restartMaster()
		if s := b.m.Stats(); s.Open != 0 {
			t.Errorf("%d tasks are open, want none", s.Open)
		}
		list := b.m.List(tasks.ID{}, nil, 100)
		if len(list) != 3 {
			t.Fatalf("the list has %d tasks, want 3", len(list))
		}
		for i := range before {
			got, err := b.m.Task(before[i].ID)
			if err != nil {
				t.Fatal(err)
			}
			short := before[i]
			brief(&short)
			if want := fmt.Sprintf("%+v", before[i]); fmt.Sprintf("%+v", got) != want || fmt.Sprintf("%+v", list[i]) != fmt.Sprintf("%+v", short) {
				t.Errorf("after the restart\n%+v\nin the list\n%+v\nwant\n%s", got, list[i], want)
			}
		}
		again, err := b.m.Run(all.ID())
		if err != nil {
			t.Fatal(err)
		}
		if rs := b.wait(again); len(rs) != 2 || rs[1].Exit != 3 || !again.Several() {
			t.Errorf("the run of two is %+v", rs)
		}
		for _, id := range []tasks.ID{one.ID(), before[0].ID} {
			if out := b.followed(id); out != "out of good\nerr of good\n" {
				t.Errorf("following %s gives %q", id, out)
			}
		}
		if n, err := b.m.Cancel(all.ID(), tasks.StopCancel); n != 0 || err != nil {
			t.Errorf("Cancel of what has ended = %d, %v; want 0, nil", n, err)
		}
		time.Sleep(24 * time.Hour)
		if _, err := b.m.Task(before[0].ID); !errors.Is(err, tasks.ErrUnknown) {
			t.Errorf("after a day the error is %v, want ErrUnknown", err)
		}
		synctest.Wait()
		for k := kindRun; k <= kindCancel; k++ {
			if n := b.journal.Len(k); n != 0 {
				t.Errorf("after a day the journal has %d records of kind %d, want none", n, k)
			}
		}
	})
}

// followed returns all output that a follower is given.
func (b *bench) followed(id tasks.ID) string {
	b.t.Helper()
	f, err := b.m.Follow(id)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	for {
		e, err := f.Next(b.t.Context())
		if err == io.EOF {
			return out.String()
		}
		if err != nil {
			b.t.Fatal(err)
		}
		out.Write(e.Output)
	}
}

func TestOnlySoManyEndedTasksAreKept(t *testing.T) {
	durably(t, 1, func(context.Context, *tasks.Attempt) tasks.Outcome { return ended() }, func(t *testing.T, b *bench) {
		b.killMaster()
		b.change = func(cfg *Config) { cfg.MaxRetained, cfg.MaxKept = 3, 2 }
		b.restartMaster()
		var ids []tasks.ID
		for range 5 {
			r := b.submit(cmd("x", tasks.Any()))
			b.wait(r)
			ids = append(ids, r.Tasks()[0].ID)
		}
		synctest.Wait()
		for i, id := range ids {
			if _, err := b.m.Task(id); (err == nil) != (i >= 2) {
				t.Errorf("task %d of 5: error %v, want the last three to be known", i, err)
			}
		}
		if got := len(b.m.List(tasks.ID{}, nil, 10)); got != 3 {
			t.Errorf("the list has %d tasks, want 3", got)
		}
	})
}

// A run of several tasks of which some have ended goes on with the others.
func TestARunThatWasHalfDoneGoesOn(t *testing.T) {
	var c tally
	r := c.run(10 * time.Second)
	durably(t, 3, r, func(t *testing.T, b *bench) {
		busy := b.submitMany(2, tasks.On("w3"))
		run := b.submit(cmd("x", tasks.All()))
		time.Sleep(15 * time.Second) // w1 and w2 have done theirs, w3 runs it
		b.killMaster()
		time.Sleep(time.Second)
		b.restartMaster()
		again, err := b.m.Run(run.ID())
		if err != nil {
			t.Fatal(err)
		}
		for i, res := range b.wait(again) {
			if res.State != tasks.StateDone || c.of(res.ID) != 1 || res.Worker != fmt.Sprintf("w%d", i+1) {
				t.Errorf("task %d: %s on %s after %d starts, want done on w%d after one", i, res.State, res.Worker, c.of(res.ID), i+1)
			}
		}
		b.awaitFinal(busy)
	})
}

// What was cancelled stays so.
func TestACancellationHoldsOverARestart(t *testing.T) {
	var c tally
	durably(t, 1, c.run(time.Minute), func(t *testing.T, b *bench) {
		ids := b.submitMany(4, tasks.Any())
		time.Sleep(time.Second)
		b.net.Cut(masterHost, b.workers["w1"].ip)
		for _, i := range []int{1, 3} { // one runs, one waits
			if n, err := b.m.Cancel(ids[i], tasks.StopCancel); n != 1 || err != nil {
				t.Fatalf("Cancel = %d, %v", n, err)
			}
		}
		b.killMaster()
		b.net.Heal(masterHost, b.workers["w1"].ip)
		b.restartMaster()
		for i, r := range b.awaitFinal(ids) {
			want := tasks.StateDone
			if i%2 == 1 {
				want = tasks.StateCancelled
			}
			if r.State != want {
				t.Errorf("task %d is %s, want %s", i, r.State, want)
			}
		}
		if n := c.of(ids[3]); n != 0 {
			t.Errorf("what was cancelled while it waited was started %d times", n)
		}
	})
}

// Output that a master had before it was restarted is there again, as far as the
// worker may have to keep it, else it is said how much is missing.
func TestOutputOverARestart(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after int
		whole         bool
	}{
		{"little", 100 << 10, 50 << 10, true},
		{"much", 3 << 20, 100 << 10, false},
		{"much, and nothing after", 3 << 20, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := make([]byte, c.before+c.after)
			for i := range want {
				want[i] = byte(i>>10) + byte(i)
			}
			durably(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
				for _, part := range [][]byte{want[:c.before], want[c.before:]} {
					for len(part) > 0 {
						n, _ := a.Stdout.Write(part[:min(len(part), 10_000)])
						part = part[n:]
					}
					time.Sleep(10 * time.Second)
				}
				return ended()
			}, func(t *testing.T, b *bench) {
				id := b.submitMany(1, tasks.Any())[0]
				time.Sleep(5 * time.Second)
				for range 2 {
					b.killMaster()
					b.restartMaster()
					time.Sleep(time.Second)
				}
				f, err := b.m.Follow(id)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				var got []byte
				for {
					e, err := f.Next(t.Context())
					if err != nil {
						break
					}
					got = append(got, e.Output...)
				}
				if !bytes.HasSuffix(want, got) || len(got) < c.after {
					t.Errorf("a follower got %d bytes that are not the last ones", len(got))
				}
				r := b.awaitFinal([]tasks.ID{id})[0]
				if c.whole && !bytes.Equal(r.Stdout, want) {
					t.Errorf("%d bytes and %d cut, want all %d", len(r.Stdout), r.StdoutCut, len(want))
				}
				if !bytes.HasSuffix(want, r.Stdout) || int64(len(r.Stdout))+r.StdoutCut != int64(len(want)) || r.StdoutBytes != int64(len(want)) {
					t.Errorf("%d bytes are kept and %d are said to be cut, of %d; %d were written", len(r.Stdout), r.StdoutCut, len(want), r.StdoutBytes)
				}
			})
		})
	}
}

// At most once means that over restarts too.
func TestAtMostOnceOverRestarts(t *testing.T) {
	var c tally
	durably(t, 2, c.run(3*time.Second), func(t *testing.T, b *bench) {
		ids := b.submitMany(40, tasks.Any(), func(o *tasks.Options) { o.Attempts = 1 })
		for range 10 {
			time.Sleep(2500 * time.Millisecond)
			b.killMaster()
			time.Sleep(500 * time.Millisecond)
			b.restartMaster()
		}
		for i, r := range b.awaitFinal(ids) {
			if n := c.of(r.ID); n != 1 || r.State != tasks.StateDone {
				t.Errorf("task %d: %s after %d starts, want done after one", i, r.State, n)
			}
		}
	})
}

// A task that its workers die of is held responsible for it.
func TestAPoisonTaskIsStopped(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprint(durable), func(t *testing.T) {
			var c tally
			in := inBubble
			if durable {
				in = durably
			}
			r := c.run(time.Hour)
			in(t, 0, r, func(t *testing.T, b *bench) {
				b.add("w1", r)
				run := b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Attempts = 100 }))
				id := run.Tasks()[0].ID
				for i := range 3 {
					name := fmt.Sprintf("w%d", i+1)
					for c.of(id) == i {
						time.Sleep(10 * time.Millisecond)
					}
					time.Sleep(time.Second)
					if durable && i == 1 {
						b.killMaster()
						b.restartMaster()
						time.Sleep(time.Second)
					}
					b.kill(name)
					b.m.Remove(nodeID(name))
					b.add(fmt.Sprintf("w%d", i+2), r)
				}
				res := b.awaitFinal([]tasks.ID{id})[0]
				if res.State != tasks.StateFailed || res.Code != tasks.Poison || c.of(id) != 3 {
					t.Errorf("%s, %s, started %d times; want failed, poison, 3", res.State, res.Code, c.of(id))
				}
			})
		})
	}
}

// Attempts after the second are not made at once.
func TestRepeatedAttemptsAreSpacedOut(t *testing.T) {
	var at []time.Time
	inBubble(t, 1, func(context.Context, *tasks.Attempt) tasks.Outcome {
		at = append(at, time.Now())
		return tasks.Outcome{Code: tasks.Exit, Exit: 1}
	}, func(t *testing.T, b *bench) {
		b.wait(b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Retry = 12 })))
		if len(at) != 13 {
			t.Fatalf("%d attempts, want 13", len(at))
		}
		if d := at[1].Sub(at[0]); d > 10*time.Millisecond {
			t.Errorf("the second attempt came after %v, want at once", d)
		}
		for i := 2; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d > min(100*time.Millisecond<<(i-2), maxRest)+10*time.Millisecond {
				t.Errorf("attempt %d came after %v", i+1, d)
			}
		}
		if d := at[12].Sub(at[0]); d < time.Second {
			t.Errorf("13 attempts within %v, want them spaced out", d)
		}
	})
}

// A task for which nothing is under way, which cannot be, is noticed and set going.
func TestTheAuditSetsStuckTasksGoing(t *testing.T) {
	var c tally
	inBubble(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
		busy := b.submit(cmd("busy", tasks.On("w1"), func(o *tasks.Options) { o.Slots = 2 }))
		synctest.Wait()
		run := b.submit(cmd("x", tasks.Any()))
		b.m.mu.Lock()
		t1 := run.tasks[0]
		t1.queue().drop(t1)
		b.m.auditLocked()
		stuck := b.m.stats.Stuck
		b.m.auditLocked()
		if stuck != 1 || b.m.stats.Stuck != 1 {
			t.Errorf("the audit counts %d, and then %d, want 1 and no more", stuck, b.m.stats.Stuck)
		}
		b.m.mu.Unlock()
		b.wait(busy)
		if rs := b.wait(run); rs[0].State != tasks.StateDone {
			t.Errorf("it is %s, want done", rs[0].State)
		}
	})
}

// A worker of which nothing is heard while it drains may have stopped to.
func TestAWorkerThatDrainedWhileItsLinkBrokeIsUsedAgain(t *testing.T) {
	var c tally
	inBubble(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
		b.wait(b.submit(cmd("a link", tasks.Any())))
		w := b.workers["w1"]
		w.w.Drain(t.Context())
		time.Sleep(5 * time.Second) // it says so
		b.net.Reset(masterHost, w.ip)
		time.Sleep(time.Second)
		w.w.Resume()
		if rs := b.wait(b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.WaitWorkers = time.Minute }))); rs[0].State != tasks.StateDone {
			t.Errorf("it is %s, want done", rs[0].State)
		}
	})
}
