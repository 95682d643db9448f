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
		synctest.Wait() // the functions of On are called later
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
		if err := c.Agent(1).Send(t.Context(), tasks.Where("data.cpu > 3"), "a", nil); err == nil || !strings.Contains(err.Error(), "0 of 4 members match") {
			t.Errorf("Send where nobody matches = %v, want that it speaks of members", err)
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
