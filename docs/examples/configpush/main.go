// Configpush spreads a configuration without a leader: any node may publish a new one, and all
// come to the same. A line of standard input is a new configuration.
//
//	configpush -name n1       # on each host; type a line on any
//
// Of two that are published at the same time, the one with the larger Lamport time
// counts, and of equal times that of the larger node id. Every node decides so by itself,
// and so all decide alike, in whatever order they hear. Who comes later asks the others.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// version is a configuration, and what orders it among others.
type version struct {
	Lamport uint64
	Node    string // id of who published it
	Text    string
}

func (v version) newer(than version) bool {
	return v.Lamport > than.Lamport || v.Lamport == than.Lamport && strings.Compare(v.Node, than.Node) > 0
}

// store has the newest.
type store struct {
	mu  sync.Mutex
	now version
}

func (s *store) offer(v version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.newer(s.now) {
		s.now = v
		fmt.Printf("config: %s\n", v.Text)
	}
}

func (s *store) get() version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func main() {
	log.SetFlags(0)
	cfg := agent.DefaultConfig()
	cfg.Temporary = true
	cfg.Roles = []membership.Role{membership.RoleMaster}
	flag.StringVar(&cfg.Name, "name", "", "`NAME` of this node (default: the host's)")
	flag.StringVar(&cfg.Cluster, "cluster", "configpush", "`NAME` of the pool")
	flag.StringVar(&cfg.Bind, "bind", "", "`ADDR[:PORT]` to listen at (default: all)")
	join := flag.String("join", "", "`ADDR` of a node, where multicast does not reach")
	flag.Parse()
	if *join != "" {
		cfg.Join = []string{*join}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	a, err := agent.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	var s store
	// What is published; and what others have, for those that come.
	if _, err := a.On("config.new", func(e agent.Event) {
		v := version{Lamport: e.Lamport, Node: e.FromID}
		if e.Data != nil && e.Data.Decode(&v.Text) == nil {
			s.offer(v)
		}
	}); err != nil {
		log.Fatal(err)
	}
	if _, err := a.Answer("config.get", func(context.Context, agent.Event) (any, error) { return s.get(), nil }); err != nil {
		log.Fatal(err)
	}
	// Whoever shows up may have a newer one: it was elsewhere, or this node was.
	if _, err := a.On("masterAvailable", func(e agent.Event) {
		if !e.Member.Self {
			ask(ctx, a, &s, e.Member.ID)
		}
	}); err != nil {
		log.Fatal(err)
	}
	if err := a.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	fmt.Printf("%s is at %s\n", a.Self().Name, a.Self().AddrPort)
	go publish(ctx, a)
	<-ctx.Done()
	a.Leave(context.Background())
}

// publish publishes each line of standard input.
func publish(ctx context.Context, a *agent.Agent) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if err := a.Send(ctx, tasks.All(), "config.new", in.Text()); err != nil {
			log.Print(err)
		}
	}
}

// ask asks a node what it has.
func ask(ctx context.Context, a *agent.Agent, s *store, node string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	replies, err := a.Request(ctx, tasks.On(node), "config.get", nil)
	if err != nil {
		return // it has gone again
	}
	for r := range replies {
		var v version
		if err := r.Decode(&v); err != nil {
			log.Printf("%s does not say what it has: %v", r.Name, err)
			continue
		}
		s.offer(v)
	}
}
