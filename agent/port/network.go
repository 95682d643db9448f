package port

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Network is where sockets come from: Machine, or a host of package memnet.
type Network interface {
	// Listen opens TCP and UDP of one number at addr, "ip:port". Port 0 is any
	// number that is free for both. A taken one is syscall.EADDRINUSE.
	Listen(ctx context.Context, addr string) (net.Listener, net.PacketConn, error)

	// Dial connects to addr, "ip:port", over TCP.
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// Machine is the network of this machine.
var Machine Network = machine{}

const (
	// fullHops is the TTL or hop limit of what is sent: the largest there is, so
	// that a receiver who sees it knows that no router has touched the packet.
	fullHops = 255

	// packetBufferBytes is asked of the system for packets not read yet. A pool
	// that changes sends in bursts; what does not fit is dropped.
	packetBufferBytes = 2 << 20

	// freeTries is how many free TCP ports are tried for one whose UDP port is
	// free as well.
	freeTries = 32
)

type machine struct{}

func (machine) Listen(ctx context.Context, addr string) (net.Listener, net.PacketConn, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %q: want ip:port", addr)
	}
	for try := 1; ; try++ {
		tcp, packets, err := listenPair(ctx, ap)
		if err != nil && ap.Port() == 0 && isTaken(err) && try < freeTries {
			continue
		}
		return tcp, packets, err
	}
}

// listenPair opens TCP first: who holds that owns the UDP port of the number.
func listenPair(ctx context.Context, ap netip.AddrPort) (net.Listener, net.PacketConn, error) {
	config := net.ListenConfig{
		Control:         control(listenOptions),
		KeepAliveConfig: net.KeepAliveConfig{Enable: true},
	}
	config.SetMultipathTCP(false) // its sockets save no SYN, and nothing here uses two paths
	tcp, err := config.Listen(ctx, family("tcp", ap.Addr()), ap.String())
	if err != nil {
		return nil, nil, err
	}
	packets, err := listenUDP(ctx, netip.AddrPortFrom(ap.Addr(), addrPortOf(tcp.Addr()).Port()))
	if err != nil {
		tcp.Close()
		return nil, nil, err
	}
	return tcp, packets, nil
}

// listenUDP opens the UDP socket of ap. For an unspecified address it first
// makes sure that no one has the number for unicast: see the package comment.
func listenUDP(ctx context.Context, ap netip.AddrPort) (net.PacketConn, error) {
	options := packetOptions
	if ap.Addr().IsUnspecified() && wildcardSharesPort {
		for _, loopback := range loopbacks(ap.Addr()) {
			probe := netip.AddrPortFrom(loopback, ap.Port())
			c, err := (&net.ListenConfig{}).ListenPacket(ctx, family("udp", loopback), probe.String())
			if err == nil {
				c.Close()
			} else if isTaken(err) {
				return nil, err
			}
		}
		options = sharedPacketOptions
	}
	config := net.ListenConfig{Control: control(options)}
	c, err := config.ListenPacket(ctx, family("udp", ap.Addr()), ap.String())
	if err != nil {
		return nil, err
	}
	if u, ok := c.(*net.UDPConn); ok {
		_ = u.SetReadBuffer(packetBufferBytes) // as much as the system grants
	}
	return c, nil
}

func (machine) Dial(ctx context.Context, addr string) (net.Conn, error) {
	dialer := net.Dialer{
		Control:         control(dialOptions),
		KeepAliveConfig: net.KeepAliveConfig{Enable: true},
	}
	dialer.SetMultipathTCP(false)
	return dialer.DialContext(ctx, "tcp", addr)
}

// family is the name of proto for addr: IPv4 alone, IPv6 alone, or both for [::].
func family(proto string, addr netip.Addr) string {
	switch {
	case addr.Is4() || addr.Is4In6():
		return proto + "4"
	case addr.IsUnspecified():
		return proto
	}
	return proto + "6"
}

// loopbacks returns the loopback addresses that a wildcard address covers.
func loopbacks(wildcard netip.Addr) []netip.Addr {
	v4 := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if wildcard.Is4() {
		return []netip.Addr{v4}
	}
	return []netip.Addr{v4, netip.IPv6Loopback()}
}

// control turns a function that sets options into what net wants. ipv6 is the
// family of the socket; such a socket may still talk IPv4.
func control(set func(fd uintptr, ipv6 bool) error) func(string, string, syscall.RawConn) error {
	return func(network, _ string, raw syscall.RawConn) error {
		var setErr error
		err := raw.Control(func(fd uintptr) {
			setErr = set(fd, network[len(network)-1] == '6')
		})
		if err != nil {
			return err
		}
		return setErr
	}
}
