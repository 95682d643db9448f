package port_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/port"
	"golang.org/x/sys/unix"
)

// withHops opens a connection, or a UDP socket, that sends with a TTL.
func withHops(t *testing.T, network, addr string, hops int) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, ControlContext: func(_ context.Context, _, _ string, raw syscall.RawConn) (err error) {
		raw.Control(func(fd uintptr) {
			if netip.MustParseAddrPort(addr).Addr().Is4() {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, hops)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops)
			}
		})
		return err
	}}
	c, err := d.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// RFC 5082: what passed a router is refused, but for HTTP.
func TestOnlyDirectNeighboursAreHeard(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"} {
		t.Run(bind, func(t *testing.T) {
			n := port.NewNeighbours("")
			p, err := port.Open(t.Context(), port.Config{Bind: bind, Allow: n.Has, DirectOnly: true, FirstByteTimeout: patience})
			if err != nil {
				t.Skip("cannot listen there:", err)
			}
			defer p.Close()
			hosts := []string{"127.0.0.1"}
			switch {
			case bind[:4] == "[::1":
				hosts = []string{"::1"}
			case bind[:4] == "[::]":
				hosts = []string{"127.0.0.1", "::1"}
			}
			for i, host := range hosts {
				to := netip.AddrPortFrom(netip.MustParseAddr(host), p.Addr().Port()).String()
				for _, c := range []struct {
					hops  int
					first string
					from  net.Listener // nil: refused
				}{
					{255, "\x5c", p.Links()}, {254, "\x5c", nil}, {64, "\x5c", nil}, {1, "\x5c", nil},
					{255, "\x04", p.Gossip()}, {254, "\x04", nil},
					{255, "G", p.HTTP()}, {64, "G", p.HTTP()},
				} {
					conn := withHops(t, "tcp", to, c.hops)
					io.WriteString(conn, c.first)
					if c.from != nil {
						wantText(t, accept(t, c.from), c.first)
					} else {
						wantClosed(t, conn)
					}
				}
				if got := p.Stats().Refused[port.RefusedHops]; got != uint64(4*(i+1)) {
					t.Errorf("%s: %d connections are counted as not direct, want %d", host, got, 4*(i+1))
				}
				for _, hops := range []int{254, 64, 1, 255} {
					io.WriteString(withHops(t, "udp", to, hops), string(rune(hops)))
				}
				b := make([]byte, 10)
				p.Packets().SetReadDeadline(time.Now().Add(patience))
				k, _, err := p.Packets().ReadFrom(b)
				if err != nil || string(b[:k]) != string(rune(255)) {
					t.Errorf("%s: read %q, %v; want the packet with the full TTL alone", host, b[:k], err)
				}
				if got := p.Stats().PacketsRefused[port.RefusedHops]; got != uint64(3*(i+1)) {
					t.Errorf("%s: %d packets are counted as not direct, want %d", host, got, 3*(i+1))
				}
			}
		})
	}
}

// A flood must not open the door: while the system answers with cookies it keeps no first
// packets, and nobody can say where a connection comes from.
func TestNobodyIsDirectOfWhomNothingIsKnown(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can")
	}
	runtime.LockOSThread() // for good: the thread, and its network, end with this goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip(err)
	}
	if err := exec.Command("ip", "link", "set", "lo", "up").Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0); err != nil { // always
		t.Fatal(err)
	}
	p := open(t, port.Config{Bind: "127.0.0.1:0", Allow: port.NewNeighbours("").Has, DirectOnly: true})
	for _, first := range []string{"\x5c", "\x04"} {
		conn := withHops(t, "tcp", p.Addr().String(), 64)
		io.WriteString(conn, first)
		wantClosed(t, conn)
	}
	conn := withHops(t, "tcp", p.Addr().String(), 64)
	io.WriteString(conn, "G") // HTTP may come from anywhere near
	wantText(t, accept(t, p.HTTP()), "G")
	if got := p.Stats().Refused[port.RefusedHops]; got != 2 {
		t.Errorf("%d connections are counted as not direct, want 2", got)
	}
}

func TestOnlyAllowedSourcesAreHeard(t *testing.T) {
	good := netip.MustParseAddr("127.0.0.1")
	p := open(t, port.Config{Bind: "127.0.0.1:0", Allow: func(a netip.Addr) bool { return a.Unmap() == good }})
	for _, first := range []string{"\x5c", "\x04", "G", "\x16", ""} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := d.Dial("tcp", p.Addr().String())
		if err == nil { // it may be reset before it can write
			io.WriteString(c, first)
			wantClosed(t, c)
		}
	}
	for _, from := range []string{"127.0.0.2", "127.0.0.1"} {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(p.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, from)
	}
	b := make([]byte, 20)
	p.Packets().SetReadDeadline(time.Now().Add(patience))
	k, from, err := p.Packets().ReadFrom(b)
	if err != nil || string(b[:k]) != "127.0.0.1" {
		t.Errorf("read %q from %v, %v; want that of the allowed source", b[:k], from, err)
	}
	if st := p.Stats(); st.Refused[port.RefusedOffLink] != 5 || st.PacketsRefused[port.RefusedOffLink] != 1 {
		t.Errorf("Stats() = %+v; want 5 connections and 1 packet refused", st)
	}
}

func BenchmarkReadPacket(b *testing.B) {
	n := port.NewNeighbours("")
	for _, c := range []struct {
		name string
		conf port.Config
	}{{"open", port.Config{Allow: n.Has, DirectOnly: true}}, {"all", port.Config{}}} {
		b.Run(c.name, func(b *testing.B) {
			c.conf.Bind = "127.0.0.1:0"
			p, err := port.Open(b.Context(), c.conf)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			buf, packet, to := make([]byte, 1500), make([]byte, 200), net.UDPAddrFromAddrPort(p.Addr())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Packets().WriteTo(packet, to); err != nil {
					b.Fatal(err)
				}
				if _, _, err := p.Packets().ReadFrom(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
