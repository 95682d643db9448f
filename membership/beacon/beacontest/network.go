// Package beacontest is a multicast network in memory, for tests of beacons and
// of what embeds them, also in testing/synctest bubbles.
package beacontest

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/scagent/scagent/membership/beacon"
)

// queue is how many datagrams wait for a node, about as many as in a kernel.
const queue = 256

// Network carries announcements between the nodes that share it, at once and in
// order. The source of what a node sends is the address it advertised when it
// was started. A node that does not take its datagrams loses those beyond 256.
// Networks are made with New.
type Network struct {
	// mu guards the fields below. Nothing blocks while it is held.
	mu    sync.Mutex
	nodes map[*conn]bool
	reach func(from, to netip.Addr) bool // nil: everyone
	sent  int
	lost  int
}

// New returns a network without nodes.
func New() *Network { return &Network{nodes: make(map[*conn]bool)} }

// Open implements beacon.Network.
func (n *Network) Open(o beacon.Options) (beacon.Conn, error) {
	c := &conn{net: n, addr: o.Addr.Addr(), in: make(chan beacon.Packet, queue)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[c] = true
	return c, nil
}

// SetReach makes the network ask for every datagram and receiver whether it
// gets there; nil lets everything through. The function is called with a lock
// held: it must not call the Network.
func (n *Network) SetReach(reach func(from, to netip.Addr) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reach = reach
}

// Inject hands a datagram to every node, as if it came from outside.
func (n *Network) Inject(p beacon.Packet) {
	p.Data = slices.Clone(p.Data)
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.nodes {
		n.deliver(c, p)
	}
}

// Sent returns how many datagrams nodes have sent.
func (n *Network) Sent() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

// Lost returns how many copies were lost because their receiver was slow.
func (n *Network) Lost() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}

func (n *Network) deliver(c *conn, p beacon.Packet) {
	select {
	case c.in <- p:
	default:
		n.lost++
	}
}

// conn is a node's membership in the group.
type conn struct {
	net  *Network           // constant
	addr netip.Addr         // constant
	in   chan beacon.Packet // sent to under net.mu
}

func (c *conn) Send(b []byte) error {
	n := c.net
	b = slices.Clone(b)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.nodes[c] {
		return net.ErrClosed
	}
	if len(b) > beacon.MaxMapBytes {
		return errors.New("datagram is too long")
	}
	n.sent++
	for to := range n.nodes {
		if n.reach == nil || n.reach(c.addr, to.addr) {
			n.deliver(to, beacon.Packet{Data: b, From: c.addr, TTL: 255, Local: to.addr == c.addr})
		}
	}
	return nil
}

func (c *conn) Receive() <-chan beacon.Packet { return c.in }

func (c *conn) OnLink(netip.Addr) bool { return true }

func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	delete(c.net.nodes, c)
	return nil
}
