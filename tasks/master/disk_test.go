package master

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/test/bounds"
)

// lazy is a journal that writes nothing before it is told to.
type lazy struct {
	Journal
	mu    sync.Mutex
	queue []func()
}

func (l *lazy) Write(done func(error), rs ...journal.Record) {
	l.later(func() { l.Journal.Write(done, rs...) })
}

func (l *lazy) Try(done func(error), rs ...journal.Record) {
	l.later(func() { l.Journal.Try(done, rs...) })
}

func (l *lazy) later(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, f)
}

// pass lets what waits go to the disk, and nothing that comes after it.
func (l *lazy) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.queue {
		f()
	}
	l.queue = nil
}

// lazily runs a test with a master, and no workers yet, whose journal writes when b.lazy
// is told to.
func lazily(t *testing.T, test func(t *testing.T, b *bench)) {
	dir, boxes := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, bounds.Log(t, testLog{t}), func(b *bench) {
			b.dir, b.boxes = dir, boxes
			b.change = func(cfg *Config) {
				b.lazy = &lazy{Journal: cfg.Journal}
				cfg.Journal = b.lazy
			}
		})
		defer b.close()
		test(t, b)
	})
}

// Nothing leaves before it is on disk: neither the id of a task, nor an attempt, nor a
// grant, nor a result, nor the ack for it.
func TestTheJournalComesFirst(t *testing.T) {
	var c tally
	lazily(t, func(t *testing.T, b *bench) {
		w := b.add("w1", c.run(time.Second))
		for _, attempts := range []int{3, 1} {
			submitted := make(chan *Run, 1)
			go func() {
				submitted <- b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Attempts = attempts }))
			}()
			time.Sleep(time.Minute)
			var run *Run
			select {
			case <-submitted:
				t.Fatal("an id was given out before it was on disk")
			default:
				b.lazy.pass()
				run = <-submitted
			}
			id := run.Tasks()[0].ID
			time.Sleep(time.Minute)
			if n := c.of(id); n != 0 || w.w.Load().Busy != 0 {
				t.Fatalf("it was started %d times, with %d slots busy, before its attempt was on disk", n, w.w.Load().Busy)
			}
			b.lazy.pass()
			if attempts == 1 {
				synctest.Wait()
				if w.w.Load().Busy != 1 || c.of(id) != 0 {
					t.Fatalf("%d slots are busy and it was started %d times before its grant was on disk, want a slot that waits", w.w.Load().Busy, c.of(id))
				}
				b.lazy.pass()
			}
			time.Sleep(time.Minute)
			if s := run.Tasks()[0].State; c.of(id) != 1 || s.Final() {
				t.Fatalf("it was started %d times and is %s before its end was on disk", c.of(id), s)
			}
			if w.w.Outcomes() != 1 {
				t.Error("the worker has forgotten an outcome that is not on the master's disk")
			}
			if n := b.m.workers[w.id].inUse; n != 0 {
				t.Errorf("the master counts %d slots as used after the result, want none", n)
			}
			b.lazy.pass()
			if rs := b.wait(run); rs[0].State != tasks.StateDone {
				t.Errorf("it is %s", rs[0].State)
			}
			time.Sleep(2 * time.Second) // acks travel together
			if n := w.w.Outcomes(); n != 0 {
				t.Errorf("the worker still has %d outcomes", n)
			}
		}
	})
}

// brim is a journal that takes nothing new while it is full.
type brim struct {
	Journal
	full atomic.Bool
}

func (j *brim) Try(done func(error), rs ...journal.Record) {
	if j.full.Load() {
		go done(journal.ErrFull)
	} else {
		j.Journal.Try(done, rs...)
	}
}

// onTheBrim gives the master a journal that is full.
func (b *bench) onTheBrim() (j *brim) {
	b.killMaster()
	before := b.change
	b.change = func(cfg *Config) {
		before(cfg)
		j = &brim{Journal: cfg.Journal}
		cfg.Journal = j
	}
	b.restartMaster()
	j.full.Store(true)
	return j
}

func TestATaskThatCannotBeKeptIsRefused(t *testing.T) {
	var c tally
	durably(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
		j := b.onTheBrim()
		for range 3 {
			_, err := b.m.Submit(t.Context(), cmd("x", tasks.All()))
			if !errors.Is(err, tasks.ErrNotKept) || !errors.Is(err, journal.ErrFull) {
				t.Fatalf("Submit = %v, want ErrNotKept and ErrFull", err)
			}
		}
		if rs := b.m.List(tasks.ID{}, nil, 10); len(rs) != 0 || b.m.Stats().Open != 0 || len(b.m.runs) != 0 || len(b.m.live) != 0 {
			t.Errorf("something is left: %+v, %+v, %d runs, %d classes", rs, b.m.Stats(), len(b.m.runs), len(b.m.live))
		}
		if _, err := b.m.Call(t.Context(), &tasks.Submission{Task: cmd("x", tasks.Any()).Task, Options: tasks.DefaultOptions()}); err != nil {
			t.Errorf("a call, which is not kept: %v", err)
		}
		j.full.Store(false)
		b.awaitFinal(b.submitMany(1, tasks.Any()))
		time.Sleep(time.Minute)
		if len(c.starts) != 2 {
			t.Errorf("%d tasks were started, want those two that were accepted", len(c.starts))
		}
	})
}

// Of many submissions all are accepted, or none.
func TestManyAreAcceptedTogether(t *testing.T) {
	var c tally
	durably(t, 2, c.run(time.Second), func(t *testing.T, b *bench) {
		many := []tasks.Submission{cmd("0", tasks.Any()), cmd("1", tasks.All()), cmd("2", tasks.On("w2"), func(o *tasks.Options) { o.Ephemeral = true })}
		for i, bad := range []tasks.Submission{cmd("", tasks.Any()), cmd("x", tasks.On("nobody"), func(o *tasks.Options) { o.WaitWorkers = 0 })} {
			if _, err := b.m.SubmitMany(t.Context(), append(many[:3:3], bad)); err == nil || !strings.Contains(err.Error(), "submission 3: ") {
				t.Errorf("with bad submission %d the error is %v", i, err)
			}
		}
		j := b.onTheBrim()
		if _, err := b.m.SubmitMany(t.Context(), many); !errors.Is(err, tasks.ErrNotKept) {
			t.Errorf("on a full disk the error is %v", err)
		}
		j.full.Store(false)
		time.Sleep(time.Minute)
		if s := b.m.Stats(); s.Open != 0 || s.Submitted != 0 || len(c.starts) != 0 || len(b.m.live) != 0 {
			t.Errorf("of what was refused something is left: %+v, %d starts, %d classes", s, len(c.starts), len(b.m.live))
		}
		runs, err := b.m.SubmitMany(t.Context(), many)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range []int{1, 2, 1} {
			if rs := b.wait(runs[i]); len(rs) != n || string(rs[0].Value) != fmt.Sprintf("%q", fmt.Sprint(i)) {
				t.Errorf("run %d: %+v", i, rs)
			}
		}
		if _, err := b.m.SubmitMany(t.Context(), make([]tasks.Submission, MaxMany+1)); !errors.Is(err, tasks.ErrBadOptions) {
			t.Errorf("too many: %v", err)
		}
	})
}

// A worker keeps the result of an attempt that is made again until that is on disk.
func TestAFailedAttemptIsAcknowledgedWhenTheNextIsCertain(t *testing.T) {
	var starts atomic.Int32
	lazily(t, func(t *testing.T, b *bench) {
		w := b.add("w1", func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			if starts.Add(1) == 1 {
				return tasks.Outcome{Code: tasks.Exit, Exit: 1}
			}
			time.Sleep(time.Minute)
			return ended()
		})
		submitted := make(chan *Run, 1)
		go func() { submitted <- b.submit(cmd("x", tasks.Any(), func(o *tasks.Options) { o.Retry = 1 })) }()
		for range 2 { // the task, and its attempt
			time.Sleep(time.Second)
			b.lazy.pass()
		}
		time.Sleep(5 * time.Second)
		if n := w.w.Outcomes(); starts.Load() != 1 || n != 1 {
			t.Errorf("after %d attempts the worker has %d outcomes, want one that is not yet acknowledged", starts.Load(), n)
		}
		b.lazy.pass()
		time.Sleep(5 * time.Second)
		if n := w.w.Outcomes(); starts.Load() != 2 || n != 0 {
			t.Errorf("after %d attempts the worker has %d outcomes, want none, and that the second runs", starts.Load(), n)
		}
		time.Sleep(time.Minute)
		b.lazy.pass()
		if rs := b.wait(<-submitted); rs[0].State != tasks.StateDone {
			t.Errorf("it is %s, want done", rs[0].State)
		}
	})
}
