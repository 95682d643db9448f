package master

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
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
