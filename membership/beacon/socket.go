package beacon

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// socket sends to and receives from one group on one interface.
type socket struct {
	key    socketKey // constant
	conn   net.PacketConn
	v4     *ipv4.PacketConn // one of the two is nil
	v6     *ipv6.PacketConn
	group  *net.UDPAddr // constant
	broken atomic.Bool  // its reader has stopped
}

// openSocket joins the group of k's family on k's interface.
func openSocket(k socketKey, port uint16) (*socket, error) {
	ip, zone := Group4, ""
	if k.src.Is6() {
		ip, zone = Group6, k.name
	}
	group := net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip.WithZone(zone), port))
	conn, err := listenGroup(k, group)
	if err != nil {
		return nil, err
	}
	s := &socket{key: k, conn: conn, group: group}
	if err := s.join(); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// join sets the socket up. That control messages are not to be had (windows) is
// no error: then the TTL of what arrives is not known.
func (s *socket) join() error {
	ifi := &net.Interface{Index: s.key.index, Name: s.key.name}
	var steps []func() error
	if s.key.src.Is4() {
		s.v4 = ipv4.NewPacketConn(s.conn)
		steps = []func() error{
			func() error { return s.v4.JoinGroup(ifi, s.group) },
			func() error { return s.v4.SetMulticastInterface(ifi) },
			func() error { return s.v4.SetMulticastTTL(255) },
			func() error { return s.v4.SetMulticastLoopback(true) },
		}
		_ = s.v4.SetControlMessage(ipv4.FlagTTL|ipv4.FlagInterface, true)
	} else {
		s.v6 = ipv6.NewPacketConn(s.conn)
		steps = []func() error{
			func() error { return s.v6.JoinGroup(ifi, s.group) },
			func() error { return s.v6.SetMulticastInterface(ifi) },
			func() error { return s.v6.SetMulticastHopLimit(255) },
			func() error { return s.v6.SetMulticastLoopback(true) },
		}
		_ = s.v6.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("join %v from %v: %w", s.group, s.key.src, err)
		}
	}
	return nil
}

// send sends b to the group. The source is given, because the kernel has none
// of its own for the loopback interface.
func (s *socket) send(b []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	var err error
	if s.v4 != nil {
		_, err = s.v4.WriteTo(b, &ipv4.ControlMessage{Src: s.key.src.AsSlice(), IfIndex: s.key.index}, s.group)
	} else {
		_, err = s.v6.WriteTo(b, &ipv6.ControlMessage{Src: s.key.src.AsSlice(), IfIndex: s.key.index}, s.group)
	}
	return err
}

// receive waits for a datagram. from is not valid for one to be ignored: it
// came in by an interface that has a socket of its own. ttl is 0 if not known.
func (s *socket) receive(b []byte) (n int, from netip.Addr, ttl int, err error) {
	var src net.Addr
	index := 0
	if s.v4 != nil {
		var cm *ipv4.ControlMessage
		if n, cm, src, err = s.v4.ReadFrom(b); cm != nil {
			ttl, index = cm.TTL, cm.IfIndex
		}
	} else {
		var cm *ipv6.ControlMessage
		if n, cm, src, err = s.v6.ReadFrom(b); cm != nil {
			ttl, index = cm.HopLimit, cm.IfIndex
		}
	}
	if u, ok := src.(*net.UDPAddr); ok && err == nil && (index == 0 || index == s.key.index) {
		from = u.AddrPort().Addr().Unmap()
	}
	return n, from, ttl, err
}

func (s *socket) close() { s.conn.Close() }
