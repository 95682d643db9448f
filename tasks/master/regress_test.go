package master

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

func TestFollowerLosesOutputOfSecondAttempt(t *testing.T) {
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		if a.N == 1 {
			fmt.Fprint(a.Stdout, "0123456789")
			return stopped(ctx)
		}
		for _, p := range []string{"aaa", "bbb", "ccc", "ddd", "eee"} {
			fmt.Fprint(a.Stdout, p)
		}
		return ended()
	}, func(t *testing.T, b *bench) {
		run, f, err := b.m.SubmitFollowed(t.Context(), cmd("x", tasks.Any()))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		synctest.Wait()
		for range 2 { // started, 0123456789
			if _, err := f.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b.kill(run.Tasks()[0].Worker)
		b.wait(run) // the follower is slow
		var got string
		for {
			e, err := f.Next(t.Context())
			if err == io.EOF {
				break
			}
			got += string(e.Output)
		}
		if got != "aaabbbcccdddeee" {
			t.Errorf("second attempt's output = %q, want all of it", got)
		}
	})
}

func TestCancelEndsTaskWhoseFollowerDoesNotRead(t *testing.T) {
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		for ctx.Err() == nil {
			a.Stdout.Write(make([]byte, 64<<10))
		}
		return stopped(ctx)
	}, func(t *testing.T, b *bench) {
		run, f, err := b.m.SubmitFollowed(t.Context(), cmd("x", tasks.Any()))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		time.Sleep(time.Second)
		run.Cancel(tasks.StopCancel)
		run.Cancel(tasks.StopKill)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := run.Wait(ctx); err != nil {
			t.Errorf("an hour after cancel and kill: %+v, worker %+v", run.Tasks()[0].State, b.workers["w1"].w.Load())
		}
	})
}

// Nobody waits for who wants no output, whether or not he reads.
func TestTasksDoNotWaitForAMuteFollower(t *testing.T) {
	inBubble(t, 1, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
		a.Stdout.Write(make([]byte, 4*wire.Window))
		return ended()
	}, func(t *testing.T, b *bench) {
		run, f, err := b.m.SubmitFollowed(t.Context(), cmd("x", tasks.Any()))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		time.Sleep(time.Second) // it waits by now
		f.Mute()
		b.wait(run)
		var events []EventType
		for {
			e, err := f.Next(t.Context())
			if err == io.EOF {
				break
			}
			events = append(events, e.Type)
		}
		if want := []EventType{EventStarted, EventResult}; !slices.Equal(events, want) {
			t.Errorf("events %v, want %v", events, want)
		}
	})
}

func TestRecallPingPong(t *testing.T) {
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		if a.Task.Argv[0] == "short" {
			return ended()
		}
		time.Sleep(10 * time.Second)
		return ended()
	}, func(t *testing.T, b *bench) {
		b.net.SetDelay(time.Millisecond)
		w2 := b.add("w2", func(ctx context.Context, a *tasks.Attempt) tasks.Outcome { return stopped(ctx) })
		other := b.newHub(nodeID("n"), "n", "10.0.0.101", wire.Config{})
		defer other.Close()
		l, err := other.Connect(t.Context(), w2.id)
		if err != nil {
			t.Fatal(err)
		}
		ids, _ := tasks.NewIDs(nodeID("n"))
		spec := wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}})
		for range 20 { // another master keeps w2 busy
			l.SendOffer(&wire.Offer{Key: wire.Key{Task: ids.Next(), N: 1}, Slots: 1, Spec: spec})
		}
		if _, err := b.hub.Connect(t.Context(), w2.id); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			b.wait(b.submit(cmd("short", tasks.On("w1"))))
		}
		time.Sleep(2 * time.Second) // w2's load arrives
		before := b.m.Stats()
		for range 6 {
			b.submit(cmd("long", tasks.Any()))
		}
		info := w2.info()
		info.Data = []byte(`{}`) // any change makes the master look whether w2 is idle
		b.m.Update(info)
		time.Sleep(5 * time.Second)
		if s := b.m.Stats(); s.Recalled > 20 {
			t.Errorf("%d attempts were taken back and %d made within 5s, for 6 tasks", s.Recalled, s.Attempts-before.Attempts)
		}
	})
}

func TestFetchFailsWithLinkDown(t *testing.T) {
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		o := ended()
		if a.N == 1 {
			o.Outputs = []tasks.OutputFile{{Name: "f", Content: tasks.Content{Blob: fmt.Sprintf("%064d", 1), Size: 1}}}
		}
		return o
	}, func(t *testing.T, b *bench) {
		var run *Run
		b.m.cfg.Fetch = func(ctx context.Context, node string, c *tasks.Content) error {
			time.Sleep(5 * time.Second)
			return errors.New("connection refused")
		}
		run = b.submit(cmd("x", tasks.Any()))
		synctest.Wait()
		b.kill(run.Tasks()[0].Worker)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := run.Wait(ctx); err != nil {
			t.Errorf("an hour later: %+v, and the other worker is idle", run.Tasks()[0].State)
		}
	})
}

func TestCancelDuringAnnounceWait(t *testing.T) {
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome { return ended() }, func(t *testing.T, b *bench) {
		b.m.cfg.Announce = func(tasks.ID, []string) bool { return true } // and the packet is lost
		r1 := b.submit(cmd("x", tasks.On("w1", "w2"), func(o *tasks.Options) { o.Slots = 2 }))
		r2 := b.submit(cmd("y", tasks.On("w1")))
		r1.Cancel(tasks.StopCancel)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := r2.Wait(ctx); err != nil {
			t.Errorf("an hour later: %+v", r2.Tasks()[0].State)
		}
	})
}

func TestQueuedAttemptOfLostMasterStillRuns(t *testing.T) {
	var starts atomic.Int32
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		starts.Add(1)
		time.Sleep(20 * time.Second)
		return ended()
	}, func(t *testing.T, b *bench) {
		w := b.workers["w1"]
		l, err := b.hub.Connect(t.Context(), w.id)
		if err != nil {
			t.Fatal(err)
		}
		ids, _ := tasks.NewIDs(nodeID("m"))
		spec := wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}})
		for range 6 { // as prefetched
			l.SendOffer(&wire.Offer{Key: wire.Key{Task: ids.Next(), N: 1}, Slots: 1, Spec: spec})
		}
		synctest.Wait()
		b.net.Cut(masterHost, w.ip)
		time.Sleep(10 * time.Minute)
		if n := starts.Load(); n > 2 {
			t.Errorf("%d attempts started, 4 of them long after the master had given them up", n)
		}
	})
}

func TestForsakenAttemptIsNotReattached(t *testing.T) {
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		<-ctx.Done()
		time.Sleep(5 * time.Second) // the grace that a process has after SIGTERM
		return stopped(ctx)
	}, func(t *testing.T, b *bench) {
		w := b.workers["w1"]
		run := b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Attempts = 1 }))
		synctest.Wait()
		// The worker's side of the link breaks 3s before the master hears of it.
		for _, l := range w.hub.Links() {
			w.w.LinkDown(l)
		}
		time.Sleep(3100 * time.Millisecond)
		b.net.Reset(masterHost, w.ip)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := run.Wait(ctx); err != nil {
			t.Errorf("an hour later: %s, worker %+v", run.Tasks()[0].State, w.w.Load())
		}
	})
}

func TestSecondResultDoesNotOvertakeOutput(t *testing.T) {
	for range 300 {
		inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			a.Stdout.Write(make([]byte, 250<<10))
			time.Sleep(100 * time.Millisecond)
			return ended()
		}, func(t *testing.T, b *bench) {
			w := b.workers["w1"]
			b.net.SetDelay(10 * time.Millisecond)
			if _, err := b.hub.Connect(t.Context(), w.id); err != nil {
				t.Fatal(err)
			}
			run := b.submit(cmd("x", tasks.Any()))
			time.Sleep(35 * time.Millisecond)
			b.net.Reset(masterHost, w.ip) // while output is on its way; the task ends about when the link is back
			time.Sleep(25 * time.Millisecond)
			b.net.Reset(masterHost, w.ip)
			if r := b.wait(run)[0]; int64(len(r.Stdout)) != r.StdoutBytes {
				t.Fatalf("done with %d of %d bytes", len(r.Stdout), r.StdoutBytes)
			}
		})
	}
}

// A node that was not given an attempt has no say in its task, and who was has
// none in other attempts.
func TestWordsOnAttemptsOfOthersAreDropped(t *testing.T) {
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		time.Sleep(time.Hour) // of the bubble
		o := ended()
		o.Value, o.Encoding = []byte(`"mine"`), tasks.JSON
		return o
	}, func(t *testing.T, b *bench) {
		running := b.submit(cmd("x", tasks.On("w1")))
		waiting := b.submit(cmd("y", tasks.On("w1"), func(o *tasks.Options) { o.Slots = 2 }))
		time.Sleep(10 * time.Millisecond) // of the bubble: workers tell of a start a little later
		synctest.Wait()
		id, queued := running.Tasks()[0].ID, waiting.Tasks()[0].ID
		forged := &tasks.Outcome{Value: []byte(`"forged"`), Encoding: tasks.JSON, Started: time.Now(), Finished: time.Now()}
		for _, c := range []struct {
			name, from string
			key        wire.Key
		}{
			{"no such task", "w1", wire.Key{Task: tasks.ID{1}, N: 1}},
			{"another's attempt", "w2", wire.Key{Task: id, N: 1}},
			{"attempt 0 of another's", "w2", wire.Key{Task: id}},
			{"attempt 0", "w1", wire.Key{Task: id}},
			{"the next attempt", "w1", wire.Key{Task: id, N: 2}},
			{"the last attempt", "w1", wire.Key{Task: id, N: 1<<32 - 1}},
			{"the next attempt of another's", "w2", wire.Key{Task: id, N: 2}},
			{"a task that waits", "w1", wire.Key{Task: queued}},
			{"a task that waits for another", "w2", wire.Key{Task: queued}},
			{"the first attempt of a task that waits", "w1", wire.Key{Task: queued, N: 1}},
		} {
			l, err := b.workers[c.from].hub.Connect(t.Context(), nodeID("m"))
			if err != nil {
				t.Fatal(err)
			}
			before := b.m.Stats()
			sendResult(l, c.key, forged)
			l.SendOutput(c.key, wire.Stdout, []byte("forged"))
			l.SendReject(c.key, tasks.Refused, "forged")
			l.SendGivenBack([]wire.Key{c.key})
			l.SendState([]wire.AttemptState{{Key: c.key, State: wire.Unknown}})
			l.SendAccept(c.key, false)
			l.SendStarted(c.key)
			synctest.Wait()
			if after := b.m.Stats(); after != before {
				t.Errorf("%s: the counters were %+v and are %+v", c.name, before, after)
			}
			if r := running.Tasks()[0]; r.State != tasks.StateRunning || r.Attempt != 1 || r.Worker != "w1" {
				t.Errorf("%s: the task that ran is %+v", c.name, r)
			}
			if r := waiting.Tasks()[0]; r.State != tasks.StateQueued || r.Attempt != 0 {
				t.Errorf("%s: the task that waited is %+v", c.name, r)
			}
		}
		time.Sleep(2 * time.Hour)
		for _, r := range append(b.wait(running), b.wait(waiting)...) {
			if r.State != tasks.StateDone || string(r.Value) != `"mine"` || len(r.Stdout) > 0 || r.Attempt != 1 {
				t.Errorf("ended as %+v, want its own worker's word", r)
			}
		}
	})
}

// A follower that reads while the next attempt goes into the journal is given nothing of
// the one before as if it were of that one, and all that that one writes.
func TestAFollowerThatHasReadPartOfALostAttempt(t *testing.T) {
	lazily(t, func(t *testing.T, b *bench) {
		defer func() {
			for range 5 {
				b.lazy.pass()
				time.Sleep(time.Second)
			}
		}()
		more := make(chan struct{})
		for i := range 2 {
			b.add(fmt.Sprintf("w%d", i+1), func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
				if a.N == 1 {
					io.WriteString(a.Stdout, "first")
					<-more
					io.WriteString(a.Stdout, "lost")
					return stopped(ctx)
				}
				io.WriteString(a.Stdout, "of the second")
				return ended()
			})
		}
		var f *Follower
		got := make(chan error, 1)
		var run *Run
		go func() {
			var err error
			run, f, err = b.m.SubmitFollowed(t.Context(), cmd("x", tasks.Any()))
			got <- err
		}()
		for range 3 { // the run, the attempt
			synctest.Wait()
			b.lazy.pass()
			time.Sleep(time.Second)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range 2 { // started, first
			if _, err := f.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		close(more)
		time.Sleep(time.Second) // it has written on, and nobody has read that
		b.kill(run.Tasks()[0].Worker)
		time.Sleep(time.Second) // the second attempt waits for the disk
		read := func(ctx context.Context, f *Follower, out *strings.Builder) error {
			for {
				e, err := f.Next(ctx)
				if err != nil {
					return err
				}
				if e.Type == EventAgain {
					out.Reset()
				}
				out.Write(e.Output)
			}
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		var early, late strings.Builder
		read(over, f, &early)
		f2, err := b.m.Follow(run.ID())
		if err != nil {
			t.Fatal(err)
		}
		defer f2.Close()
		read(over, f2, &late)
		for range 5 {
			b.lazy.pass()
			time.Sleep(time.Second)
		}
		if err := read(t.Context(), f, &early); err != io.EOF || early.String() != "of the second" {
			t.Errorf("the follower was given %q of the second attempt, and then %v; want all of it, and EOF", early.String(), err)
		}
		if err := read(t.Context(), f2, &late); err != io.EOF || late.String() != "of the second" {
			t.Errorf("one that came later was given %q, and then %v; want all of the second attempt, and EOF", late.String(), err)
		}
	})
}

// What SubmitMany has not accepted yet is nobody's business: neither that of Close, nor of
// who cancels what is listed, nor of the audit.
func TestTasksThatWaitToBeAcceptedAreLeftAlone(t *testing.T) {
	for name, meanwhile := range map[string]func(b *bench){
		"close": func(b *bench) { b.m.Close() },
		"cancel": func(b *bench) {
			for _, r := range b.m.List(tasks.ID{}, nil, 10) {
				b.m.Cancel(r.ID, tasks.StopCancel)
			}
		},
		"audit": func(b *bench) { time.Sleep(3 * auditInterval) },
	} {
		t.Run(name, func(t *testing.T) {
			var c tally
			inBubble(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
				wait := func(o *tasks.Options) { o.WaitWorkers = time.Minute }
				done := make(chan error, 1)
				go func() {
					_, err := b.m.SubmitMany(t.Context(), []tasks.Submission{cmd("a", tasks.Any()), cmd("b", tasks.On("w9"), wait)})
					done <- err
				}()
				synctest.Wait()
				meanwhile(b)
				if err := <-done; !errors.Is(err, ErrClosed) && !errors.Is(err, tasks.ErrNoMatch) {
					t.Errorf("SubmitMany = %v, want ErrClosed or ErrNoMatch", err)
				}
				if s := b.m.Stats(); s.Open != 0 || s.Attempts != 0 || s.Stuck != 0 {
					t.Errorf("stats %+v, want none open, tried or stuck", s)
				}
				b.m.mu.Lock()
				defer b.m.mu.Unlock()
				for k, c := range b.m.classes {
					if c.tasks != 0 {
						t.Errorf("class %+v has %d tasks, want none", k, c.tasks)
					}
				}
			})
		})
	}
}

// Members can be heard of before there can be links: that a worker cannot be reached then
// says nothing of what it runs.
func TestNothingIsLostBeforeThereAreLinks(t *testing.T) {
	var c tally
	durably(t, 2, c.run(20*time.Second), func(t *testing.T, b *bench) {
		w1 := b.workers["w1"].info()
		ids := b.submitMany(1, tasks.On("w1"), func(o *tasks.Options) { o.Attempts = 1 })
		time.Sleep(time.Second)
		w1.Available = false
		b.m.Update(w1)
		ids = append(ids, b.submitMany(3, tasks.Any())...) // the last waits for w2, which is full
		time.Sleep(time.Second)
		b.killMaster()
		b.makeMaster()
		w1.Available = true
		b.m.Update(w1) // it could have that one
		b.m.Update(b.workers["w2"].info())
		time.Sleep(100 * time.Millisecond)
		b.linkMaster()
		for i, r := range b.awaitFinal(ids) {
			if r.State != tasks.StateDone || c.of(r.ID) != 1 {
				t.Errorf("task %d: %s (%s) after %d starts, want done after one", i, r.State, r.Text, c.of(r.ID))
			}
		}
		if s := b.m.Stats(); s.LostAttempts != 0 {
			t.Errorf("%d attempts were lost, want none", s.LostAttempts)
		}
	})
}

// What is dropped before it started is so after a restart too, when that is answered.
func TestDropIsAnsweredWhenItIsOnDisk(t *testing.T) {
	lazily(t, func(t *testing.T, b *bench) {
		defer func() { b.lazy.pass() }()
		var c tally
		b.add("w1", c.run(time.Hour))
		var runs []*Run
		go func() {
			for range 3 { // the third waits
				runs = append(runs, b.submit(cmd("x", tasks.Any())))
			}
		}()
		for range 6 {
			synctest.Wait()
			b.lazy.pass()
			time.Sleep(time.Second)
		}
		dropped := make(chan error, 1)
		go func() {
			_, err := b.m.Drop(runs[2].ID())
			dropped <- err
		}()
		synctest.Wait()
		select {
		case err := <-dropped:
			t.Errorf("Drop = %v while nothing of it is on disk", err)
			dropped <- err
		default:
		}
		b.lazy.pass()
		if err := <-dropped; err != nil {
			t.Error(err)
		}
		b.wait(runs[2])
	})
}

// A late result that does not count is forgotten by its worker when the attempt that is made
// in its place is on disk.
func TestALateResultIsAcknowledgedWhenTheNextAttemptIsOnDisk(t *testing.T) {
	lazily(t, func(t *testing.T, b *bench) {
		defer func() { b.lazy.pass() }()
		w1 := b.add("w1", func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			time.Sleep(5 * time.Second)
			return tasks.Outcome{Code: tasks.Exit, Exit: 1}
		})
		go b.submit(cmd("x", tasks.Any()))
		for range 2 { // the run, its attempt
			synctest.Wait()
			b.lazy.pass()
			time.Sleep(time.Second)
		}
		b.net.Cut(masterHost, w1.ip)
		b.add("w2", func(ctx context.Context, _ *tasks.Attempt) tasks.Outcome { return stopped(ctx) })
		time.Sleep(8 * time.Second) // the attempt is lost, and the next one is to be recorded
		b.net.Heal(masterHost, w1.ip)
		if _, err := w1.hub.Connect(t.Context(), nodeID("m")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // acks travel with the next ping
		if n := w1.w.Outcomes(); n != 1 {
			t.Errorf("the worker has %d outcomes while nothing is on disk of the next attempt, want 1", n)
		}
		b.lazy.pass()
		time.Sleep(3 * time.Second)
		if n := w1.w.Outcomes(); n != 0 {
			t.Errorf("the worker has %d outcomes when that is on disk, want none", n)
		}
	})
}
