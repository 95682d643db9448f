package port_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/scagent/scagent/agent/port"
	"golang.org/x/sys/unix"
)

// option reads a socket's option.
func option(t *testing.T, c any, level, name int) int {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	var optErr error
	if err := raw.Control(func(fd uintptr) { value, optErr = unix.GetsockoptInt(int(fd), level, name) }); err != nil {
		t.Fatal(err)
	}
	if optErr != nil {
		t.Fatalf("getsockopt: %v", optErr)
	}
	return value
}

func TestSocketOptions(t *testing.T) {
	p := open(t, port.Config{Bind: "127.0.0.1:0"})
	dialled := dial(t, p, "GET")
	accepted := accept(t, p.HTTP())
	for _, c := range []struct {
		what        string
		conn        any
		level, name int
		want        int
	}{
		{"TTL of UDP", p.Packets(), unix.IPPROTO_IP, unix.IP_TTL, 255},
		{"MULTICAST_ALL of UDP", p.Packets(), unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0},
		{"REUSEADDR of UDP", p.Packets(), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0},
		{"REUSEPORT of UDP", p.Packets(), unix.SOL_SOCKET, unix.SO_REUSEPORT, 0},
		{"TTL of a dialled connection", dialled, unix.IPPROTO_IP, unix.IP_TTL, 255},
		{"TTL of an accepted connection", accepted, unix.IPPROTO_IP, unix.IP_TTL, 255},
		{"KEEPALIVE of a dialled connection", dialled, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"KEEPALIVE of an accepted connection", accepted, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	} {
		if got := option(t, c.conn, c.level, c.name); got != c.want {
			t.Errorf("%s = %d, want %d", c.what, got, c.want)
		}
	}
}

func TestSocketOptionsOfIPv6(t *testing.T) {
	p, err := port.Open(t.Context(), port.Config{Bind: "[::1]:0", FirstByteTimeout: patience})
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	defer p.Close()
	dialled := dial(t, p, "GET")
	accepted := accept(t, p.HTTP())
	if got := option(t, p.Packets(), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL); got != 0 {
		t.Errorf("IPV6_MULTICAST_ALL = %d, want 0", got)
	}
	for _, c := range []any{p.Packets(), dialled, accepted} {
		if got := option(t, c, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS); got != 255 {
			t.Errorf("hop limit of %T = %d, want 255", c, got)
		}
	}
}

// RFC 5082: what an agent of this link sends arrives with 255.
func TestArrivalHops(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(bind, func(t *testing.T) {
			p, err := port.Open(t.Context(), port.Config{Bind: bind, FirstByteTimeout: patience})
			if err != nil {
				t.Skip("cannot listen there:", err)
			}
			defer p.Close()
			dial(t, p, "\x5c")
			if got, known := port.ArrivalHops(accept(t, p.Links())); got != 255 || !known {
				t.Errorf("ArrivalHops of an agent's connection = %d, %t; want 255, true", got, known)
			}
			other, err := net.Dial("tcp", p.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			io.WriteString(other, "\x5c")
			c := accept(t, p.Links())
			if got, known := port.ArrivalHops(c); got == 255 || got == 0 || !known {
				t.Errorf("ArrivalHops of another's connection = %d, %t; want less than 255, true", got, known)
			}
			if _, known := port.ArrivalHops(c); known {
				t.Error("ArrivalHops is known when asked again")
			}
			if _, known := port.ArrivalHops(other); known {
				t.Error("ArrivalHops of what was not accepted is known")
			}
		})
	}
}

// udp opens a UDP socket, with SO_REUSEADDR if shared.
func udp(t *testing.T, addr string, shared bool) net.PacketConn {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) {
			if shared {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}
		}), err)
	}}
	c, err := config.ListenPacket(t.Context(), "udp4", addr)
	if err != nil {
		t.Fatalf("listen on UDP %s: %v", addr, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// beacon opens a socket bound to the group itself, as package net never does: it
// binds to the wildcard instead. It returns the number, which 0 lets it choose.
func beacon(t *testing.T, number int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{224, 0, 0, 234}, Port: number}); err != nil {
		t.Fatalf("bind a beacon to %d: %v", number, err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return bound.(*unix.SockaddrInet4).Port
}

func numberOf(c net.PacketConn) string {
	return ":" + strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
}

// udpAlone is udp at a number of which nobody has the TCP port.
func udpAlone(t *testing.T, addr string, shared bool) net.PacketConn {
	t.Helper()
	for {
		if c := udp(t, addr, shared); tcpIsFree(t, c.LocalAddr().String()) {
			return c
		}
	}
}

// tcpIsFree reports whether nobody has the TCP port of an address, as other tests
// that run now may, of any number.
func tcpIsFree(t *testing.T, addr string) bool {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err == nil {
		l.Close()
	}
	return err == nil
}

// A program that holds only the UDP port of a number keeps us from it, even one
// that would let others in.
func TestTakenUDPPort(t *testing.T) {
	for _, c := range []struct {
		name, taken, bind string
		shared            bool
	}{
		{"one address", "127.0.0.1:0", "127.0.0.1", false},
		{"wildcard", "0.0.0.0:0", "0.0.0.0", false},
		{"wildcard shared", "0.0.0.0:0", "0.0.0.0", true},
		{"wildcard shared, both families", "0.0.0.0:0", "[::]", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			taken := c.bind + numberOf(udpAlone(t, c.taken, c.shared))
			_, err := port.Open(t.Context(), port.Config{Bind: taken, Strict: true})
			if err == nil || !strings.HasPrefix(err.Error(), "UDP address "+taken+" is taken by another program; ") {
				t.Errorf("strict Open(%s) = %v, want that UDP of it is taken", taken, err)
			}
			p := open(t, port.Config{Bind: taken})
			if strings.HasSuffix(taken, ":"+strconv.Itoa(int(p.Addr().Port()))) {
				t.Errorf("Open(%s) is at %s, want another port", taken, p.Addr())
			}
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", taken)
			if err != nil {
				t.Fatalf("Open left the TCP port open: %v", err)
			}
			l.Close()
		})
	}
}

// The beacons of other agents hold the number for their group. They neither
// keep us from it, nor are kept from it by us.
func TestWildcardSharesItsNumberWithBeacons(t *testing.T) {
	for _, wildcard := range []string{"0.0.0.0", "[::]"} {
		t.Run(wildcard, func(t *testing.T) {
			group := beacon(t, 0)
			number := ":" + strconv.Itoa(group)
			for !tcpIsFree(t, number) {
				group = beacon(t, 0)
				number = ":" + strconv.Itoa(group)
			}
			p, err := port.Open(t.Context(), port.Config{Bind: wildcard + number, Strict: true})
			if errors.Is(err, syscall.EAFNOSUPPORT) {
				t.Skip("no IPv6 here:", err)
			}
			if err != nil {
				t.Fatalf("Open beside a beacon = %v", err)
			}
			defer p.Close()
			beacon(t, group)

			_, err = port.Open(t.Context(), port.Config{Bind: wildcard + number, Strict: true})
			if !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("second Open beside beacons = %v, want %v", err, syscall.EADDRINUSE)
			}
			sender, err := net.Dial("udp", "127.0.0.1"+number)
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			io.WriteString(sender, "for us")
			b := make([]byte, 10)
			if n, _, err := p.Packets().ReadFrom(b); err != nil || string(b[:n]) != "for us" {
				t.Errorf("ReadFrom = %q, %v", b[:n], err)
			}
		})
	}
}

func TestKernelsDropsAreCounted(t *testing.T) {
	p := open(t, port.Config{Bind: "127.0.0.1:0"})
	if err := p.Packets().(*net.UDPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	sender, err := net.Dial("udp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	for range 1000 {
		if _, err := sender.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.Stats().PacketsDropped; got == 0 || got >= 1000 {
		t.Errorf("PacketsDropped = %d of 1000 packets into a full buffer", got)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := port.Machine.Dial(ctx, "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial = %v, want %v", err, context.Canceled)
	}
}
