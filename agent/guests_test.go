package agent_test

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
)

// Who has no certificate may keep some connections to the HTTP server open, not so
// many that others have none; members always get through.
func TestHTTPOfStrangersIsBounded(t *testing.T) {
	s := secret.New()
	h := secured(t, secret.Chain{{Secret: s}})
	ask := func(c net.Conn) int {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "GET /hostsAvailable HTTP/1.1\r\nHost: h\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return 0
		}
		io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	from := func(ip string) net.Conn {
		d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}},
			Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{port.SortHTTP.ALPN()}}}
		c, err := d.DialContext(t.Context(), "tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var kept []net.Conn
	for i := range 64 {
		kept = append(kept, from("127.0.0.2"))
		if got := ask(kept[i]); got != 401 {
			t.Fatalf("connection %d is answered %d, want 401", i, got)
		}
	}
	if got := ask(from("127.0.0.2")); got != 0 {
		t.Errorf("the 65th connection of one source is answered %d, want none", got)
	}
	for i := range 3 * 64 {
		if got := ask(from(fmt.Sprintf("127.0.1.%d", 1+i%4))); got != 401 {
			t.Fatalf("connection %d of others is answered %d, want 401", i, got)
		}
	}
	if got := ask(from("127.0.0.3")); got != 401 {
		t.Errorf("one more is answered %d, want 401", got)
	}
	if got := ask(kept[0]); got != 0 {
		t.Errorf("the oldest of whom most are there is answered %d, want it closed for that", got)
	}
	decided(t, func() bool { return h.Info().Counters["http_crowded"] == 2 }, func() bool { return false })

	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := secret.NewKeyring(secret.Config{Chain: secret.Chain{{Secret: s}}, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	member := &caller{keys: keys, secret: s}
	for i := range 100 {
		c, err := member.connect(t, h, port.SortHTTP, true)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := ask(c); got != 200 {
			t.Fatalf("connection %d of a member is answered %d, want 200", i, got)
		}
	}
}
