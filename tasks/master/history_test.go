package master

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// recorded has a test run with a durable master that writes a history, and returns that.
func recorded(t *testing.T, workers int, r runner, test func(t *testing.T, b *bench)) []history.Event {
	var out bytes.Buffer
	durably(t, 0, r, func(t *testing.T, b *bench) {
		h := history.New(&out, history.Event{Node: nodeID("m"), Boot: "1"})
		b.killMaster()
		b.change = func(cfg *Config) { cfg.History = h }
		b.restartMaster()
		for _, name := range []string{"w1", "w2", "w3"}[:workers] {
			b.add(name, r)
		}
		test(t, b)
		b.m.Close() // nothing is added after it
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	var es []history.Event
	for in := history.NewReader(&out); ; {
		var e history.Event
		switch err := in.Next(&e); err {
		case nil:
			es = append(es, e)
		case io.EOF:
			return es
		default:
			t.Fatal(err)
		}
	}
}

// find returns where the first event with that name is that has to do with the task, or
// with any for the zero id; -1: nowhere.
func find(es []history.Event, name history.Name, id tasks.ID) int {
	return slices.IndexFunc(es, func(e history.Event) bool { return e.Name == name && (id.IsZero() || e.Task == id) })
}

func TestWhatIsGivenOutIsWrittenDown(t *testing.T) {
	var c tally
	var asked, waited, followed, ended tasks.ID
	es := recorded(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
		one := func() (*Run, tasks.ID) { r := b.submit(cmd("x", tasks.Any())); return r, r.Tasks()[0].ID }
		_, asked = one()
		b.awaitFinal([]tasks.ID{asked})
		r, id := one()
		waited = id
		if _, err := r.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, followed = one()
		f, err := b.m.Follow(followed)
		if err != nil {
			t.Fatal(err)
		}
		for ; err == nil; _, err = f.Next(t.Context()) {
		}
		f.Close()
		_, ended = one()
		time.Sleep(time.Minute)
	})
	for what, id := range map[string]tasks.ID{"asked for": asked, "waited for": waited, "followed": followed} {
		end, at := find(es, history.Ended, id), find(es, history.Answered, id)
		if end < 0 || at < end || es[at].Hash != es[end].Hash || es[at].State != tasks.StateDone {
			t.Errorf("of the task that was %s the end is event %d and the answer %d, of %d", what, end, at, len(es))
		}
	}
	if find(es, history.Answered, ended) >= 0 {
		t.Error("a task that nobody asked for was answered")
	}
}

func TestACancellationIsToldWhenItIsOnDisk(t *testing.T) {
	var c tally
	var waiting, running tasks.ID
	es := recorded(t, 1, c.run(time.Hour), func(t *testing.T, b *bench) {
		ids := b.submitMany(5, tasks.Any())
		time.Sleep(time.Second)
		running, waiting = ids[0], ids[4]
		for _, id := range []tasks.ID{waiting, running} {
			if _, err := b.m.Cancel(id, tasks.StopCancel); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, id := range []tasks.ID{waiting, running} {
		if asked, told := find(es, history.Cancel, id), find(es, history.CancelledTold, id); asked < 0 || told < asked {
			t.Errorf("the cancellation is event %d, and its answer %d", asked, told)
		}
	}
	if end, told := find(es, history.Ended, waiting), find(es, history.CancelledTold, waiting); end < 0 || told < end {
		t.Errorf("a task that waits has ended with event %d, and that it is cancelled was told before, with %d", end, told)
	}
}

func TestAJournalThatTakesNothingIsWrittenDown(t *testing.T) {
	var c tally
	es := recorded(t, 1, c.run(time.Second), func(t *testing.T, b *bench) {
		j := b.onTheBrim()
		for range 3 {
			if _, err := b.m.Submit(t.Context(), cmd("x", tasks.Any())); err == nil {
				t.Fatal("a full journal took a task")
			}
		}
		j.full.Store(false)
		b.awaitFinal(b.submitMany(2, tasks.Any()))
	})
	var states []history.Name
	for _, e := range es {
		if e.Name == history.JournalOff || e.Name == history.JournalOn {
			states = append(states, e.Name)
		}
	}
	if n := len(states); n < 2 || !slices.Equal(states[n-2:], []history.Name{history.JournalOff, history.JournalOn}) || slices.Contains(states[:n-2], history.JournalOff) {
		t.Errorf("the history has %v; want that it went off and on again, once", states)
	}
}
