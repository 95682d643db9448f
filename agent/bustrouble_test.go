package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/hook"
	"github.com/scagent/scagent/tasks"
)

// As TestEventsReachThoseThatWereThere, with few events, which fit into a head.
func TestFewEventsOfACutComeWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := agenttest.New(t, 3, listen(h, "tick"))
		c.WaitMembers(t)
		send := func(n int) {
			if err := c.Agent(1).Send(t.Context(), tasks.All(), "tick", n); err != nil {
				t.Fatal(err)
			}
		}
		send(0)
		time.Sleep(time.Minute)
		c.Cut(3, 1)
		c.Cut(3, 2)
		time.Sleep(time.Minute)
		for i := range 3 {
			send(1 + i)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		c.Heal(3, 1)
		c.Heal(3, 2)
		time.Sleep(2 * time.Minute)
		if got := numbers(t, h.of(3)); !slices.Equal(got, upTo(4)) {
			t.Errorf("n3 has %v, want %v", got, upTo(4))
		}
	})
}

// A node that sends steadily from its start, 20 ms away from the others.
func TestEventsComeOnceWithLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heard{}
		c := agenttest.New(t, 3, listen(h, "tick"))
		c.Delay(20 * time.Millisecond)
		c.WaitMembers(t)
		for i := range 300 {
			if err := c.Agent(1).Send(t.Context(), tasks.All(), "tick", i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		for n := 1; n <= 3; n++ {
			if got := numbers(t, h.of(n)); !slices.Equal(got, upTo(300)) {
				t.Errorf("n%d has %d events, want 300 in order", n, len(got))
			}
		}
	})
}

// Who is excepted does not get it, also while it changes.
func TestWhoIsExceptedGetsNothingWhileItChanges(t *testing.T) {
	c := agenttest.Loopback(t, 1)
	a := c.Agent(1)
	to := tasks.All()
	to.Except = []string{"n1"}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				a.SetData(json.RawMessage(fmt.Sprint(i)))
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if ids, _ := a.EventPeers(to, "x"); len(ids) > 0 {
			t.Fatalf("an event to all except n1 goes to %q, which is n1", ids)
		}
	}
}

// Events ends with its ctx, also when nobody has ranged over it.
func TestEventsEndWithTheirContext(t *testing.T) {
	c := agenttest.Loopback(t, 1)
	a := c.Agent(1)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := a.Events(ctx, "taskReceived"); err != nil {
		t.Fatal(err)
	}
	cancel()
	for end := time.Now().Add(10 * time.Second); a.Wants("taskReceived"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("events are kept for who is gone")
		}
	}
}

// A program that ends its agent when an event says so.
func TestAFunctionOfOnMayCloseTheAgent(t *testing.T) {
	c := agenttest.Loopback(t, 1)
	a := c.Agent(1)
	closed := make(chan struct{})
	a.On("stop", func(agent.Event) { a.Close(); close(closed) })
	a.Send(t.Context(), tasks.All(), "stop", nil)
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for the function that called it")
	}
}

// postLetter posts a letter as anybody can, with what a browser would add.
func postLetter(addr string, number uint64, request byte, name string) (*http.Response, error) {
	b := []byte{1, request, 1, 'x', 1, 'y'}
	b = binary.AppendUvarint(b, number)
	b = append(b, 0)
	b = binary.AppendUvarint(b, 1000)
	b = append(b, 0, 0, 1, byte(len(name)))
	b = append(append(b, name...), 0, 0)
	req, err := http.NewRequest("POST", "http://"+addr+bus.Path+"event", bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("Origin", "http://evil.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	return res, err
}

func TestAWebPageSendsNoEvents(t *testing.T) {
	c := agenttest.Loopback(t, 1)
	res, err := postLetter(c.Agent(1).Self().AddrPort.String(), 1, 0, "build.done")
	if err != nil || res.StatusCode == http.StatusOK {
		t.Errorf("a page of another site sends an event: %v, %v", res, err)
	}
}

// Run with -race: a request that comes while the agent opens its hooks. In memory: of a
// real host another program may take the number between two starts.
func TestRequestsMayComeBeforeHooksAreOpen(t *testing.T) {
	h, err := hook.Parse("q=true")
	if err != nil {
		t.Fatal(err)
	}
	c := agenttest.New(t, 2, agenttest.Option(func(i int, cfg *agent.Config) {
		if i == 2 {
			cfg.Hooks = []hook.Hook{h}
		}
	}))
	ctx, stop := context.WithCancel(t.Context())
	var answered atomic.Int32 // by the hooks of one life
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			replies, err := c.Agent(1).Request(ctx, tasks.Where(`name == "n2"`), "q", nil) // also of the life before
			if err != nil {                                                                // it is not known yet, or not any more
				time.Sleep(time.Millisecond)
				continue
			}
			for r := range replies {
				if r.Err == nil {
					answered.Add(1)
				}
			}
		}
	})
	defer wg.Wait()
	defer stop()
	for range 10 {
		await(t, "an answer", func() bool { return answered.Load() > 0 })
		c.Kill(2)
		answered.Store(0)
		c.Restart(t, 2)
	}
}
