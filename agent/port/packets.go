package port

import (
	"net"
	"net/netip"
	"sync/atomic"
)

// packetFilter lets only those packets through that the Port's configuration
// allows: the rest is counted and never seen by who reads.
type packetFilter struct {
	net.PacketConn
	allow  func(netip.Addr) bool // nil: all
	direct bool                  // demand that no router lies between
	counts *counts
}

// ReadFrom returns the next packet that is allowed.
func (f *packetFilter) ReadFrom(b []byte) (int, net.Addr, error) {
	u, ok := f.PacketConn.(*net.UDPConn)
	if !ok { // a network for tests, which has no hops
		for {
			n, from, err := f.PacketConn.ReadFrom(b)
			if err != nil || f.admits(addrPortOf(from).Addr(), 0, false) {
				return n, from, err
			}
		}
	}
	var control [controlBytes]byte
	for {
		n, c, _, from, err := u.ReadMsgUDPAddrPort(b, control[:])
		if err != nil {
			return n, nil, err
		}
		hops, known := packetHops(control[:c])
		if f.admits(from.Addr(), hops, known) {
			return n, net.UDPAddrFromAddrPort(from), nil
		}
	}
}

func (f *packetFilter) admits(from netip.Addr, hops int, known bool) bool {
	switch {
	case f.allow != nil && !f.allow(from):
		f.counts.packets[RefusedOffLink].Add(1)
	case f.direct && known && hops != fullHops:
		f.counts.packets[RefusedHops].Add(1)
	default:
		return true
	}
	return false
}

// packetCounts are packets that were refused, by reason.
type packetCounts [reasons]atomic.Uint64
