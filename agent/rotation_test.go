package agent_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"log"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/tasks/wire"
)

// A link that was made with a secret ends with it, also when another takes its
// place at the same time.
func TestLinkEndsWithItsSecret(t *testing.T) {
	first, second := secret.New(), secret.New()
	until := time.Now().Add(time.Hour)
	h := secured(t, secret.Chain{{Secret: second}, {Secret: first, Until: until}})
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{secret: first}
	if c.keys, err = secret.NewKeyring(secret.Config{Chain: secret.Chain{{Secret: first}}, Key: key}); err != nil {
		t.Fatal(err)
	}
	hub, err := wire.NewHub(wire.Config{
		Self: wire.Hello{Node: c.keys.Node(), Boot: "1", Cluster: h.cluster, Name: "caller"},
		Dial: func(context.Context, string) (net.Conn, error) { return c.connect(t, h, port.SortLink, true) },
	})
	if err != nil {
		t.Fatal(err)
	}
	hub.Start()
	defer hub.Close()
	l, err := hub.Connect(t.Context(), h.Self().ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := (secret.Chain{{Secret: secret.New()}, {Secret: second, Until: until}}).Save(h.secretFile); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Down():
	case <-time.After(20 * time.Second):
		t.Error("20s after its secret was taken out of the file the link is up")
	}
}

// A secret in the file that does not follow from the one in force is not taken
// while the agent runs. Whoever put it there is told, once.
func TestAnUnrelatedSecretInTheFileIsSaidToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		option, path := files(t, secret.New())
		said := make(chan string, 1000)
		agenttest.New(t, 1, option, agenttest.Option(func(_ int, cfg *agent.Config) { cfg.Logger = log.New(lines(said), "", 0) }))
		until := time.Now().Add(time.Hour)
		for _, s := range []secret.Chain{{{Secret: secret.New()}}, {{Secret: secret.New()}, {Secret: secret.New(), Until: until}}} {
			if err := s.Save(path(1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			n := 0
			for len(said) > 0 {
				if strings.HasPrefix(<-said, "[WARN] agent: the file has another secret, which does not replace the one in force") {
					n++
				}
			}
			if n != 1 {
				t.Errorf("it is said %d times, want once", n)
			}
		}
	})
}

// lines takes the lines of a log.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}
