package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
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

// docs/bus.md: "A request ends when it is known of each what it replies or why it does not."
func TestARequestToAllNamesThoseThatAreDead(t *testing.T) {
	for _, c := range []struct {
		name     string
		patience time.Duration
		reason   error
	}{
		{"by the deadline", 2 * time.Second, context.DeadlineExceeded},
		{"by the member list", time.Minute, bus.ErrGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const nodes = 64
				cl := agenttest.New(t, nodes, agenttest.Setup(func(i int, a *agent.Agent) {
					a.Answer("who", func(context.Context, agent.Event) (any, error) { return i, nil })
				}))
				cl.WaitMembers(t)
				dead := []int{7, 21, 40}
				for _, i := range dead {
					cl.Net.Host(cl.Host(i)).Vanish() // power loss: nobody says no
				}
				ctx, cancel := context.WithTimeout(t.Context(), c.patience)
				defer cancel()
				began := time.Now()
				replies, err := cl.Agent(1).Request(ctx, tasks.All(), "who", nil)
				if err != nil {
					t.Fatal(err)
				}
				var got []int
				var failed []string
				for r := range replies {
					var i int
					switch err := r.Decode(&i); {
					case err == nil && r.Name == fmt.Sprintf("n%d", i):
						got = append(got, i)
					case errors.Is(err, c.reason):
						failed = append(failed, r.Name)
					default:
						t.Errorf("%s replied %d, %v; want %v", r.Name, i, err, c.reason)
					}
				}
				slices.Sort(failed)
				if len(got) != nodes-len(dead) || !slices.Equal(failed, []string{"n21", "n40", "n7"}) {
					t.Errorf("%d replies, and none of %v; want %d and the three dead", len(got), failed, nodes-len(dead))
				}
				t.Logf("ended after %v", time.Since(began))
			})
		})
	}
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

// docs/bus.md: "Lamport time is larger than that of every event that its sender had
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

func TestEventsAreForThoseThatAreMeant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := agenttest.New(t, 4, listen(h, "**"), agenttest.Option(func(i int, cfg *agent.Config) {
			if i == 3 {
				cfg.Data = []byte(`{"gpu":true}`)
			}
		}))
		c.WaitMembers(t)
		id := c.Agent(4).Self().ID
		for i, to := range []tasks.Target{
			tasks.On("n2", id, "n2"), tasks.Where("data.gpu == true"), tasks.Where(`"master" in role and name != "n1"`),
			{All: true, Except: []string{"n1", "n2"}}, tasks.On("n1"),
		} {
			if err := c.Agent(1).Send(t.Context(), to, "a.b", i); err != nil {
				t.Errorf("Send to %+v: %v", to, err)
			}
		}
		for n, want := range map[int][]int{1: {4}, 2: {0, 2}, 3: {1, 2, 3}, 4: {0, 2, 3}} {
			events := slices.DeleteFunc(h.of(n), func(e agent.Event) bool { return e.Event != "a.b" })
			if got := numbers(t, events); !slices.Equal(got, want) {
				t.Errorf("n%d got %v, want %v", n, got, want)
			}
			for _, e := range events {
				if e.From != "n1" || e.FromID != c.Agent(1).Self().ID {
					t.Errorf("it comes from %q, %q; want n1", e.From, e.FromID)
				}
			}
		}
		for _, bad := range []struct {
			to   tasks.Target
			name string
			data any
			want error
		}{
			{tasks.On("n9"), "a", nil, bus.ErrNoMatch},
			{tasks.Where("data.cpu > 3"), "a", nil, bus.ErrNoMatch},
			{tasks.Any(), "a", nil, tasks.ErrBadTarget},
			{tasks.Target{All: true, N: 1}, "a", nil, tasks.ErrBadTarget},
			{tasks.Target{All: true, Except: []string{"n1", "n2", "n3", "n4"}}, "a", nil, bus.ErrNoMatch},
			{tasks.All(), "a b", nil, bus.ErrBadName},
			{tasks.All(), "update", nil, bus.ErrBadName},
			{tasks.All(), "a", make([]byte, bus.MaxDataBytes), bus.ErrTooLarge},
			{tasks.On("n2"), "a", make([]byte, bus.MaxDataBytes), bus.ErrTooLarge},
		} {
			if err := c.Agent(1).Send(t.Context(), bad.to, bad.name, bad.data); !errors.Is(err, bad.want) {
				t.Errorf("Send of %q to %+v = %v, want %v", bad.name, bad.to, err, bad.want)
			}
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

func TestRepliesAndTheirErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 5, agenttest.Setup(func(i int, a *agent.Agent) {
			switch i {
			case 1, 2:
				a.Answer("sum.*", func(_ context.Context, e agent.Event) (any, error) {
					var ns []int
					if err := e.Data.Decode(&ns); err != nil {
						return nil, err
					}
					return ns[0] + ns[1], nil
				})
			case 3:
				a.Answer("sum.*", func(context.Context, agent.Event) (any, error) { return nil, errors.New("cannot count") })
			case 4:
				a.Answer("sum.*", func(context.Context, agent.Event) (any, error) { panic("nor can I") })
			}
		}))
		c.WaitMembers(t)
		replies, err := c.Agent(1).Request(t.Context(), tasks.All(), "sum.two", []int{2, 3})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for r := range replies {
			var sum int
			if err := r.Decode(&sum); err != nil {
				got[r.Name] = err.Error()[:min(len(err.Error()), 16)]
				if r.Name == "n5" && !errors.Is(err, bus.ErrNoAnswer) {
					t.Errorf("n5: %v, want ErrNoAnswer", err)
				}
				continue
			}
			got[r.Name] = fmt.Sprint(sum)
		}
		want := map[string]string{"n1": "5", "n2": "5", "n3": "cannot count", "n4": "panic: nor can I", "n5": "nothing there an"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// An agent that nobody can reach any more is given up when gossip says so.
func TestSendToTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 3)
		c.WaitMembers(t)
		c.Kill(3)
		err := c.Agent(1).Send(t.Context(), tasks.On("n2", "n3"), "a", nil)
		var se *agent.SendError
		if !errors.As(err, &se) || len(se.Failed) != 1 || se.Failed[0].Name != "n3" {
			t.Errorf("Send = %v; want that n3 alone failed", err)
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

// In a secured pool the sender of what is sent to a node is who its certificate says.
func TestTheSenderOfAnEventIsWhoItsCertificateSays(t *testing.T) {
	s := secret.New()
	h := secured(t, secret.Chain{{Secret: s}})
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{secret: s}
	if c.keys, err = secret.NewKeyring(secret.Config{Chain: secret.Chain{{Secret: s}}, Key: key}); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return c.connect(t, h, port.SortHTTP, true)
		},
	}}
	defer client.CloseIdleConnections()
	for from, want := range map[string]int{
		c.keys.Node():               http.StatusConflict, // no member, and so far believed
		strings.Repeat("a", 26):     http.StatusBadRequest,
		h.Self().ID:                 http.StatusBadRequest,
		c.keys.Node()[:25] + "\x00": http.StatusBadRequest,
	} {
		letter := append([]byte{1, 0, byte(len(from))}, from...)
		letter = append(letter, 1, '1', 1, 1, 10)      // boot, number, after, patience
		letter = append(letter, 0, 0, 1, 1, 'x', 0, 0) // the event
		res, err := client.Post("https://"+h.addr+bus.Path+"event", "application/octet-stream", bytes.NewReader(letter))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("an event from %q, sent by %q: %s %s, want %d", from, c.keys.Node(), res.Status, body, want)
		}
	}
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
