package master

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// failing fails so many times, then succeeds; each takes a second.
func failing(times int, code tasks.Code) (runner, *atomic.Int32) {
	var runs atomic.Int32
	return func(context.Context, *tasks.Attempt) tasks.Outcome {
		time.Sleep(time.Second)
		if runs.Add(1) <= int32(times) {
			return tasks.Outcome{Code: code, Text: "not now"}
		}
		return tasks.Outcome{}
	}, &runs
}

func TestAResultThatIsNotTheLastIsForgottenWhenItIsOnDisk(t *testing.T) {
	r, _ := failing(1, tasks.Failed)
	var id tasks.ID
	es := recorded(t, 1, r, func(t *testing.T, b *bench) {
		id = b.submitMany(1, tasks.Any(), func(o *tasks.Options) { o.Retry = 1 })[0]
		b.awaitFinal([]tasks.ID{id})
	})
	written, acked := -1, find(es, history.ResultAcked, id)
	for i, e := range es {
		if e.Name == history.Journaled && e.What == history.TheResult && e.N == 1 {
			written = i
		}
	}
	if written < 0 || acked < written {
		t.Errorf("the result of the first attempt is on disk with event %d and acknowledged with %d, of %d", written, acked, len(es))
	}
}

// most draws the largest number each time: tasks rest for as long as they may.
type most struct{}

func (most) Uint64() uint64 { return math.MaxUint64 }

// A task of which at most one attempt may be lost, but which may fail often, is between
// two attempts when its master is killed: no worker is asked for what has ended.
func TestTheRetriesOfATaskSurviveItsMaster(t *testing.T) {
	for _, kills := range []int{0, 1, 2, 3} {
		r, runs := failing(8, tasks.Failed)
		durably(t, 1, r, func(t *testing.T, b *bench) {
			id := b.submitMany(1, tasks.Any(), func(o *tasks.Options) { o.Attempts, o.Retry = 1, 8 })[0]
			for i := range kills {
				b.m.mu.Lock()
				b.m.random = rand.New(most{})
				b.m.mu.Unlock()
				for resting := false; !resting; time.Sleep(time.Millisecond) {
					b.m.mu.Lock()
					task := b.m.tasks[id]
					resting = task != nil && task.resting && int(task.retries) > 2+i
					b.m.mu.Unlock()
					if task == nil {
						t.Fatalf("%d kills: the task has ended before it was seen resting %d times", kills, i+1)
					}
					resting = resting && b.workers["w1"].w.Outcomes() == 0 // it has the ack
				}
				b.killMaster()
				b.restartMaster()
			}
			res := b.awaitFinal([]tasks.ID{id})[0]
			if res.State != tasks.StateDone || runs.Load() != 9 || res.Attempt != 9 {
				t.Errorf("%d kills: it is %s (%s) by attempt %d after %d runs; want done by the ninth", kills, res.State, res.Text, res.Attempt, runs.Load())
			}
		})
	}
}

func TestWhatAWorkerCannotStartIsTriedElsewhere(t *testing.T) {
	for name, in := range map[string]func(*testing.T, int, runner, func(*testing.T, *bench)){"in memory": inBubble, "durable": durably} {
		for _, attempts := range []int{1, 2} {
			t.Run(name, func(t *testing.T) {
				in(t, 0, nil, func(t *testing.T, b *bench) {
					full, refused := failing(1000, tasks.Busy)
					b.add("w1", full)
					ids := b.submitMany(3, tasks.Any(), func(o *tasks.Options) { o.Attempts = attempts })
					time.Sleep(3 * time.Second)
					good, runs := failing(0, tasks.OK)
					b.add("w2", good)
					for _, r := range b.awaitFinal(ids) {
						if r.State != tasks.StateDone || r.Worker != "w2" {
							t.Errorf("attempts %d: a task is %s on %s (%s), want done on w2", attempts, r.State, r.Worker, r.Text)
						}
					}
					if refused.Load() == 0 || runs.Load() != 3 {
						t.Errorf("attempts %d: w1 was asked %d times, w2 %d times; want more than none, and three times", attempts, refused.Load(), runs.Load())
					}
				})
			})
		}
	}
}

func TestWhatNoWorkerCanStartFailsInTheEnd(t *testing.T) {
	r, runs := failing(1000, tasks.Busy)
	durably(t, 2, r, func(t *testing.T, b *bench) {
		res := b.awaitFinal(b.submitMany(1, tasks.Any()))[0]
		if res.State != tasks.StateFailed || res.Code != tasks.Busy || runs.Load() != maxRejects+1 {
			t.Errorf("it is %s with the code %s after %d tries, want failed, busy and %d", res.State, res.Code, runs.Load(), maxRejects+1)
		}
	})
}

// While the next attempt of a task is on its way to the disk, followers come and those
// that lag read on: what the one before wrote is nothing of it, and nothing that it
// writes itself is missing.
func TestFollowersTellAttemptsApartWhileTheNextIsRecorded(t *testing.T) {
	var starts atomic.Int32
	lazily(t, func(t *testing.T, b *bench) {
		b.add("w1", func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			n := starts.Add(1)
			fmt.Fprintf(a.Stdout, "try %d", n)
			if n == 1 {
				return tasks.Outcome{Code: tasks.Exit, Exit: 1}
			}
			return ended()
		})
		submitted := make(chan *Run, 1)
		go func() { submitted <- b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Retry = 1 })) }()
		time.Sleep(time.Second)
		b.lazy.pass() // the task
		run := <-submitted
		follow := func() *Follower {
			f, err := b.m.Follow(run.ID())
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		early, lagging := follow(), follow()
		defer early.Close()
		defer lagging.Close()
		time.Sleep(time.Second)
		b.lazy.pass() // its attempt
		time.Sleep(time.Second)
		if starts.Load() != 1 {
			t.Fatalf("%d attempts were made before the second is on disk, want one", starts.Load())
		}
		late := follow()
		defer late.Close()
		var got [3]string
		read := func(i int, f *Follower, ctx context.Context) {
			for {
				e, err := f.Next(ctx)
				if err != nil {
					return
				}
				switch e.Type {
				case EventOutput:
					got[i] += fmt.Sprintf("%d wrote %q; ", e.Attempt, e.Output)
				case EventAgain:
					got[i] += "again; "
				}
			}
		}
		past, cancel := context.WithCancel(t.Context())
		cancel()
		read(0, early, past)
		read(1, late, past)
		for range 2 { // the second attempt, and how it ended
			b.lazy.pass()
			time.Sleep(time.Second)
		}
		b.wait(run)
		read(0, early, t.Context())
		read(1, late, t.Context())
		read(2, lagging, t.Context())
		const both, second = `1 wrote "try 1"; again; 2 wrote "try 2"; `, `2 wrote "try 2"; `
		for i, want := range []string{both, second, both} {
			if got[i] != want {
				t.Errorf("the %s follower is told %s\nwant %s", []string{"early", "late", "lagging"}[i], got[i], want)
			}
		}
	})
}
