package agent_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// files gives each agent of a cluster a secret file of its own: the secret, or for
// the workers named its token.
func files(t *testing.T, s *secret.Secret, workers ...int) (agenttest.Option, func(i int) string) {
	dir := t.TempDir()
	path := func(i int) string { return filepath.Join(dir, "n"+string(rune('0'+i)), "secret") }
	return func(i int, cfg *agent.Config) {
		own := s
		for _, w := range workers {
			if w == i {
				own = s.Token()
			}
		}
		cfg.SecretFile = path(i)
		if _, err := secret.Load(path(i)); err == nil {
			return
		}
		if err := (secret.Chain{{Secret: own}}).Save(path(i)); err != nil {
			t.Fatal(err)
		}
	}, path
}

func TestSecuredPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		option, _ := files(t, secret.New(), 3)
		c := agenttest.New(t, 3, agenttest.Setup(withAdd), option)
		c.WaitMembers(t)
		for i := 1; i <= 2; i++ {
			for _, on := range []string{"n1", "n2", "n3"} {
				if got, err := add.Call(t.Context(), c.Agent(i), tasks.On(on), pair{1, 2}); got != 3 || err != nil {
					t.Errorf("n%d calls %s: %d, %v", i, on, got, err)
				}
			}
		}
		if _, err := add.Call(t.Context(), c.Agent(3), tasks.On("n1"), pair{1, 2}); !errors.Is(err, agent.ErrWorkerToken) {
			t.Errorf("a worker token submits: %v, want %v", err, agent.ErrWorkerToken)
		}
		if self := c.Agent(3).Self(); self.Has(membership.RoleMaster) {
			t.Error("the holder of a worker token is shown as master")
		}
		info := c.Agent(1).Info()
		if info.Posture != "secured" || !strings.HasPrefix(info.Trust, "whoever has the secret may run tasks here") {
			t.Errorf("posture %q, trust %q", info.Posture, info.Trust)
		}
		if n := info.Counters["port_connections_gossip"]; n == 0 || info.Counters["port_connections_tls"] < n {
			t.Errorf("counters %v: gossip came outside TLS", info.Counters)
		}
	})
}

// Nobody of another secret, or of none, gets to see or be seen.
func TestStrangersStayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		option, _ := files(t, secret.New())
		c := agenttest.New(t, 2, agenttest.Setup(withAdd), option)
		c.WaitMembers(t)
		other, _ := files(t, secret.New())
		for i, o := range []agenttest.Option{other, func(_ int, cfg *agent.Config) { cfg.SecretFile = "" }} {
			cfg := agent.DefaultConfig()
			cfg.Name, cfg.Temporary, cfg.Multicast = "stranger", true, false
			cfg.Cluster = c.Agent(1).Info().Cluster
			host := c.Net.Host("10.0.9." + string(rune('1'+i)))
			cfg.Network, cfg.Bind = host, "10.0.9."+string(rune('1'+i))+":44201"
			cfg.Join = []string{c.Agent(1).Self().AddrPort.String()}
			o(9, &cfg)
			a, err := agent.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second)
			if n := len(a.Members()); n != 1 {
				t.Errorf("the stranger sees %d members, want itself alone", n)
			}
			if n := len(c.Agent(1).Members()); n != 2 {
				t.Errorf("the pool has %d members, want 2", n)
			}
			if _, err := c.Agent(2).Join(t.Context(), a.Self().AddrPort.String()); err == nil {
				t.Error("the pool joined the stranger")
			}
			a.Close()
		}
		if got := c.Agent(1).Info().Counters; got["port_refused_handshake"] == 0 || got["port_refused_plain"] == 0 {
			t.Errorf("counters %v: want refused handshakes and plain connections", got)
		}
	})
}

// F-32: the secret is replaced under load; no task fails; a node that was away
// finds back within the grace time; who still has the old one afterwards is out.
func TestRotationUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := secret.New()
		option, path := files(t, old, 3)
		c := agenttest.New(t, 4, agenttest.Setup(withAdd), option)
		c.WaitMembers(t)
		stop, calls := make(chan struct{}), make(chan int)
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					calls <- n
					return
				default:
				}
				on := []string{"n1", "n2", "n3"}[n%3]
				if _, err := add.Call(t.Context(), c.Agent(1+n%2), tasks.On(on), pair{1, 2}); err != nil {
					t.Errorf("call %d on %s: %v", n, on, err)
				}
				n++
				time.Sleep(50 * time.Millisecond)
			}
		}()
		for i := 1; i <= 3; i++ {
			c.Cut(4, i)
		}
		time.Sleep(30 * time.Second) // n4 is given up

		const grace = 3 * time.Minute
		chain := secret.Chain{{Secret: secret.New()}, {Secret: old, Until: time.Now().Add(grace)}}
		if err := chain.Save(path(1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		for i := 1; i <= 3; i++ {
			got, err := secret.Load(path(i))
			if err != nil || !chain.Has(got.Current()) || got.Current().Cluster() != chain.Current().Cluster() {
				t.Errorf("n%d has the secret %v, %v; want the new one", i, got, err)
			}
			if got != nil && got.Current().Full() == (i == 3) {
				t.Errorf("n%d: whole secret %t", i, got.Current().Full())
			}
		}
		for i := 1; i <= 3; i++ {
			c.Heal(4, i)
		}
		time.Sleep(45 * time.Second)
		if got, err := secret.Load(path(4)); err != nil || got.Current().Cluster() != chain.Current().Cluster() {
			t.Errorf("the node that was away has %v, %v; want the new secret", got, err)
		}
		if _, err := add.Call(t.Context(), c.Agent(1), tasks.On("n4"), pair{1, 2}); err != nil {
			t.Errorf("the node that was away does not run tasks: %v", err)
		}
		if _, err := add.Call(t.Context(), c.Agent(4), tasks.On("n1"), pair{1, 2}); err != nil {
			t.Errorf("the node that was away cannot submit: %v", err)
		}
		time.Sleep(grace)
		close(stop)
		if n := <-calls; n < 1000 {
			t.Errorf("only %d calls were made meanwhile", n)
		}

		// Who was away all the time is out now.
		if err := (secret.Chain{{Secret: old}}).Save(path(5)); err != nil {
			t.Fatal(err)
		}
		c.Add(t)
		time.Sleep(20 * time.Second)
		if n := len(c.Agent(5).Members()); n != 1 {
			t.Errorf("with the old secret it sees %d members, want itself alone", n)
		}
		if n := len(c.Agent(1).Members()); n != 4 {
			t.Errorf("the pool has %d members, want 4", n)
		}
	})
}

// A secret is taken only from those who may submit: whoever has a worker token
// could else have the pool take one of its own making, and be master of it.
func TestWorkerTokenCannotReplaceTheSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(30 * time.Second) }) // memberlist's probes that fail last longer than it
		right, own := secret.New(), secret.New()
		option, path := files(t, right, 3)
		forge := agenttest.Option(func(i int, cfg *agent.Config) {
			chain := secret.Chain{{Secret: own}, {Secret: right.Token(), Until: time.Now().Add(secret.Grace)}}
			if i != 3 {
				return
			}
			if err := chain.Save(cfg.SecretFile); err != nil {
				t.Fatal(err)
			}
		})
		c := agenttest.New(t, 3, agenttest.Setup(withAdd), option, forge)
		time.Sleep(3 * time.Minute) // others ask each minute, and when they hear of unknown keys
		if n := len(c.Agent(1).Members()); n != 3 {
			t.Errorf("the pool has %d members, want 3: nobody could be asked", n)
		}
		for i := 1; i <= 2; i++ {
			got, err := secret.Load(path(i))
			if err != nil || got.Current().Cluster() != right.Cluster() {
				t.Errorf("n%d has %v, %v; want the secret that it was given", i, got, err)
			}
		}
	})
}
