package beacon

import (
	"bytes"
	"log"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// loopback returns the name of the loopback interface, or skips the test.
func loopback(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("sockets cannot be bound to a group on " + runtime.GOOS)
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 {
			return i.Name
		}
	}
	t.Skip("no loopback interface is up")
	return ""
}

// freePort returns a port that no agent of this host announces on.
func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func openReal(t *testing.T, port uint16, interfaces ...string) (*multicastConn, *bytes.Buffer) {
	t.Helper()
	var text bytes.Buffer
	c, err := multicast{port: port}.Open(Options{Interfaces: interfaces, Logger: log.New(&text, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*multicastConn), &text
}

// patience is for what should come at once, on a machine that does much else.
const patience = time.Minute

// inUse returns the sockets, which are looked at anew every few seconds.
func (c *multicastConn) inUse() map[socketKey]*socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sockets
}

// mustReceive returns the next datagram with the text.
func mustReceive(t *testing.T, c Conn, text string) Packet {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case p := <-c.Receive():
			if string(p.Data) == text {
				return p
			}
		case <-timeout:
			t.Fatalf("%q was not received within %v", text, patience)
		}
	}
}

func TestTwoSocketsOfAHostHearEachOtherOnLoopback(t *testing.T) {
	lo, port := loopback(t), freePort(t)
	a, text := openReal(t, port, lo)
	b, _ := openReal(t, port, lo)
	if len(a.inUse()) == 0 {
		t.Skipf("the kernel does not multicast on %s: %s", lo, text)
	}
	if err := a.Send([]byte("hello")); err != nil {
		t.Skipf("the kernel does not multicast on %s: %v", lo, err)
	}
	for _, c := range []Conn{a, b} {
		p := mustReceive(t, c, "hello")
		if !p.From.IsLoopback() || !p.Local || p.TTL != 255 {
			t.Errorf("received %+v, want it from loopback, local, with TTL 255", p)
		}
	}
	if text.Len() != 0 {
		t.Errorf("logged %q, want nothing", text)
	}
}

// A group-bound socket must not take datagrams away from the gossip, which has
// the same port on the wildcard address.
func TestUnicastToThePortIsNotReceived(t *testing.T) {
	lo, port := loopback(t), freePort(t)
	c, text := openReal(t, port, lo)
	if len(c.inUse()) == 0 {
		t.Skipf("the kernel does not multicast on %s: %s", lo, text)
	}
	u, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, err := u.Write([]byte("unicast")); err != nil {
		t.Fatal(err)
	}
	if err := c.Send([]byte("multicast")); err != nil {
		t.Skipf("the kernel does not multicast on %s: %v", lo, err)
	}
	if p := <-c.Receive(); string(p.Data) != "multicast" {
		t.Errorf("received %q first, want only what was sent to the group", p.Data)
	}
}

func TestLongDatagramsAreCutAboveTheLimit(t *testing.T) {
	lo, port := loopback(t), freePort(t)
	c, text := openReal(t, port, lo)
	if len(c.inUse()) == 0 {
		t.Skipf("the kernel does not multicast on %s: %s", lo, text)
	}
	if err := c.Send(make([]byte, 9000)); err != nil {
		t.Skipf("the kernel does not multicast on %s: %v", lo, err)
	}
	select {
	case p := <-c.Receive():
		if len(p.Data) != MaxBytes+1 {
			t.Errorf("received %d bytes, want %d", len(p.Data), MaxBytes+1)
		}
	case <-time.After(patience):
		t.Errorf("nothing received within %v", patience)
	}
}

func TestEveryInterfaceOfThisMachineCanBeUsed(t *testing.T) {
	loopback(t)
	c, text := openReal(t, freePort(t))
	if len(c.inUse()) == 0 {
		t.Skipf("nothing can multicast here: %s", text)
	}
	for k, s := range c.inUse() {
		if err := s.send([]byte("from " + k.src.String())); err != nil {
			t.Logf("cannot send on %s from %v: %v", k.name, k.src, err)
			continue
		}
		p := mustReceive(t, c, "from "+k.src.String())
		if p.From.WithZone("") != k.src || !p.Local || p.TTL != 255 || !c.OnLink(k.src) {
			t.Errorf("received %+v on %s, want it from %v, local, with TTL 255", p, k.name, k.src)
		}
	}
	if c.OnLink(netip.MustParseAddr("198.51.100.77")) {
		t.Error("OnLink(198.51.100.77) = true, want false for a documentation address")
	}
}

func TestNoInterfaceIsAWarningAndNoError(t *testing.T) {
	c, text := openReal(t, freePort(t), "no-such-if0")
	if n := len(c.inUse()); n != 0 {
		t.Fatalf("%d sockets, want none", n)
	}
	if err := c.Send([]byte("x")); err == nil {
		t.Error("Send without interfaces = nil, want an error")
	}
	c.Close() // so that rescan is ours
	c.rescan()
	c.rescan()
	if got := text.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "[WARN] beacon: cannot reach other hosts") {
		t.Errorf("logged %q, want one warning", got)
	}
}

func TestSocketsFollowTheInterfaces(t *testing.T) {
	lo, port := loopback(t), freePort(t)
	c, text := openReal(t, port, lo)
	if len(c.inUse()) == 0 {
		t.Skipf("the kernel does not multicast on %s: %s", lo, text)
	}
	if err := c.Close(); err != nil || len(c.sockets) != 0 {
		t.Fatalf("Close = %v with %d sockets left, want none", err, len(c.sockets))
	}
	c.done = make(chan struct{}) // from here on this test rescans
	c.rescan()
	before := c.sockets
	c.rescan()
	for k, s := range before {
		if c.sockets[k] != s {
			t.Errorf("socket of %v was replaced although nothing changed", k)
		}
		s.broken.Store(true)
	}
	c.rescan()
	for k, s := range before {
		if c.sockets[k] == nil || c.sockets[k] == s {
			t.Errorf("socket of %v was not replaced although it is broken", k)
		}
		if err := s.send([]byte("x")); err == nil {
			t.Errorf("the replaced socket of %v still sends", k)
		}
	}
	c.use(nil)
	close(c.done)
	c.wg.Wait()
}

func TestAnInterfaceIsUsedOnceForEachFamily(t *testing.T) {
	prefixes := func(all ...string) (p []netip.Prefix) {
		for _, s := range all {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	for _, c := range []struct {
		name  string
		flags net.Flags
		addrs []netip.Prefix
		want  []string
	}{
		{"both families", net.FlagMulticast, prefixes("10.0.0.1/24", "10.0.0.2/24", "fd00::1/64", "fe80::1/64", "fe80::2/64"), []string{"10.0.0.1", "fe80::1"}},
		{"no addresses", net.FlagMulticast, nil, nil},
		{"no multicast", 0, prefixes("10.0.0.1/24"), nil},
		{"loopback", net.FlagLoopback, prefixes("127.0.0.1/8", "::1/128", "fe80::1/64"), []string{"127.0.0.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, k := range socketsOf(&net.Interface{Index: 7, Name: "x0", Flags: c.flags}, c.addrs) {
				got = append(got, k.src.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("socketsOf = %q, want %q", got, c.want)
			}
		})
	}
}

func TestBeaconsFindEachOtherOnLoopback(t *testing.T) {
	lo, port := loopback(t), freePort(t)
	probe, text := openReal(t, port, lo)
	if err := probe.Send([]byte("x")); err != nil {
		t.Skipf("the kernel does not multicast on %s: %v %s", lo, err, text)
	}
	heard := make(chan Heard, 10)
	for _, node := range []string{"a", "b"} {
		b, err := New(Config{
			Cluster: "test", Node: node, Boot: "1", Name: node, Addr: netip.MustParseAddrPort("127.0.0.1:7"),
			Known: func(string) bool { return false }, OnStranger: func(h Heard) { heard <- h },
			Network: multicast{port: port}, Interfaces: []string{lo}, Interval: 50 * time.Millisecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer b.Close()
	}
	found := map[string]bool{}
	for timeout := time.After(patience); len(found) < 2; {
		select {
		case h := <-heard:
			if h.Addr.String() != "127.0.0.1:7" {
				t.Errorf("heard %+v, want address 127.0.0.1:7", h)
			}
			found[h.Node] = true
		case <-timeout:
			t.Fatalf("found only %v within %v", found, patience)
		}
	}
}
