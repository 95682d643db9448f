package port_test

import (
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/port"
)

// A newcomer does not wait for the goodbye of whom it displaces: TLS would write
// one, and who does not read holds that up.
func TestNobodyWaitsForWhoIsExpelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := port.NewCrowd(1, 2)
		near, far := net.Pipe()
		server := tls.Server(near, serverTLS(t))
		client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
		defer far.Close()
		go client.Handshake()
		if err := server.Handshake(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, ok := c.Enter(server); !ok {
			t.Fatal("there is no place for the first")
		}
		next, other := net.Pipe()
		defer next.Close()
		defer other.Close()
		began := time.Now()
		if _, ok := c.Enter(next); !ok || !c.Leave(server) {
			t.Error("the first was not expelled")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the newcomer waited %v", took)
		}
	})
}
