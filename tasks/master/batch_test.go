package master

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

func echoRunner(_ context.Context, a *tasks.Attempt) tasks.Outcome {
	time.Sleep(time.Second) // of the bubble
	io.WriteString(a.Stdout, a.Task.Argv[0])
	return ended()
}

func add(t *testing.T, b *Batch, what string) tasks.ID {
	t.Helper()
	id, err := b.Add(t.Context(), &tasks.Task{Kind: tasks.Command, Argv: []string{what}})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestBatchRunsWhatIsAddedAndGivesEachResultOnce(t *testing.T) {
	inBubble(t, 2, echoRunner, func(t *testing.T, b *bench) {
		batch, err := b.m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 0)
		if err != nil {
			t.Fatal(err)
		}
		added := map[tasks.ID]string{}
		for i := range 10 {
			what := string(rune('a' + i))
			added[add(t, batch, what)] = what
		}
		if n := len(batch.Tasks()); n != 10 {
			t.Errorf("%d tasks are known, want 10", n)
		}
		var got []int
		for r := range batch.Results(t.Context()) {
			if r.State != tasks.StateDone || string(r.Stdout) != added[r.ID] {
				t.Errorf("%+v, want %q", r, added[r.ID])
			}
			if got = append(got, r.Index); len(got) == 10 {
				added[add(t, batch, "k")] = "k"
				batch.Seal()
				batch.Seal()
			}
		}
		slices.Sort(got)
		if len(got) != 11 || got[0] != 0 || got[10] != 10 {
			t.Errorf("results of tasks %v, want each of 11 once", got)
		}
		if _, err := batch.Add(t.Context(), &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}); !errors.Is(err, tasks.ErrSealed) {
			t.Errorf("one more: %v, want ErrSealed", err)
		}
	})
}

func TestBatchWaitsUntilResultsAreTaken(t *testing.T) {
	inBubble(t, 1, echoRunner, func(t *testing.T, b *bench) {
		batch, err := b.m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 3)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			add(t, batch, "x")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := batch.Add(ctx, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a fourth, whose result nobody takes: %v, want the end of the context", err)
		}
		next := make(chan struct{})
		go func() {
			defer close(next)
			add(t, batch, "y")
			batch.Seal()
		}()
		n := 0
		for range batch.Results(t.Context()) {
			n++
		}
		<-next
		if n != 4 {
			t.Errorf("%d results, want 4", n)
		}
	})
}

func TestBatchIsFollowed(t *testing.T) {
	inBubble(t, 2, echoRunner, func(t *testing.T, b *bench) {
		for _, ephemeral := range []bool{false, true} {
			opt := tasks.DefaultOptions()
			opt.Ephemeral = ephemeral
			batch, f, err := b.m.OpenBatchFollowed(tasks.Any(), opt, 3)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for i := range 20 { // more than may be open: the follower takes them
					add(t, batch, string(rune('a'+i)))
				}
				time.Sleep(time.Minute) // all have ended, and more may come
				batch.Seal()
			}()
			output := map[int]string{}
			var events []EventType
			for {
				e, err := f.Next(t.Context())
				if err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if e.Index == 7 {
					events = append(events, e.Type)
				}
				if e.Type == EventOutput && e.Stream == wire.Stdout {
					output[e.Index] += string(e.Output)
				}
			}
			f.Close()
			for i := range 20 {
				if want := string(rune('a' + i)); output[i] != want {
					t.Errorf("task %d wrote %q, want %q", i, output[i], want)
				}
			}
			if want := []EventType{EventStarted, EventOutput, EventResult}; !slices.Equal(events, want) {
				t.Errorf("events of a task are %v, want %v", events, want)
			}
			if n := len(f.cursors); n != 0 {
				t.Errorf("the follower still has %d tasks", n)
			}
		}
	})
}

func TestFollowerOfABatchThatIsClosedLetsItGoOn(t *testing.T) {
	inBubble(t, 1, echoRunner, func(t *testing.T, b *bench) {
		batch, f, err := b.m.OpenBatchFollowed(tasks.Any(), tasks.DefaultOptions(), 2)
		if err != nil {
			t.Fatal(err)
		}
		add(t, batch, "a")
		add(t, batch, "b")
		time.Sleep(time.Minute)
		f.Close()
		add(t, batch, "c")
		batch.Seal()
		var got []int
		for r := range batch.Results(t.Context()) {
			got = append(got, r.Index)
		}
		if len(got) != 1 || got[0] != 2 {
			t.Errorf("results of %v, want of the one that ended after the follower was closed", got)
		}
	})
}

func TestBatchGoesToThoseThatItsTargetAllows(t *testing.T) {
	inBubble(t, 3, echoRunner, func(t *testing.T, b *bench) {
		for _, c := range []struct {
			target tasks.Target
			want   []string
		}{
			{tasks.On("w1", "w3"), []string{"w1", "w3"}},
			{tasks.Target{Where: `name != "w1"`}, []string{"w2", "w3"}},
			{tasks.All(), []string{"w1", "w2", "w3"}},
		} {
			batch, err := b.m.OpenBatch(c.target, tasks.DefaultOptions(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for range 12 {
				add(t, batch, "x")
			}
			batch.Seal()
			seen := map[string]bool{}
			for r := range batch.Results(t.Context()) {
				seen[r.Worker] = true
			}
			if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, c.want) {
				t.Errorf("%+v went to %v, want %v", c.target, got, c.want)
			}
		}
		for _, c := range []struct {
			target tasks.Target
			limit  int
			want   error
		}{
			{tasks.Target{N: 2}, 0, tasks.ErrBadTarget},
			{tasks.Any(), -1, tasks.ErrBadOptions},
			{tasks.Any(), MaxBatchLimit + 1, tasks.ErrBadOptions},
		} {
			if _, err := b.m.OpenBatch(c.target, tasks.DefaultOptions(), c.limit); !errors.Is(err, c.want) {
				t.Errorf("%+v, limit %d: %v, want %v", c.target, c.limit, err, c.want)
			}
		}
		opt := tasks.DefaultOptions()
		opt.WaitWorkers = time.Second
		batch, err := b.m.OpenBatch(tasks.On("w9"), opt, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := batch.Add(t.Context(), &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}); !errors.Is(err, tasks.ErrNoMatch) {
			t.Errorf("for a worker that is not there: %v, want ErrNoMatch", err)
		}
		batch.Seal()
	})
}

func TestBatchIsCancelledAndClosed(t *testing.T) {
	inBubble(t, 1, func(ctx context.Context, _ *tasks.Attempt) tasks.Outcome { return stopped(ctx) }, func(t *testing.T, b *bench) {
		batch, err := b.m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 5)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			add(t, batch, "x")
		}
		one, err := b.m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 1)
		if err != nil {
			t.Fatal(err)
		}
		add(t, one, "x")
		waits := make(chan error, 2)
		wait := func(batch *Batch) {
			_, err := batch.Add(t.Context(), &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}})
			waits <- err
		}
		go wait(batch)
		synctest.Wait()
		if n, err := b.m.Cancel(batch.ID(), tasks.StopCancel); n != 5 || err != nil {
			t.Errorf("cancelled %d, %v; want 5", n, err)
		}
		if err := <-waits; !errors.Is(err, tasks.ErrSealed) {
			t.Errorf("whoever waited for room in what was cancelled: %v, want ErrSealed", err)
		}
		go wait(one)
		synctest.Wait()
		b.m.Close()
		if err := <-waits; !errors.Is(err, ErrClosed) {
			t.Errorf("whoever waited for room in what was closed: %v, want ErrClosed", err)
		}
		n := 0
		for r := range batch.Results(t.Context()) {
			n++
			if r.State != tasks.StateCancelled {
				t.Errorf("%+v, want cancelled", r)
			}
		}
		if n != 5 {
			t.Errorf("%d results, want 5", n)
		}
	})
}

func TestDropLeavesWhatRuns(t *testing.T) {
	release := make(chan struct{})
	inBubble(t, 2, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
		<-release
		return tasks.Outcome{Code: tasks.Exit, Exit: 1}
	}, func(t *testing.T, b *bench) {
		opt := tasks.DefaultOptions()
		opt.Retry = 5
		for _, attempts := range []int{1, 3} {
			opt.Attempts = attempts
			release = make(chan struct{})
			batch, err := b.m.OpenBatch(tasks.Any(), opt, 0)
			if err != nil {
				t.Fatal(err)
			}
			for range 100 {
				add(t, batch, "x")
			}
			time.Sleep(time.Second) // four run, and others may have been sent ahead
			if n, err := b.m.Drop(batch.ID()); err != nil || n != 96 {
				t.Errorf("dropped %d, %v; want 96", n, err)
			}
			if _, err := batch.Add(t.Context(), &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}); !errors.Is(err, tasks.ErrSealed) {
				t.Errorf("one more: %v, want ErrSealed", err)
			}
			close(release)
			count := map[tasks.State]int{}
			for r := range batch.Results(t.Context()) {
				count[r.State]++
				if r.State == tasks.StateCancelled && r.Attempt != 0 {
					t.Errorf("%+v was dropped, and had started", r)
				}
			}
			if count[tasks.StateFailed] != 4 || count[tasks.StateCancelled] != 96 {
				t.Errorf("tasks ended as %v, want 4 failed, and not run again, and 96 cancelled", count)
			}
		}
		if _, err := b.m.Drop(tasks.ID{}); !errors.Is(err, tasks.ErrUnknown) {
			t.Errorf("no run: %v, want ErrUnknown", err)
		}
	})
}

func TestBatchHoldsContentsUntilItIsSealed(t *testing.T) {
	inBubble(t, 1, echoRunner, func(t *testing.T, b *bench) {
		holds := map[string]int{}
		b.m.cfg.Hold = func(c *tasks.Content) { holds[c.Blob]++ }
		b.m.cfg.Release = func(c *tasks.Content) { holds[c.Blob]-- }
		batch, err := b.m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 0)
		if err != nil {
			t.Fatal(err)
		}
		blob := strings.Repeat("a", 64)
		batch.Hold(&tasks.Task{Inputs: []tasks.Input{{Name: "x", Content: tasks.Content{Blob: blob, Size: 1}}, {Name: "y"}}})
		if holds[blob] != 1 || len(holds) != 1 {
			t.Errorf("holds are %v, want one of %s", holds, blob)
		}
		batch.Seal()
		batch.Seal()
		batch.Hold(&tasks.Task{Stdin: &tasks.Content{Blob: blob}})
		if holds[blob] != 0 {
			t.Errorf("holds are %v, want none any more", holds)
		}
	})
}

func TestBatchIndexOfTheCallersChoice(t *testing.T) {
	inBubble(t, 1, func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
		return tasks.Outcome{Code: tasks.Exit, Exit: a.Index}
	}, func(t *testing.T, b *bench) {
		batch, err := b.m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []uint32{1000, 1, 1<<31 + 1} {
			if _, err := batch.AddAt(t.Context(), i, &tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}); err != nil {
				t.Fatal(err)
			}
		}
		batch.Seal()
		var got []int
		for r := range batch.Results(t.Context()) {
			if got = append(got, r.Index); r.Exit != r.Index {
				t.Errorf("task %d was run as %d", r.Index, r.Exit)
			}
		}
		if slices.Sort(got); !slices.Equal(got, []int{1, 1000, 1<<31 + 1}) {
			t.Errorf("results have the indexes %v", got)
		}
	})
}

// Who looks on takes no results away from who takes those of the batch.
func TestOnlookersTakeNoResultsOfABatch(t *testing.T) {
	inBubble(t, 1, echoRunner, func(t *testing.T, b *bench) {
		batch, err := b.m.OpenBatch(tasks.Any(), tasks.DefaultOptions(), 4)
		if err != nil {
			t.Fatal(err)
		}
		first := add(t, batch, "a")
		var fs []*Follower
		for _, id := range []tasks.ID{batch.ID(), first} {
			f, err := b.m.Follow(id)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fs = append(fs, f)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() {
			defer batch.Seal()
			for range 9 {
				if _, err := batch.Add(ctx, &tasks.Task{Kind: tasks.Command, Argv: []string{"a"}}); err != nil {
					t.Errorf("add: %v", err)
					return
				}
			}
		}()
		n := 0
		for range batch.Results(ctx) {
			n++
		}
		if n != 10 {
			t.Errorf("%d results while others look on, want 10", n)
		}
		for i, want := range []int{10, 1} {
			results := 0
			for {
				e, err := fs[i].Next(ctx)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Errorf("follower %d after %d results: %v, want EOF", i, results, err)
					break
				}
				if e.Type == EventResult {
					results++
				}
			}
			if results != want {
				t.Errorf("follower %d was given %d results, want %d", i, results, want)
			}
		}
	})
}

// Who waits for the results of a batch that is not sealed is told when the agent is closed.
func TestCloseEndsTheWaitForABatch(t *testing.T) {
	for _, ephemeral := range []bool{false, true} {
		inBubble(t, 1, echoRunner, func(t *testing.T, b *bench) {
			opt := tasks.DefaultOptions()
			opt.Ephemeral = ephemeral
			batch, err := b.m.OpenBatch(tasks.Any(), opt, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, f, err := b.m.OpenBatchFollowed(tasks.Any(), opt, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			add(t, batch, "a")
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() {
				n := 0
				for range batch.Results(ctx) {
					n++
				}
				if n != 1 {
					t.Errorf("%d results, want the one of the task that was cancelled", n)
				}
			})
			wg.Go(func() {
				if _, err := f.Next(ctx); !errors.Is(err, ErrClosed) {
					t.Errorf("Next of a follower = %v, want ErrClosed", err)
				}
			})
			synctest.Wait()
			b.m.Close()
			wg.Wait()
			if ctx.Err() != nil {
				t.Error("an hour after Close they waited still")
			}
		})
	}
}

// What has started goes on when what has not is dropped, also when the link breaks.
func TestDroppedRunsOnWhenTheLinkBreaks(t *testing.T) {
	var c tally
	inBubble(t, 1, c.run(10*time.Second), func(t *testing.T, b *bench) {
		var runs []*Run
		for range 2 {
			runs = append(runs, b.submit(cmd("x", tasks.Any())))
		}
		time.Sleep(time.Second)
		for _, r := range runs {
			if _, err := b.m.Drop(r.ID()); err != nil {
				t.Fatal(err)
			}
		}
		b.hub.Get(b.workers["w1"].id).Close(errors.New("broken by the test"))
		for _, r := range runs {
			if res := b.wait(r)[0]; res.State != tasks.StateDone {
				t.Errorf("%s (%s), want done: it ran already", res.State, res.Text)
			}
		}
	})
}

func TestWaitForABatchWaitsForAllOfIt(t *testing.T) {
	for _, followed := range []bool{false, true} {
		inBubble(t, 1, echoRunner, func(t *testing.T, b *bench) {
			open := b.m.OpenBatch
			if followed {
				open = func(target tasks.Target, o tasks.Options, limit int) (*Batch, error) {
					batch, f, err := b.m.OpenBatchFollowed(target, o, limit)
					t.Cleanup(f.Close)
					return batch, err
				}
			}
			batch, err := open(tasks.Any(), tasks.DefaultOptions(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for range 6 {
				add(t, batch, "a")
			}
			batch.Seal()
			rs, err := batch.Wait(t.Context())
			if err != nil || len(rs) != 6 {
				t.Fatalf("followed %t: %d results, %v; want 6", followed, len(rs), err)
			}
			for _, r := range rs {
				if r.State != tasks.StateDone {
					t.Errorf("followed %t: task %d is %s, want done", followed, r.Index, r.State)
				}
			}
		})
	}
}
