package agent_test

import (
	"context"
	"errors"
	"os"
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

func TestASecuredAgentTellsTrackersNothingInClear(t *testing.T) {
	option, _ := files(t, secret.New())
	cfg := agent.DefaultConfig()
	cfg.Temporary, cfg.Multicast, cfg.Bind, cfg.Join = true, false, "127.0.0.1:0", []string{"HTTP://127.0.0.1:1"}
	option(1, &cfg)
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "use https") {
		t.Errorf("Start = %v, want that it is to be https", err)
		a.Close()
	}
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

// rotated replaces the secret in the i-th agent's file, as `scagent secret rotate`.
func rotated(t *testing.T, path string, grace time.Duration) *secret.Secret {
	t.Helper()
	chain, err := secret.Load(path)
	if err == nil {
		chain, err = chain.Rotate(time.Now(), grace)
	}
	if err == nil {
		err = chain.Save(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return chain.Current()
}

// Who runs rotate on every host at once, by a tool, has a pool still, with one of the secrets.
func TestRotationsAtOnceComeToOneSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		option, path := files(t, secret.New(), 4)
		c := agenttest.New(t, 4, agenttest.Setup(withAdd), option)
		c.WaitMembers(t)
		for i := 1; i <= 3; i++ {
			rotated(t, path(i), secret.Grace)
		}
		time.Sleep(3 * time.Minute)
		first, err := secret.Load(path(1))
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= 4; i++ {
			got, err := secret.Load(path(i))
			if err != nil || got.Current().Cluster() != first.Current().Cluster() {
				t.Errorf("n%d has another secret in force than n1, or none: %v", i, err)
			}
			if n := len(c.Agent(i).Members()); n != 4 {
				t.Errorf("n%d sees %d members, want 4", i, n)
			}
		}
		for _, m := range c.Agent(1).Members() {
			if m.Status != membership.Alive {
				t.Errorf("%s is %s", m.Name, m.Status)
			}
			if _, err := add.Call(t.Context(), c.Agent(2), tasks.On(m.Name), pair{1, 2}); err != nil {
				t.Errorf("a call on %s: %v", m.Name, err)
			}
		}
	})
}

// Without grace, who has only the old secret is out at once and cannot ask for the
// new one; who is given the file is in.
func TestRotationWithoutGraceShutsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		option, path := files(t, secret.New())
		c := agenttest.New(t, 3, agenttest.Setup(withAdd), option)
		c.WaitMembers(t)
		next := rotated(t, path(1), 0)
		time.Sleep(time.Second)
		b, err := os.ReadFile(path(1))
		if err == nil {
			err = os.WriteFile(path(2), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		for i, want := range map[int]bool{1: true, 2: true, 3: false} {
			got, err := secret.Load(path(i))
			if err != nil || (got.Current().Cluster() == next.Cluster()) != want {
				t.Errorf("n%d: it has the new secret: %t, %v; want %t", i, !want, err, want)
			}
		}
		if _, err := add.Call(t.Context(), c.Agent(1), tasks.On("n2"), pair{1, 2}); err != nil {
			t.Errorf("a call between those that have it: %v", err)
		}
		call := func(from int, on string) error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := add.Call(ctx, c.Agent(from), tasks.On(on), pair{1, 2})
			return err
		}
		if call(3, "n1") == nil || call(1, "n3") == nil {
			t.Error("calls to or from who has the old secret are made")
		}
	})
}

// The end of a replaced secret can be brought forward by hand, in the file, and
// stays so over a restart.
func TestEndOfASecretIsBroughtForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := secret.New()
		option, path := files(t, old)
		c := agenttest.New(t, 1, agenttest.Setup(withAdd), option)
		now := rotated(t, path(1), secret.Grace)
		time.Sleep(20 * time.Second)
		short := secret.Chain{{Secret: now}, {Secret: old, Until: time.Now().Add(time.Minute)}}
		if err := short.Save(path(1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + 5*time.Second)
		if err := (secret.Chain{{Secret: old}}).Save(path(2)); err != nil {
			t.Fatal(err)
		}
		c.Add(t)
		time.Sleep(30 * time.Second)
		if n := len(c.Agent(2).Members()); n != 1 {
			t.Errorf("with the old secret an agent sees %d members after its end, want itself alone", n)
		}
	})
}
