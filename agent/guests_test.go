package agent_test

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/http"
	"testing"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
)

// Anybody may shake hands for HTTP without a certificate, to send a signed request.
// How many may stay is bounded, and nodes do not count.
func TestHTTPClientsWithoutCertificateAreBounded(t *testing.T) {
	right := secret.New()
	h := secured(t, secret.Chain{{Secret: right}})
	ask := func(c io.ReadWriter) (status int) {
		if _, err := io.WriteString(c, "GET /hostsAvailable HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return 0
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0
		}
		io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	stranger, answered, closed := &caller{}, 0, 0
	for range 100 {
		c, err := stranger.connect(t, h, port.SortHTTP, false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		switch ask(c) {
		case http.StatusUnauthorized:
			answered++
		case 0:
			closed++
		}
	}
	if answered == 0 || answered > 16 || answered+closed != 100 {
		t.Errorf("%d of 100 that stay are answered and %d closed; want at most 16 of one source, the rest closed", answered, closed)
	}

	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	node := &caller{}
	if node.keys, err = secret.NewKeyring(secret.Config{Chain: secret.Chain{{Secret: right}}, Key: key}); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		c, err := node.connect(t, h, port.SortHTTP, true)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := ask(c); got != http.StatusOK {
			t.Fatalf("a node is answered %d meanwhile, want 200", got)
		}
	}
}
