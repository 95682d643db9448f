package agent_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/port/memnet"
	"github.com/scagent/scagent/agent/secret"
)

// halfway is a network that calls a function in the middle of an agent's start.
type halfway struct {
	port.Network
	do func()
}

func (h *halfway) Listen(ctx context.Context, addr string) (net.Listener, net.PacketConn, error) {
	h.do()
	return h.Network.Listen(ctx, addr)
}

// Close in the middle of a start leaves nothing of it behind.
func TestCloseWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := memnet.New().Host("10.0.0.1")
		arrived, goOn := make(chan struct{}), make(chan struct{})
		cfg := agent.DefaultConfig()
		cfg.Temporary, cfg.Multicast, cfg.Bind = true, false, "10.0.0.1:44201"
		cfg.Network = &halfway{host, func() { close(arrived); <-goOn }}
		a, err := agent.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := a.Start(t.Context()); !errors.Is(err, agent.ErrClosed) {
				t.Errorf("Start = %v, want ErrClosed", err)
			}
		})
		<-arrived
		wg.Go(func() {
			if err := a.Close(); err != nil {
				t.Errorf("Close = %v", err)
			}
		})
		synctest.Wait()
		close(goOn)
		wg.Wait()
		if c, err := host.Dial(t.Context(), "10.0.0.1:44201"); err == nil {
			c.Close()
			t.Error("the agent that was closed while it started has an open port")
		}
		time.Sleep(time.Minute) // memberlist's last goroutines
	})
}

// A secret that is replaced in the file while the agent starts is not overlooked.
func TestRotationWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := secret.New()
		option, path := files(t, old)
		next, err := secret.Chain{{Secret: old}}.Rotate(time.Now(), secret.Grace)
		if err != nil {
			t.Fatal(err)
		}
		agenttest.New(t, 2, option, agenttest.Option(func(i int, cfg *agent.Config) {
			if i == 2 {
				cfg.Network = &halfway{cfg.Network, func() {
					if err := next.Save(path(2)); err != nil {
						t.Error(err)
					}
				}}
			}
		}))
		time.Sleep(time.Minute)
		if c, err := secret.Load(path(1)); err != nil || !c.Has(next.Current()) {
			t.Errorf("a minute later the other node has not heard of the new secret, %v", err)
		}
	})
}
