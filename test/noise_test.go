//go:build linux

package test

import (
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNoiseDoesNothingButCount has a stranger on the network send random bytes
// to the port of an agent, thousands of times, over TCP and UDP.
func TestNoiseDoesNothingButCount(t *testing.T) {
	t.Parallel()
	const packets, connections = 5000, 2000
	hosts := newLab(t).hosts(3)
	hosts[2].ttl(255) // else the port hears nothing of it
	a, b := hosts[0].agent("-name", "a"), hosts[1].agent("-name", "b")
	assemble(t, patience, a, b)
	counters := func() map[string]uint64 {
		return decode[struct{ Counters map[string]uint64 }](t, a.call("info", "-json").ok(t)).Counters
	}
	before := counters()

	random := rand.NewChaCha8([32]byte{7})
	bytes := func(atMost int) []byte {
		p := make([]byte, 1+random.Uint64()%uint64(atMost))
		random.Read(p)
		return p
	}
	var failed error
	var refused int
	hosts[2].inside(func() {
		u, err := net.Dial("udp", "10.77.0.1:44201")
		if failed = err; err != nil {
			return
		}
		defer u.Close()
		for range packets {
			if _, err := u.Write(bytes(1400)); err != nil && !errors.Is(err, syscall.ENOBUFS) {
				failed = err
				return
			}
		}
		for range connections {
			c, err := net.DialTimeout("tcp", "10.77.0.1:44201", patience)
			if errors.Is(err, syscall.ECONNRESET) {
				refused++ // more at once than a stranger may have
				continue
			}
			if failed = err; err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			if _, err := c.Write(bytes(300)); err != nil {
				refused++
			}
			c.Close()
		}
	})
	if failed != nil {
		t.Fatal(failed)
	}

	if peak := peakMemory(t, a.pid()); peak > 100<<20 {
		t.Errorf("the agent had %d MiB at its peak, want at most 100", peak>>20)
	}
	for _, who := range []*agent{a, b} {
		if ms := who.members(); len(alive(ms)) != 2 || len(ms) != 2 {
			t.Errorf("after the noise %s sees %v, want a and b", who.name, ms)
		}
	}
	if got := sortLines(b.call("submit", "-all", "--", "echo", "hi").ok(t)); got != "a: hi\nb: hi\n" {
		t.Errorf("after the noise submit -all prints %q", got)
	}
	after, grown, counted := counters(), map[string]uint64{}, uint64(0)
	for k, v := range after {
		if v > before[k] {
			grown[k] = v - before[k]
			if strings.Contains(k, "refused") || strings.Contains(k, "bad") {
				counted += grown[k]
			}
		}
	}
	t.Logf("%d of %d connections were refused; counters grew by %v", refused, connections, grown)
	if counted < packets/2 {
		t.Errorf("%d packets of noise were hardly counted: %v", packets, grown)
	}
}
