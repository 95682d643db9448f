package agent_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"testing"
	"time"

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
