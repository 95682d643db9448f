package worker

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// reluctant is a master that, while it is deaf, takes no output before it may.
type reluctant struct {
	*heard
	deaf atomic.Bool
	may  chan struct{}
}

func (m *reluctant) Output(l *wire.Link, k wire.Key, s wire.Stream, b []byte) {
	if m.deaf.Load() {
		<-m.may
	}
	m.heard.Output(l, k, s, b)
}

// fill lets no more output go over the link to the named master.
func (r *rig) fill(master string) {
	r.t.Helper()
	synctest.Wait()
	l := r.hub.Get(master)
	go func() {
		for range 100 {
			l.SendOutput(key(master, 99), wire.Stdout, make([]byte, 32<<10))
		}
	}()
	synctest.Wait()
}

// reluctantly makes the named master one that can be deaf.
func (r *rig) reluctantly(master string) *reluctant {
	r.t.Helper()
	m := &reluctant{heard: &heard{output: map[wire.Key]string{}}, may: make(chan struct{})}
	r.heard[master] = m.heard
	r.mhubs[master] = r.newHub(master, "10.0.1.1", wire.Config{Master: m})
	return m
}

// What waits for room on a link is not on its way: a result that went now would arrive
// before it.
func TestOutputThatWaitsForRoomIsNotSent(t *testing.T) {
	inRig(t, 1, nil, func(t *testing.T, r *rig) {
		m := r.reluctantly("a")
		r.link("a")
		m.deaf.Store(true)
		r.fill("a")
		o := newOutput(key("a", 1), r.hub.Get("a"))
		o.put(wire.Stdout, make([]byte, maxPiece))
		go o.send()
		synctest.Wait()
		if o.sent() {
			t.Error("sent = true for what is not even in the link's queue")
		}
		close(m.may)
		synctest.Wait()
		if !o.sent() {
			t.Error("sent = false when it is")
		}
	})
}

// A timeout that comes as an attempt ends changes nothing.
func TestATimeoutAfterTheEndCostsNoOutput(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
			time.Sleep(time.Second) // of the bubble
			a.Stdout.Write([]byte("x"))
			return tasks.Outcome{}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		k := key("a", 1)
		offer(l, "a", 1)
		synctest.Wait()
		l.Close(nil)
		time.Sleep(2 * time.Second)
		r.w.mu.Lock()
		a := r.w.attempts[k]
		r.w.mu.Unlock()
		a.timeUp(time.Second) // as from a timer that had waited for the lock
		time.Sleep(2 * lastWords)
		l, _ = r.link("a")
		l.SendReattach([]wire.Held{{Key: k}})
		expect(t, h, "state 1 finished, result 1")
		if got := h.output[k]; got != "x" {
			t.Errorf("the master has output %q, want x", got)
		}
	})
}

// What a stopped attempt writes for as long as it may run is heard, if somebody hears.
func TestLastWordsAreHeard(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			a.Stdout.Write([]byte("1"))
			<-ctx.Done()
			time.Sleep(lastWords + time.Second) // of the bubble
			a.Stdout.Write([]byte("2"))
			time.Sleep(2 * lastWords) // of the bubble
			a.Stdout.Write([]byte("3"))
			return tasks.Outcome{Code: tasks.Cancelled}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a")
		offer(l, "a", 1)
		synctest.Wait()
		l.SendCancel(key("a", 1), tasks.StopInterrupt)
		time.Sleep(4 * lastWords) // of the bubble
		expect(t, h, "started 1, result 1 cancelled")
		if got := h.output[key("a", 1)]; got != "123" {
			t.Errorf("the master has output %q, want 123", got)
		}
	})
}

// A reader that takes nothing does not keep a stopped attempt from ending.
func TestAReaderThatTakesNothingKeepsNobody(t *testing.T) {
	inRig(t, 1, func(c *Config) {
		c.Runners[tasks.Command] = runFunc(func(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
			a.Stdout.Write(make([]byte, wire.Window/2))
			<-ctx.Done()
			a.Stdout.Write(make([]byte, wire.Window))
			return tasks.Outcome{Code: tasks.Cancelled}
		})
	}, func(t *testing.T, r *rig) {
		l, h := r.link("a") // which takes output, and never says so
		offer(l, "a", 1)
		synctest.Wait()
		l.SendCancel(key("a", 1), tasks.StopCancel)
		time.Sleep(lastWords - time.Second) // of the bubble
		expect(t, h, "started 1")
		time.Sleep(2 * time.Second) // of the bubble
		expect(t, h, "result 1 cancelled")
	})
}
