package agent_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
)

// heard is what each agent of a cluster heard of the bus.
type heard struct {
	mu     sync.Mutex
	events [][]agent.Event // by agent, from 1
	at     [][]time.Time
}

// listen notes what matches at each agent, before it starts.
func listen(h *heard, pattern string) agenttest.Setup {
	return func(i int, a *agent.Agent) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for len(h.events) <= i {
			h.events, h.at = append(h.events, nil), append(h.at, nil)
		}
		if _, err := a.On(pattern, func(e agent.Event) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.events[i], h.at[i] = append(h.events[i], e), append(h.at[i], time.Now())
		}); err != nil {
			panic(err)
		}
	}
}

func (h *heard) of(i int) []agent.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events[i])
}

// numbers are the events' data.
func numbers(t *testing.T, events []agent.Event) (ns []int) {
	t.Helper()
	for _, e := range events {
		var n int
		if err := e.Data.Decode(&n); err != nil {
			t.Fatal(err)
		}
		ns = append(ns, n)
	}
	return ns
}

func upTo(n int) (ns []int) {
	for i := range n {
		ns = append(ns, i)
	}
	return ns
}

// docs/bus.md: "Whoever is in the pool gets an event to all exactly once, within a second
// as a rule."
func TestAnEventToAllReaches64NodesWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, events = 64, 100
		h := &heard{}
		c := agenttest.New(t, nodes, listen(h, "tick"))
		c.Delay(200 * time.Microsecond)
		c.WaitMembers(t)
		var sent []time.Time
		for i := range events {
			sent = append(sent, time.Now())
			if err := c.Agent(1+i%3).Send(t.Context(), tasks.All(), "tick", i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		var took []time.Duration
		for n := 1; n <= nodes; n++ {
			got := numbers(t, h.of(n))
			for k, i := range got {
				took = append(took, h.at[n][k].Sub(sent[i]))
			}
			if slices.Sort(got); !slices.Equal(got, upTo(events)) {
				t.Fatalf("n%d got %v; want each of %d once", n, got, events)
			}
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		t.Logf("p50 %v, p99 %v, max %v", took[len(took)/2], p99, took[len(took)-1])
		if p99 >= time.Second {
			t.Errorf("p99 is %v; want below 1s", p99)
		}
	})
}

// docs/bus.md: "With a tenth of all packets lost it comes late, not never."
func TestEventsToAllSurviveLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, events = 64, 1000
		h := &heard{}
		c := agenttest.New(t, nodes, listen(h, "tick"))
		c.Delay(200 * time.Microsecond)
		c.WaitMembers(t)
		c.Net.SetLoss(0.1, 1)
		began := time.Now()
		for i := range events {
			if err := c.Agent(1).Send(t.Context(), tasks.All(), "tick", i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		var last time.Duration
		for n := 1; n <= nodes; n++ {
			if got := numbers(t, h.of(n)); !slices.Equal(got, upTo(events)) {
				t.Fatalf("n%d got %d events; want %d in order", n, len(got), events)
			}
			last = max(last, h.at[n][events-1].Sub(began))
		}
		t.Logf("the last arrived %v after the first was sent", last)
		if last > 10*time.Second {
			t.Errorf("the last arrived after %v; want all within 10s", last)
		}
	})
}

// docs/bus.md: "Events of one sender arrive in the order in which they were sent", also
// those to all among those to one.
func TestEventsOfOneSenderComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := agenttest.New(t, 3, listen(h, "tick"))
		c.Delay(300 * time.Microsecond)
		c.WaitMembers(t)
		c.Net.SetLoss(0.5, 1)
		const events = 400
		for i := range events {
			to := tasks.All()
			if i%3 == 0 {
				to = tasks.On("n2", "n3")
			}
			if err := c.Agent(1).Send(t.Context(), to, "tick", i); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		for n := 2; n <= 3; n++ {
			if got := numbers(t, h.of(n)); !slices.Equal(got, upTo(events)) {
				t.Errorf("n%d got %v; want %d in order", n, got, events)
			}
		}
	})
}

// docs/bus.md: "it is larger than that of every event that its sender had
// sent or got before."
func TestLamportTimeFollowsCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := agenttest.New(t, 3, listen(h, "tick"))
		c.WaitMembers(t)
		for i := range 9 {
			to := tasks.All()
			if i%2 == 1 {
				to = tasks.On(fmt.Sprintf("n%d", 1+(i+1)%3)) // who sends the next
			}
			if err := c.Agent(1+i%3).Send(t.Context(), to, "tick", i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		at := map[int]uint64{}
		for n := 1; n <= 3; n++ {
			for _, e := range h.of(n) {
				var i int
				if e.Data.Decode(&i); at[i] != 0 && at[i] != e.Lamport {
					t.Errorf("event %d has the times %d and %d", i, at[i], e.Lamport)
				}
				at[i] = e.Lamport
			}
		}
		for i := 1; i < 9; i++ {
			if at[i] <= at[i-1] {
				t.Errorf("event %d has time %d, and the one that caused it %d", i, at[i], at[i-1])
			}
		}
	})
}

// docs/bus.md: "Who comes later does not get it", "who was cut off gets it when the
// cut is over", and "a sender's restart ends what it had not handed on".
func TestEventsReachThoseThatWereThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := agenttest.New(t, 3, listen(h, "tick"))
		c.WaitMembers(t)
		send := func(from, n int) {
			t.Helper()
			if err := c.Agent(from).Send(t.Context(), tasks.All(), "tick", n); err != nil {
				t.Fatal(err)
			}
		}
		want := func(node int, ns ...int) {
			t.Helper()
			if got := numbers(t, h.of(node)); !slices.Equal(got, ns) {
				t.Errorf("n%d has %v, want %v", node, got, ns)
			}
		}
		send(1, 0)
		time.Sleep(time.Minute)
		c.Add(t)
		c.WaitMembers(t)
		send(1, 1)
		time.Sleep(5 * time.Second)
		want(2, 0, 1)
		want(4, 1)

		for _, j := range []int{1, 2, 3} {
			c.Cut(4, j)
		}
		time.Sleep(time.Minute)
		for i := range 20 {
			send(1, 2+i)
			time.Sleep(time.Second)
		}
		want(4, 1)
		for _, j := range []int{1, 2, 3} {
			c.Heal(4, j)
		}
		time.Sleep(time.Minute)
		want(2, upTo(22)...)
		want(4, upTo(22)[1:]...)

		c.Kill(1)
		c.Restart(t, 1)
		c.WaitMembers(t)
		send(1, 22)
		send(1, 23)
		time.Sleep(5 * time.Second)
		want(2, upTo(24)...)
		want(4, upTo(24)[1:]...)
	})
}

// docs/bus.md: "Who asks too late is told how many it missed."
func TestWhatIsForgottenIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := agenttest.New(t, 2, listen(h, "tick"))
		c.WaitMembers(t)
		c.Agent(1).Send(t.Context(), tasks.All(), "tick", 0)
		time.Sleep(time.Second)
		c.Cut(1, 2)
		const events = 20_000 // more than are kept
		for i := 1; i <= events; i++ {
			if err := c.Agent(1).Send(t.Context(), tasks.All(), "tick", i); err != nil {
				t.Fatal(err)
			}
		}
		c.Heal(1, 2)
		time.Sleep(time.Minute)
		missed, got := uint64(0), 0
		for _, e := range h.of(2) {
			missed += e.Missed
			if e.Event == "tick" {
				got++
			}
		}
		if missed == 0 || got+int(missed) != events+1 {
			t.Errorf("got %d of %d, and word of %d missed", got, events+1, missed)
		}
	})
}

// docs/bus.md: "Who is slow loses its oldest events and is told how many; nobody else is slower
// for it." 10,000 a second are offered.
func TestASlowReceiverLosesTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var slow, missed int
		h := &heard{}
		c := agenttest.New(t, 2, agenttest.Setup(func(i int, a *agent.Agent) {
			if i == 2 {
				a.On("tick", func(e agent.Event) {
					<-release
					missed += int(e.Missed)
					if e.Event == "tick" {
						slow++
					}
				})
			}
		}), listen(h, "tick"))
		c.WaitMembers(t)
		const events = 30_000
		began := time.Now()
		for i := range events {
			if err := c.Agent(1).Send(t.Context(), tasks.All(), "tick", i); err != nil {
				t.Fatal(err)
			}
			if i%100 == 99 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if d := time.Since(began); d > 3100*time.Millisecond {
			t.Errorf("sending %d took %v; want 3s, as without a slow receiver", events, d)
		}
		time.Sleep(5 * time.Second)
		if got := numbers(t, h.of(2)); !slices.Equal(got, upTo(events)) {
			t.Errorf("another receiver there got %d; want all %d", len(got), events)
		}
		close(release)
		synctest.Wait()
		if slow > 1001 || slow+missed != events {
			t.Errorf("the slow one got %d and was told of %d missed; want at most 1001 got, and %d in all", slow, missed, events)
		}
	})
}

func TestLargeEventsArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := agenttest.New(t, 5, listen(h, "large"))
		c.WaitMembers(t)
		large := make([]byte, bus.MaxDataBytes-10)
		large[len(large)-1] = 7
		for _, to := range []tasks.Target{tasks.All(), tasks.On("n2", "n3", "n4", "n5")} {
			if err := c.Agent(1).Send(t.Context(), to, "large", large); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		for n := 2; n <= 5; n++ {
			events := h.of(n)
			if len(events) != 2 {
				t.Fatalf("n%d got %d events, want 2", n, len(events))
			}
			for _, e := range events {
				var got []byte
				if err := e.Data.Decode(&got); err != nil || !slices.Equal(got, large) {
					t.Errorf("n%d got %d bytes, %v; want those that were sent", n, len(got), err)
				}
			}
		}
	})
}

func TestTaskEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		received, complete, all := &heard{}, &heard{}, &heard{}
		c := agenttest.New(t, 2, listen(received, "taskReceived"), listen(complete, "workerTaskComplete"), listen(all, "*"))
		c.WaitMembers(t)
		run, err := c.Agent(1).Submit(t.Context(), submission(tasks.Task{Kind: tasks.Function, Name: "scagent.noop"}, tasks.On("n2")))
		if err != nil {
			t.Fatal(err)
		}
		results, err := run.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r, d := received.of(2), complete.of(1)
		if len(r) != 1 || r[0].Task.ID != results[0].ID || r[0].From != "n1" || len(received.of(1)) != 0 {
			t.Errorf("taskReceived: %+v on n2; want one, of the task", r)
		}
		if len(d) != 1 || d[0].Task.ID != results[0].ID || d[0].Task.State != tasks.StateDone || len(complete.of(2)) != 0 {
			t.Errorf("workerTaskComplete: %+v on n1; want one, of the task", d)
		}
	})
}

// docs/bus.md: "Of each sender's events gossip has one message of at most about 600 bytes to
// carry, however many there are, behind the pool's own news".
func TestALoopOfEventsDoesNotDelayThePool(t *testing.T) {
	took := func(loop bool) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			c := agenttest.New(t, 16)
			c.WaitMembers(t)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer stop()
			for i := 1; loop && i <= 4; i++ {
				wg.Go(func() {
					for ctx.Err() == nil {
						c.Agent(i).Send(ctx, tasks.All(), "loop", make([]byte, 200))
						time.Sleep(time.Millisecond)
					}
				})
			}
			time.Sleep(5 * time.Second)
			began := time.Now()
			c.Add(t)
			c.WaitMembers(t)
			d = time.Since(began)
		})
		return d
	}
	quiet, busy := took(false), took(true)
	t.Logf("a new member is known everywhere after %v, and after %v while four others send 1,000 events a second each", quiet, busy)
	if busy > 2*quiet+time.Second {
		t.Errorf("a new member is known everywhere after %v, and after %v during a loop of events; want not much more", quiet, busy)
	}
}
