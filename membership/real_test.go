package membership

import (
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
	changed := make(chan struct{}, 1) // somebody's view changed
	pools := make([]*Pool, count)
	var seed string
	for i := range pools {
		c := DefaultConfig()
		c.ID, c.Boot, c.Name, c.Cluster = testID(i), "1", fmt.Sprintf("n%03d", i), "TestManyNodesJoinOnLoopback"
		c.Listener, c.Packets, c.Advertise = listenLoopback(t)
		c.Dial = (&dialer{}).dial
		c.OnEvent = func(Event) { signal(changed) }
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
	limit := time.After(30 * time.Second)
	for complete := false; !complete; {
		select {
		case <-changed:
		case <-limit:
			for _, p := range pools {
				s := p.Stats()
				t.Logf("%v health=%d refused=%v packets=%d/%d joins=%d/%d", s.Members, s.HealthScore, s.Refused, s.PacketsIn, s.PacketsOut, s.Joins, s.JoinErrors)
			}
			t.Fatal("not all see all after 30s")
		}
		complete = true
		for _, p := range pools {
			if s := p.Stats().Members; s[Alive]+s[Suspect] != count {
				complete = false
				break
			}
		}
	}
	t.Logf("%d nodes see %d after %v", count, count, time.Since(began))
	if r := pools[0].Stats().Refused; r["packet_rate"] > 0 || r["too_many_streams"] > 0 {
		t.Errorf("limits against strangers hit members on one address: %v", r)
	}
}
