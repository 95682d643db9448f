package master

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
	"github.com/scagent/scagent/test/bounds"
)

// Ids of tasks can be guessed from those of others, so a node that reports on an
// attempt must have had it.
func TestResultCountsOnlyFromWhoHadTheAttempt(t *testing.T) {
	inBubble(t, 2, func(ctx context.Context, a *tasks.Attempt) tasks.Outcome { return stopped(ctx) }, func(t *testing.T, b *bench) {
		say := func(l *wire.Link, id tasks.ID, n uint32) {
			sendResult(l, wire.Key{Task: id, N: n}, &tasks.Outcome{Value: []byte("1")})
			synctest.Wait()
		}
		run := b.submit(cmd("x", tasks.On("w1")))
		runs := []*Run{run}
		for range 20 {
			runs = append(runs, b.submit(cmd("x", tasks.Any()))) // some run, some wait
		}
		synctest.Wait()
		stranger := b.newHub(nodeID("s"), "s", "10.0.0.101", wire.Config{})
		defer stranger.Close()
		l, err := stranger.Connect(t.Context(), nodeID("m"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			say(l, r.Tasks()[0].ID, 0)
			say(l, r.Tasks()[0].ID, 1)
		}
		if n := b.m.Stats().Done; n != 0 {
			t.Errorf("%d tasks are done that nobody has run to an end", n)
		}

		// An attempt that was given up, and is heard of later, counts.
		w1 := b.workers["w1"]
		b.net.Cut(masterHost, w1.ip)
		time.Sleep(5 * time.Second)
		b.net.Heal(masterHost, w1.ip)
		time.Sleep(time.Second)
		id := run.Tasks()[0].ID
		say(l, id, 1)
		if s := run.Tasks()[0].State; s.Final() {
			t.Errorf("a stranger ended it: %v", s)
		}
		if l, err = w1.hub.Connect(t.Context(), nodeID("m")); err != nil {
			t.Fatal(err)
		}
		say(l, id, 1)
		if s := run.Tasks()[0].State; s != tasks.StateDone {
			t.Errorf("after the late result of its first attempt it is %v, want done", s)
		}
	})
}

// Until the next attempt is on disk a restart would look for the one that was given up.
func TestALateFailureIsAcknowledgedWhenTheNextAttemptIsOnDisk(t *testing.T) {
	var l *lazy
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, bounds.Log(t, testLog{t}), func(b *bench) {
			b.dir = dir
			b.change = func(cfg *Config) { l = &lazy{Journal: cfg.Journal}; cfg.Journal = l }
		})
		defer b.close()
		w1 := b.add("w1", func(context.Context, *tasks.Attempt) tasks.Outcome {
			time.Sleep(2 * time.Second)
			return tasks.Outcome{Code: tasks.Exit, Exit: 1}
		})
		submitted := make(chan *Run, 1)
		go func() { submitted <- b.submit(cmd("x", tasks.Any())) }()
		for range 2 { // the task, and its first attempt
			time.Sleep(500 * time.Millisecond)
			l.pass()
		}
		b.add("w2", func(context.Context, *tasks.Attempt) tasks.Outcome { return ended() })
		time.Sleep(time.Second)
		b.net.Cut(masterHost, w1.ip)
		time.Sleep(10 * time.Second)
		b.net.Heal(masterHost, w1.ip)
		if _, err := w1.hub.Connect(t.Context(), nodeID("m")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if n := w1.w.Outcomes(); n != 1 || b.m.Stats().LostAttempts != 1 {
			t.Errorf("with %d attempts lost the worker has %d outcomes, want one of each", b.m.Stats().LostAttempts, n)
		}
		l.pass()
		time.Sleep(5 * time.Second) // acks travel together
		if n := w1.w.Outcomes(); n != 0 {
			t.Errorf("the worker still has %d outcomes", n)
		}
		l.pass()
		if r := b.wait(<-submitted)[0]; r.State != tasks.StateDone {
			t.Errorf("it is %s, want done", r.State)
		}
	})
}
