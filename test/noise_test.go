//go:build linux

package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
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
	before := a.counters()

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
		eventually(t, patience, "after the noise "+who.name+" sees a and b alone", func() (bool, any) {
			ms := who.members()
			return len(alive(ms)) == 2 && len(ms) == 2, ms
		})
	}
	if got := sortLines(b.call("submit", "-all", "--", "echo", "hi").ok(t)); got != "a: hi\nb: hi\n" {
		t.Errorf("after the noise submit -all prints %q", got)
	}
	var grown map[string]uint64
	var dropped uint64
	eventually(t, patience, "half of the packets at least are counted", func() (bool, any) {
		grown, dropped = a.grown(before), droppedUDP(t, a.pid(), 44201)
		counted := dropped // which the agent cannot count
		for k, n := range grown {
			if strings.Contains(k, "refused") || strings.Contains(k, "bad") {
				counted += n
			}
		}
		return counted >= packets/2, grown
	})
	t.Logf("%d of %d connections were refused; the kernel dropped %d of %d packets; counters grew by %v", refused, connections, dropped, packets, grown)
}

// droppedUDP returns how many packets for a port the kernel had no room for, where a
// process is: it was slower than they came.
func droppedUDP(t testing.TB, pid int, port uint16) (n uint64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 13 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			continue
		}
		drops, err := strconv.ParseUint(f[12], 10, 64)
		if err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		n += drops
	}
	return n
}
