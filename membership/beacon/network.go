package beacon

import (
	"log"
	"net/netip"
)

// Network is where announcements travel. Multicast returns the machine's;
// package beacontest has one in memory.
type Network interface {
	// Open joins the group.
	Open(Options) (Conn, error)
}

// Options say how a Network is opened.
type Options struct {
	Addr       netip.AddrPort // what the node advertises
	Interfaces []string       // use only these; none: all
	Logger     *log.Logger    // not nil
}

// Conn is membership in the group. Its methods may be called from any goroutine.
type Conn interface {
	// Send sends a datagram to the group, on every interface. It fails when it
	// went out on none. The Conn does not keep b.
	Send(b []byte) error
	// Receive returns the channel of datagrams, also of those sent by this
	// Conn. It is never closed. Datagrams that are not taken are lost.
	Receive() <-chan Packet
	// OnLink reports whether the address is this host's or of a network that
	// it is attached to.
	OnLink(netip.Addr) bool
	// Close leaves the group and ends what Open started.
	Close() error
}

// Packet is a datagram that was sent to the group.
type Packet struct {
	Data  []byte // not to be changed; one byte longer than MaxBytes, or of a map of services MaxMapBytes, when it was cut there
	From  netip.Addr
	TTL   int  // TTL or hop limit at arrival; 0: not known
	Local bool // it was sent by this host
}
