package membership

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// listenLoopback opens TCP and UDP of one free port.
func listenLoopback(t testing.TB) (net.Listener, net.PacketConn, netip.AddrPort) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		packets, err := net.ListenPacket("udp", "127.0.0.1:"+strconv.Itoa(int(at.Port())))
		if err == nil {
			return l, packets, at
		}
		l.Close() // somebody else's UDP port
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil, netip.AddrPort{}
}

// The same as TestManyNodesJoinAtOnce, on real sockets and in real time.
func TestManyNodesJoinOnLoopback(t *testing.T) {
	const count = 64
	complete := make(chan struct{}, count) // one for each node that sees all
	pools := make([]*Pool, count)
	var seed string
	for i := range pools {
		c := DefaultConfig()
		c.ID, c.Boot, c.Name, c.Cluster = testID(i), "1", fmt.Sprintf("n%03d", i), "TestManyNodesJoinOnLoopback"
		c.Listener, c.Packets, c.Advertise = listenLoopback(t)
		c.Dial = dialLoopback
		seen := make(map[string]struct{}) // owned by the goroutine that calls OnEvent
		c.OnEvent = func(e Event) {
			if e.Type != MasterAvailable || len(seen) == count {
				return
			}
			if seen[e.Member.ID] = struct{}{}; len(seen) == count {
				complete <- struct{}{}
			}
		}
		if i == 0 {
			seed = c.Advertise.String()
		} else {
			c.Seeds = []string{seed}
		}
		var err error
		if pools[i], err = New(c); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pools[i].Close() })
	}
	began := time.Now()
	for _, p := range pools {
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// A busy machine with the race detector on may be far slower than the 3 s
	// that a pool on machines of its own takes at most.
	const patience = 5 * time.Minute
	limit := time.After(patience)
	for done := range count {
		select {
		case <-complete:
		case <-limit:
			t.Fatalf("only %d of %d nodes see all after %v; the first: %+v", done, count, patience, pools[0].Stats())
		}
	}
	t.Logf("%d nodes see %d after %v", count, count, time.Since(began))
	if r := pools[0].Stats().Refused; r["packet_rate"] > 0 || r["too_many_streams"] > 0 {
		t.Errorf("limits against strangers hit members on one address: %v", r)
	}
}

func dialLoopback(ctx context.Context, _, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}
