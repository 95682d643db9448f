package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
)

func TestTaskRunsOnOneWorkerAndItsResultComesBack(t *testing.T) {
	inBubble(t, 2, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
		fmt.Fprint(a.Stdout, "out ")
		fmt.Fprint(a.Stderr, "err ")
		o := ended()
		o.Code, o.Exit = tasks.Exit, 7
		return o
	}, func(t *testing.T, b *bench) {
		r := b.wait(b.submit(cmd("x", tasks.Any())))[0]
		if r.State != tasks.StateFailed || r.Exit != 7 || string(r.Stdout) != "out " || string(r.Stderr) != "err " || r.Attempt != 1 || r.Worker == "" {
			t.Errorf("result = %+v, want failed with exit 7, its output, attempt 1, a worker", r)
		}
		var re *tasks.RunError
		if err := r.Err(); !errors.As(err, &re) || !errors.Is(err, tasks.ErrFailed) || re.Exit != 7 {
			t.Errorf("Err() = %v, want a RunError that wraps ErrFailed with exit 7", err)
		}
	})
}

func TestTasksWaitAtTheMasterUntilAWorkerHasASlot(t *testing.T) {
	var running, peak atomic.Int32
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		n := running.Add(1)
		defer running.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		time.Sleep(time.Second) // of the bubble: what the task does
		return ended()
	}, func(t *testing.T, b *bench) {
		start := time.Now()
		var runs []*Run
		for range 20 {
			runs = append(runs, b.submit(cmd("x", tasks.Any())))
		}
		for _, r := range runs {
			if res := b.wait(r)[0]; res.State != tasks.StateDone {
				t.Fatalf("result = %+v", res)
			}
		}
		if peak.Load() != 4 {
			t.Errorf("at most %d tasks ran at once, want 4: two slots on each of two workers", peak.Load())
		}
		if d := time.Since(start); d > 5100*time.Millisecond {
			t.Errorf("20 tasks of 1s on 4 slots took %v, want 5s and little more", d)
		}
	})
}

func TestTasksOfAKilledWorkerRunElsewhereWithinASecond(t *testing.T) {
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		if a.N == 1 {
			fmt.Fprintln(a.Stdout, "half")
			return stopped(ctx)
		}
		fmt.Fprintln(a.Stdout, "whole")
		return ended()
	}, func(t *testing.T, b *bench) {
		run := b.submit(cmd("x", tasks.Any()))
		synctest.Wait()
		first := run.Tasks()[0].Worker
		killed := time.Now()
		b.kill(first)
		r := b.wait(run)[0]
		if r.State != tasks.StateDone || r.Worker == first || r.Attempt != 2 || string(r.Stdout) != "whole\n" {
			t.Errorf("result = %+v, want done by the other worker in attempt 2, with that attempt's output", r)
		}
		if d := time.Since(killed); d > time.Second {
			t.Errorf("ran elsewhere after %v, want within 1s", d)
		}
	})
}

func TestWorkerWithoutPowerLosesItsTasksAfterTheLease(t *testing.T) {
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		if a.N == 1 {
			return stopped(ctx)
		}
		return ended()
	}, func(t *testing.T, b *bench) {
		run := b.submit(cmd("x", tasks.Any()))
		synctest.Wait()
		first := run.Tasks()[0].Worker
		cut := time.Now()
		b.net.Cut(masterHost, b.workers[first].ip)
		r := b.wait(run)[0]
		if d := time.Since(cut); r.State != tasks.StateDone || r.Worker == first || d < 2*time.Second || d > 6*time.Second {
			t.Errorf("result = %+v after %v, want done elsewhere after the lease of 3s", r, d)
		}
	})
}

func TestResetWithBothEndsAliveRunsTheTaskOnceAndLosesNoOutput(t *testing.T) {
	var starts atomic.Int32
	const lines = 3000
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		starts.Add(1)
		for i := range lines {
			fmt.Fprintf(a.Stdout, "%d %s\n", i, strings.Repeat("x", 500))
			if i%100 == 0 {
				time.Sleep(10 * time.Millisecond) // of the bubble
			}
		}
		return ended()
	}, func(t *testing.T, b *bench) {
		run, f, err := b.m.SubmitFollowed(t.Context(), cmd("x", tasks.Any()))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for range 12 {
				time.Sleep(23 * time.Millisecond) // of the bubble
				b.net.Reset(masterHost, b.workers["w1"].ip)
			}
		})
		var got bytes.Buffer
		for {
			e, err := f.Next(t.Context())
			if err == io.EOF {
				break
			}
			if err != nil || e.Type == EventAgain {
				t.Fatalf("event %+v, err %v; want no second start", e, err)
			}
			got.Write(e.Output)
		}
		for i := range lines {
			line, err := got.ReadString('\n')
			if want := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 500)); err != nil || line != want {
				t.Fatalf("line %d = %.40q, %v; want %.40q", i, line, err, want)
			}
		}
		if r := b.wait(run)[0]; starts.Load() != 1 || r.State != tasks.StateDone || r.Attempt != 1 {
			t.Errorf("%d starts, result %+v; want one start, done", starts.Load(), r)
		}
	})
}

func TestAtMostOnceTaskIsNeverStartedTwice(t *testing.T) {
	var starts atomic.Int32
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		starts.Add(1)
		return stopped(ctx)
	}, func(t *testing.T, b *bench) {
		run := b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Attempts = 1 }))
		synctest.Wait()
		b.kill(run.Tasks()[0].Worker)
		r := b.wait(run)[0]
		if r.State != tasks.StateLost || r.Code != tasks.Lost || !errors.Is(r.Err(), tasks.ErrOutcomeUnknown) || starts.Load() != 1 {
			t.Errorf("%d starts, result %+v; want one start, lost, outcome unknown", starts.Load(), r)
		}
	})
}

func TestFailedTaskIsRunAgainOnlyWhenAsked(t *testing.T) {
	for _, retry := range []int{0, 2} {
		t.Run(fmt.Sprintf("retry=%d", retry), func(t *testing.T) {
			var starts atomic.Int32
			inBubble(t, 1, func(context.Context, *tasks.Attempt) tasks.Outcome {
				starts.Add(1)
				return tasks.Outcome{Code: tasks.Exit, Exit: 1}
			}, func(t *testing.T, b *bench) {
				r := b.wait(b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Retry = retry })))[0]
				if int(starts.Load()) != retry+1 || r.State != tasks.StateFailed || int(r.Attempt) != retry+1 {
					t.Errorf("%d starts, result %+v; want %d starts, failed", starts.Load(), r, retry+1)
				}
			})
		})
	}
}

func TestTargetDecidesWhoRuns(t *testing.T) {
	for _, c := range []struct {
		name   string
		target tasks.Target
		want   string // names, sorted
	}{
		{"all", tasks.All(), "w1 w2 w3"},
		{"named", tasks.On("w2", "w3"), "w2 w3"},
		{"named twice", tasks.On("w2", "w2"), "w2"},
		{"by id", tasks.On(nodeID("w1")), "w1"},
		{"query", tasks.Where(`name != "w2"`), "w1 w3"},
		{"all but one", tasks.Target{All: true, Except: []string{"w1"}}, "w2 w3"},
		{"preferred", tasks.Target{Prefer: `name == "w3"`}, "w3"},
		{"one of a query", tasks.Target{Where: `name == "w2"`, N: 1}, "w2"},
		{"as many as there are", tasks.Target{N: 7}, "w1 w2 w3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 3, func(context.Context, *tasks.Attempt) tasks.Outcome { return ended() }, func(t *testing.T, b *bench) {
				var names []string
				for _, r := range b.wait(b.submit(cmd("x", c.target))) {
					if r.State != tasks.StateDone {
						t.Errorf("result %+v, want done", r)
					}
					names = append(names, r.Worker)
				}
				if got := sorted(names); got != c.want {
					t.Errorf("ran on %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestTasksForNWorkersRunOnDifferentOnes(t *testing.T) {
	inBubble(t, 3, func(context.Context, *tasks.Attempt) tasks.Outcome {
		time.Sleep(time.Second) // of the bubble
		return ended()
	}, func(t *testing.T, b *bench) {
		rs := b.wait(b.submit(cmd("x", tasks.Target{N: 2})))
		if len(rs) != 2 || rs[0].Worker == rs[1].Worker {
			t.Errorf("results %+v, want two from different workers", rs)
		}
	})
}

func TestSubmissionThatMatchesNobodySaysWhy(t *testing.T) {
	for _, c := range []struct {
		name   string
		target tasks.Target
		task   tasks.Task
		is     error
		want   string
	}{
		{"query", tasks.Where(`data.gpu == "a100"`), tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}, tasks.ErrNoMatch, "0 of 2 workers match: 2 have no data.gpu"},
		{"name", tasks.On("ghost"), tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}, tasks.ErrNoMatch, `no worker is named "ghost"; there are w1, w2`},
		{"function", tasks.Any(), tasks.Task{Kind: tasks.Function, Name: "g"}, tasks.ErrNoMatch, `0 of 2 workers match: 2 are without function "g"`},
		{"malformed query", tasks.Where(`data.gpu ==`), tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}, tasks.ErrBadTarget, "where:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 2, nil, func(t *testing.T, b *bench) {
				s := tasks.Submission{Task: c.task, Target: c.target, Options: tasks.DefaultOptions()}
				_, err := b.m.Submit(t.Context(), s)
				if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("Submit = %v, want one line with %q", err, c.want)
				}
				if b.m.Stats().Submitted != 0 {
					t.Error("something was submitted all the same")
				}
			})
		})
	}
}

func TestSubmissionWaitsForTheFirstWorker(t *testing.T) {
	inBubble(t, 0, nil, func(t *testing.T, b *bench) {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			time.Sleep(5 * time.Second) // of the bubble
			b.add("w1", func(context.Context, *tasks.Attempt) tasks.Outcome { return ended() })
		})
		if r := b.wait(b.submit(cmd("x", tasks.Any())))[0]; r.Worker != "w1" {
			t.Errorf("result %+v, want done by w1, which came later", r)
		}
	})
}

func TestNamedWorkerThatCannotBeReachedIsSaidSo(t *testing.T) {
	inBubble(t, 2, func(context.Context, *tasks.Attempt) tasks.Outcome { return ended() }, func(t *testing.T, b *bench) {
		b.kill("w1")
		start := time.Now()
		rs := b.wait(b.submit(cmd("x", tasks.On("w1", "w2"))))
		if rs[0].State != tasks.StateLost || rs[0].Code != tasks.NeverReached || !errors.Is(rs[0].Err(), tasks.ErrNeverStarted) || rs[0].Attempt != 0 {
			t.Errorf("result %+v, want never reached, no attempt", rs[0])
		}
		if rs[1].State != tasks.StateDone {
			t.Errorf("result %+v, want done", rs[1])
		}
		if d := time.Since(start); d > 8*time.Second {
			t.Errorf("took %v, want about the 5s of ReachTimeout", d)
		}
	})
}

func TestCancelEndsQueuedAndRunningTasks(t *testing.T) {
	var stops atomic.Int32
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		o := stopped(ctx)
		var why *tasks.StopError
		if errors.As(context.Cause(ctx), &why) && why.Reason == tasks.StopInterrupt {
			stops.Add(1)
		}
		return o
	}, func(t *testing.T, b *bench) {
		var runs []*Run
		for range 5 {
			runs = append(runs, b.submit(cmd("x", tasks.Any())))
		}
		synctest.Wait()
		for _, r := range slices.Backward(runs) { // the queued ones first, or they would start
			r.Cancel(tasks.StopInterrupt)
		}
		for i, r := range runs {
			if res := b.wait(r)[0]; res.State != tasks.StateCancelled {
				t.Errorf("task %d: %+v, want cancelled", i, res)
			}
		}
		if stops.Load() != 2 {
			t.Errorf("%d attempts were interrupted, want the 2 that ran", stops.Load())
		}
	})
}

func TestReaderThatStopsReadingStopsItsTaskAndNoOther(t *testing.T) {
	var wrote atomic.Int64
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		if a.Task.Argv[0] == "quick" {
			return ended()
		}
		chunk := make([]byte, 64<<10)
		for range 160 { // 10 MiB
			a.Stdout.Write(chunk)
			wrote.Add(int64(len(chunk)))
		}
		return ended()
	}, func(t *testing.T, b *bench) {
		_, f, err := b.m.SubmitFollowed(t.Context(), cmd("flood", tasks.Any()))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		time.Sleep(10 * time.Second) // of the bubble
		if n := wrote.Load(); n > 1<<20 {
			t.Errorf("the task wrote %d bytes that nobody read, want less than 1 MiB", n)
		}
		if r := b.wait(b.submit(cmd("quick", tasks.Any())))[0]; r.State != tasks.StateDone {
			t.Errorf("another task: %+v, want done", r)
		}
		var got int
		for {
			e, err := f.Next(t.Context())
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			got += len(e.Output)
			if e.Type == EventResult && (len(e.Result.Stdout) != keptHeadBytes+keptTailBytes || e.Result.StdoutCut != 10<<20-keptHeadBytes-keptTailBytes) {
				t.Errorf("kept %d bytes and cut %d, want %d kept and the rest cut", len(e.Result.Stdout), e.Result.StdoutCut, keptHeadBytes+keptTailBytes)
			}
		}
		if got != 10<<20 {
			t.Errorf("the reader got %d bytes, want all 10 MiB", got)
		}
	})
}

func TestOutputThatNobodyFollowsNeverStopsATask(t *testing.T) {
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		for range 160 {
			a.Stdout.Write(make([]byte, 64<<10))
		}
		return ended()
	}, func(t *testing.T, b *bench) {
		if r := b.wait(b.submit(cmd("flood", tasks.Any())))[0]; r.State != tasks.StateDone || r.StdoutBytes != 10<<20 {
			t.Errorf("result %+v, want done with 10 MiB written", r.Outcome)
		}
	})
}

func TestLargerPriorityGoesFirst(t *testing.T) {
	var mu sync.Mutex
	var order []string
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		mu.Lock()
		order = append(order, a.Task.Argv[0])
		mu.Unlock()
		time.Sleep(time.Second) // of the bubble
		return ended()
	}, func(t *testing.T, b *bench) {
		var runs []*Run
		for i, p := range []int{0, 0, 0, 0, 5, 5, -1, 0} {
			runs = append(runs, b.submit(cmd(fmt.Sprintf("%d/%d", p, i), tasks.Any(), func(o *tasks.Options) { o.Priority, o.Slots = p, 2 })))
		}
		for _, r := range runs {
			b.wait(r)
		}
		var prios []string
		for _, o := range order[1:] { // the first found the slots free
			prios = append(prios, o[:strings.Index(o, "/")])
		}
		if got, want := strings.Join(prios, " "), "5 5 0 0 0 0 -1"; got != want {
			t.Errorf("order of priorities = %q, want %q", got, want)
		}
	})
}

func TestWorkNotStartedIsTakenBackForAnIdleWorker(t *testing.T) {
	inBubble(t, 1, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
		if a.Task.Argv[0] == "short" {
			return ended()
		}
		time.Sleep(10 * time.Second) // of the bubble
		return ended()
	}, func(t *testing.T, b *bench) {
		for range 10 { // makes the worker look quick, so that it is sent ahead
			b.wait(b.submit(cmd("short", tasks.Any())))
		}
		start := time.Now()
		var runs []*Run
		for range 8 {
			runs = append(runs, b.submit(cmd("long", tasks.Any())))
		}
		synctest.Wait()
		b.add("w2", func(context.Context, *tasks.Attempt) tasks.Outcome {
			time.Sleep(10 * time.Second) // of the bubble
			return ended()
		})
		for _, r := range runs {
			b.wait(r)
		}
		if d := time.Since(start); d > 21*time.Second {
			t.Errorf("8 tasks of 10s on 4 slots took %v, want 20s", d)
		}
		if b.m.Stats().Recalled == 0 {
			t.Error("nothing was taken back, so this test shows nothing")
		}
	})
}

func TestUnavailableWorkerGetsTasksByNameAndForceOnly(t *testing.T) {
	inBubble(t, 1, func(context.Context, *tasks.Attempt) tasks.Outcome { return ended() }, func(t *testing.T, b *bench) {
		info := b.workers["w1"].info()
		info.Available = false
		b.m.Update(info)
		for _, target := range []tasks.Target{tasks.Any(), tasks.All(), tasks.On("w1")} {
			s := cmd("x", target, func(o *tasks.Options) { o.WaitWorkers = 0 })
			if _, err := b.m.Submit(t.Context(), s); !errors.Is(err, tasks.ErrNoMatch) || !strings.Contains(err.Error(), "unavailable") {
				t.Errorf("Submit(%+v) = %v, want no match because it is unavailable", target, err)
			}
		}
		if r := b.wait(b.submit(cmd("x", tasks.Target{On: []string{"w1"}, Force: true})))[0]; r.State != tasks.StateDone {
			t.Errorf("forced: %+v, want done", r)
		}
	})
}

func TestEndedTasksAreForgottenWhenTheyAreTooMany(t *testing.T) {
	inBubble(t, 1, func(context.Context, *tasks.Attempt) tasks.Outcome { return ended() }, func(t *testing.T, b *bench) {
		b.m.cfg.MaxKept = 3
		var runs []*Run
		for range 5 {
			r := b.submit(cmd("x", tasks.Any()))
			b.wait(r)
			runs = append(runs, r)
		}
		if n := len(b.m.List(tasks.ID{}, nil, 100)); n != 3 {
			t.Errorf("%d tasks are kept, want 3", n)
		}
		if _, err := b.m.Run(runs[0].ID()); !errors.Is(err, tasks.ErrUnknown) {
			t.Errorf("Run(oldest) = %v, want ErrUnknown", err)
		}
		if _, err := b.m.Task(runs[4].Tasks()[0].ID); err != nil {
			t.Errorf("Task(newest) = %v, want it", err)
		}
	})
}

func sorted(names []string) string {
	for i := range names {
		for j := range i {
			if names[i] < names[j] {
				names[i], names[j] = names[j], names[i]
			}
		}
	}
	return strings.Join(names, " ")
}
