package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/seal"
	"github.com/scagent/scagent/tasks/wire"
)

// The posture of an agent is who may reach it and whom it reaches:
//
//   - open: no secret. Whoever is on a network of this host, see port.Neighbours.
//   - insecure: no secret, and everybody, because Config.Insecure asks for it.
//   - secured: whoever proves that it has the secret, wherever it is.

// openPosture settles the posture. It needs the home and the identity, and may
// change both the node's id (an own PKI's key makes it) and its roles (who has a
// worker token is no master).
func (a *Agent) openPosture() error {
	if a.cfg.SecretFile == "" {
		if a.cfg.PKI != nil {
			return errors.New("-tls-ca, -tls-cert and -tls-key need a secret too, for gossip and beacon; make one with: scagent secret new")
		}
		if !a.cfg.Insecure && a.cfg.Network == port.Machine { // other networks are tests' own
			a.neighbours = port.NewNeighbours(a.cfg.Iface)
		}
		return nil
	}
	if a.cfg.Insecure {
		return errors.New("-insecure and a secret exclude each other; leave one out")
	}
	chain, err := a.loadSecret()
	if err != nil {
		return err
	}
	hosts := []string{a.name, "localhost"}
	if addr, err := a.cfg.advertise(netip.AddrPort{}); a.cfg.Advertise != "" && err == nil {
		hosts = append(hosts, addr.Addr().String())
	}
	a.keys, err = secret.NewKeyring(secret.Config{Chain: chain, Key: a.id.key, PKI: a.cfg.PKI, Hosts: hosts})
	if err != nil {
		return err
	}
	a.id.id = a.keys.Node()
	if !a.keys.Submits() {
		a.cfg.Roles = slices.DeleteFunc(slices.Clone(a.cfg.Roles), func(r membership.Role) bool { return r == membership.RoleMaster })
		if len(a.cfg.Roles) == 0 {
			return ErrWorkerToken
		}
	}
	return nil
}

// posture names it.
func (a *Agent) posture() string {
	switch {
	case a.keys != nil:
		return "secured"
	case a.cfg.Insecure:
		return "insecure"
	}
	return "open"
}

// reach settles the address under which others reach this node.
func (a *Agent) reach() (netip.AddrPort, error) {
	addr, err := a.cfg.advertise(a.port.Addr())
	if err != nil || a.neighbours == nil {
		return addr, err
	}
	err = a.neighbours.CheckOwn(addr.Addr())
	switch {
	case err == nil:
		return addr, nil
	case a.cfg.Advertise != "":
		return netip.AddrPort{}, fmt.Errorf("-advertise: %w", err)
	}
	// Nobody asked for that address, and nobody else could be talked to under it.
	a.cfg.Logger.Printf("[WARN] agent: without a secret only agents on this host are reached: %v", err)
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if bound := a.port.Addr().Addr(); !bound.IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("-bind: %w", err)
	}
	return netip.AddrPortFrom(loopback, addr.Port()), nil
}

// checkSeeds refuses, in the open posture, addresses to join at that can be seen
// to be elsewhere, and with a secret trackers that are not asked over TLS. Of names
// it is seen when they are dialled.
func (a *Agent) checkSeeds(addrs []string) error {
	for _, s := range addrs {
		if a.keys != nil && strings.HasPrefix(strings.ToLower(s), "http://") {
			return fmt.Errorf("join %s: with a secret, what a tracker is told must not travel in clear; use https", s)
		}
		if a.neighbours == nil {
			continue
		}
		host := s
		if h, _, err := net.SplitHostPort(s); err == nil {
			host = h
		}
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if err != nil {
			continue
		}
		if err := a.neighbours.Check(ip); err != nil {
			return fmt.Errorf("join %s: %w", s, err)
		}
	}
	return nil
}

// portConfig adds to the port's configuration who may arrive.
func (a *Agent) portConfig(c *port.Config) {
	switch {
	case a.keys != nil:
		c.TLS = a.keys.Server(port.SortGossip.ALPN(), port.SortLink.ALPN(), port.SortHTTP.ALPN())
	case a.neighbours != nil:
		c.Allow, c.DirectOnly = a.neighbours.Has, true
	}
}

// dial opens a connection of a sort to an address, at which the node with the id
// is expected; an empty one expects any.
func (a *Agent) dial(ctx context.Context, sort port.Sort, node, addr string) (net.Conn, error) {
	if a.neighbours != nil {
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, fmt.Errorf("dial %s: want ip:port", addr)
		}
		if err := a.neighbours.Check(to.Addr()); err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
	}
	var client *tls.Config
	if a.keys != nil {
		client = a.keys.Client(sort.ALPN(), node)
	}
	return a.port.DialAs(ctx, sort, addr, client)
}

// checkLink says what the node at the other end of a link may send.
func (a *Agent) checkLink(c net.Conn, peer wire.Hello) (wire.Rights, error) {
	if a.keys == nil {
		return wire.AllRights, nil
	}
	p, err := a.keys.PeerOf(c)
	switch {
	case err != nil:
		return 0, err
	case p.Node != peer.Node:
		return 0, fmt.Errorf("it says it is node %s, its certificate is node %s's", peer.Node, p.Node)
	case p.Submit:
		return wire.AllRights, nil
	}
	return wire.Work, nil
}

// gossipKeys are those of the keyring as gossip wants them; nil in other postures.
func (a *Agent) gossipKeys() func() []seal.Key {
	if a.keys == nil {
		return nil
	}
	return func() []seal.Key {
		own := a.keys.GossipKeys()
		keys := make([]seal.Key, len(own))
		for i, k := range own {
			keys[i] = seal.Key{Tag: k.Tag, Secret: k.Secret}
		}
		return keys
	}
}

// allow says which addresses members may announce.
func (a *Agent) allow() func(netip.Addr) error {
	if a.neighbours == nil {
		return nil
	}
	return a.neighbours.Check
}

// leavesLAN refuses connections of a net.Dialer that go beyond the LAN. The
// address is resolved already.
func (a *Agent) leavesLAN(_, addr string, _ syscall.RawConn) error {
	if a.neighbours == nil {
		return nil
	}
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	return a.neighbours.Check(to.Addr().Unmap())
}
