package agent_test

import (
	"strings"
	"testing"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/port"
)

// What is announced is not who gets in: an agent that announces loopback, for want
// of a private address on its default route, may be bound to more.
func TestTrustSaysWhoGetsIn(t *testing.T) {
	networks := port.NewNeighbours("").Networks()
	for bind, want := range map[string]string{"127.0.0.1:0": "", "0.0.0.0:0": networks} {
		cfg := agent.DefaultConfig()
		cfg.Name, cfg.Temporary, cfg.Multicast, cfg.Bind, cfg.Advertise = "n", true, false, bind, "127.0.0.1"
		a, err := agent.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := a.Info().Trust
		a.Close()
		if want == "" {
			want = "every user of this host may run tasks here"
		} else {
			want = "every host on " + want + " may run tasks here"
		}
		if !strings.HasPrefix(got, "no secret: "+want) {
			t.Errorf("bound to %s: %q, want %q", bind, got, want)
		}
	}
}
