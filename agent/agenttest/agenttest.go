// Package agenttest runs whole clusters of agents inside one test.
//
// New makes a cluster on an in-memory network, on which wires can be cut and
// hosts killed, and which works inside a testing/synctest bubble, where hours
// pass in no time. Loopback makes one on real sockets of 127.0.0.1. Either has a
// random cluster name and no beacon, so it never meets a real pool.
//
//	c := agenttest.New(t, 3)
//	c.WaitMembers(t)
//	run, err := c.Agent(1).Submit(t.Context(), …)
//	c.Kill(2)
//
// Programs that embed an agent can test with it too.
package agenttest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/port/memnet"
	"github.com/scagent/scagent/membership"
)

// Option changes the configuration of the i-th agent, from 1, before it starts.
type Option func(i int, cfg *agent.Config)

// Setup gives the i-th agent, from 1, to a function between New and Start, for
// Agent.Handle.
type Setup func(i int, a *agent.Agent)

// Cluster is a number of agents. They are numbered from 1, named n1, n2, … and,
// in memory, have the addresses 10.0.0.1, 10.0.0.2, …
type Cluster struct {
	// Net is the network of a cluster in memory, nil for Loopback.
	Net *memnet.Network

	name string
	opts []any

	mu     sync.Mutex
	agents []*agent.Agent // nil: killed
}

// New starts n agents in memory. Those after the first join the first. The
// options are of type Option and Setup. Everything is closed when the test ends.
func New(t testing.TB, n int, opts ...any) *Cluster {
	t.Helper()
	c := &Cluster{Net: memnet.New(), name: "test-" + rand.Text()[:12], opts: opts}
	c.start(t, n)
	return c
}

// Loopback starts n agents on free ports of 127.0.0.1.
func Loopback(t testing.TB, n int, opts ...any) *Cluster {
	t.Helper()
	c := &Cluster{name: "test-" + rand.Text()[:12], opts: opts}
	c.start(t, n)
	return c
}

func (c *Cluster) start(t testing.TB, n int) {
	t.Helper()
	t.Cleanup(c.close)
	for range n {
		c.Add(t)
	}
}

// Host returns the address of the i-th agent's host.
func (c *Cluster) Host(i int) string {
	if c.Net == nil {
		return "127.0.0.1"
	}
	i--
	return fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
}

// Add starts another agent and returns its number.
func (c *Cluster) Add(t testing.TB) int {
	t.Helper()
	c.mu.Lock()
	i := len(c.agents) + 1
	c.agents = append(c.agents, nil)
	c.mu.Unlock()
	c.Restart(t, i)
	return i
}

// Restart starts the i-th agent, which was killed or closed, anew: with the same
// name and address, but as another node.
func (c *Cluster) Restart(t testing.TB, i int) {
	t.Helper()
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Cluster, cfg.Temporary, cfg.Multicast = fmt.Sprintf("n%d", i), c.name, true, false
	cfg.Slots = 2
	cfg.Logger = log.New(logTo{t, cfg.Name}, "", 0)
	cfg.Bind = c.Host(i) + ":0"
	if c.Net != nil {
		cfg.Bind = c.Host(i) + ":44201"
		cfg.Network = c.Net.Host(c.Host(i))
	}
	if first := c.first(i); first != "" {
		cfg.Join = []string{first}
	}
	for _, o := range c.opts {
		if f, ok := o.(Option); ok {
			f(i, &cfg)
		}
	}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range c.opts {
		if f, ok := o.(Setup); ok {
			f(i, a)
		}
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.agents[i-1] = a
	c.mu.Unlock()
}

// first returns the address of an agent that runs, other than the i-th.
func (c *Cluster) first(i int) string {
	for j := 1; j <= c.Len(); j++ {
		if a := c.Agent(j); j != i && a != nil {
			return a.Self().AddrPort.String()
		}
	}
	return ""
}

// Len returns how many agents there are, those that were killed included.
func (c *Cluster) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.agents)
}

// Agent returns the i-th agent, nil if it was killed.
func (c *Cluster) Agent(i int) *agent.Agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[i-1]
}

// Kill ends the i-th agent as kill -9 does: without a word, its connections
// reset, its port closed.
func (c *Cluster) Kill(i int) {
	c.mu.Lock()
	a := c.agents[i-1]
	c.agents[i-1] = nil
	c.mu.Unlock()
	if c.Net != nil {
		c.Net.Host(c.Host(i)).Kill()
	}
	if a != nil {
		a.Close()
	}
}

// Cut breaks the network between two agents, both ways, silently.
func (c *Cluster) Cut(i, j int) { c.Net.Cut(c.Host(i), c.Host(j)) }

// Heal mends what Cut broke.
func (c *Cluster) Heal(i, j int) { c.Net.Heal(c.Host(i), c.Host(j)) }

// Reset breaks every connection between two agents with a reset. Both live, and
// can connect again.
func (c *Cluster) Reset(i, j int) { c.Net.Reset(c.Host(i), c.Host(j)) }

// Delay makes everything take d from one host to another.
func (c *Cluster) Delay(d time.Duration) { c.Net.SetDelay(d) }

// WaitMembers waits until every agent that runs sees every other alive, with its
// document, and fails the test after a minute.
func (c *Cluster) WaitMembers(t testing.TB) {
	t.Helper()
	want := 0
	for i := 1; i <= c.Len(); i++ {
		if c.Agent(i) != nil {
			want++
		}
	}
	deadline := time.Now().Add(time.Minute)
	for i := 1; i <= c.Len(); i++ {
		for a := c.Agent(i); a != nil; {
			n := 0
			for _, m := range a.Members() {
				if m.Status == membership.Alive && m.DocumentKnown {
					n++
				}
			}
			if n >= want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("agent n%d sees %d of %d members alive after a minute: %v", i, n, want, a.Members())
			}
			time.Sleep(5 * time.Millisecond) // there is no signal for "all of them"
		}
	}
}

func (c *Cluster) close() {
	var wg sync.WaitGroup
	for i := 1; i <= c.Len(); i++ {
		if a := c.Agent(i); a != nil {
			wg.Go(func() { a.Close() })
		}
	}
	wg.Wait()
	if inBubble() {
		time.Sleep(probesEnd)
	}
}

// probesEnd is how long memberlist's probes of a node that is gone outlast its own
// end, for which it has no way to wait.
const probesEnd = 30 * time.Second

// inBubble reports whether this is a synctest bubble, which must not end before all
// that runs in it. Its clock starts in the year 2000, as no machine's does.
func inBubble() bool { return time.Now().Year() == 2000 }

// Dialer returns a function that dials the i-th agent's port from the j-th's host.
func (c *Cluster) Dialer(i, j int) func(context.Context) (net.Conn, error) {
	addr := c.Agent(i).Self().AddrPort.String()
	if c.Net == nil {
		return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) }
	}
	h := c.Net.Host(c.Host(j))
	return func(ctx context.Context) (net.Conn, error) { return h.Dial(ctx, addr) }
}

// logTo writes an agent's log into the test's, but for what is only for debugging.
type logTo struct {
	t    testing.TB
	name string
}

func (l logTo) Write(p []byte) (int, error) {
	if !strings.HasPrefix(string(p), "[DEBUG]") {
		l.t.Logf("%s: %s", l.name, strings.TrimRight(string(p), "\n"))
	}
	return len(p), nil
}
