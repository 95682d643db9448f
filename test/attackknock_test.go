//go:build linux

package test

import (
	"context"
	enc "encoding/binary"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/scagent/scagent/tasks/wire"
)

// Attacks that knock: so many of each kind of packet and connection that their
// numbers can be compared with those of the victims, and then no more. All are
// well formed, so whoever hears them answers.
func init() {
	attacks["knock"] = (*attacker).knock
	attacks["announce"] = (*attacker).announce
}

// knocks is how many there are of each kind for each victim.
const knocks = 40

// knock comes with packets of the attacker's own address and of other members', and
// with connections of every sort.
func (a *attacker) knock(ctx context.Context) error {
	own, err := a.udp(a.From[0])
	if err != nil {
		return err
	}
	defer own.Close()
	go a.listen(ctx, "packets answered", own)
	raw, err := openRaw()
	if err != nil {
		return err
	}
	defer raw.close()
	me := own.LocalAddr().(*net.UDPAddr).AddrPort()
	done, cancel := context.WithCancel(ctx)
	defer cancel()
	err = pace(done, 100, func(i int) error {
		if i == knocks {
			cancel()
			return nil
		}
		for k := range a.Victims {
			v, other := &a.Victims[k], &a.Victims[(k+1)%len(a.Victims)]
			ping := a.ping(i, v, me)
			a.count("packets", 2)
			a.count("forged packets", 2)
			_, err := own.WriteToUDPAddrPort(ping, v.Addr)
			if err == nil {
				_, err = own.WriteToUDPAddrPort(a.announcement(2, uint64(i), me, ghost(i), "1", "ghost"), v.Addr)
			}
			for _, b := range [][]byte{ping, a.labelled(accusations(other)[i%16])} {
				if err == nil {
					err = raw.send(other.Addr, v.Addr, 255, b)
				}
			}
			if unlessFull(err) != nil {
				return err
			}
			for _, c := range []struct{ sort, first string }{
				{"gossip", string(ping)},
				{"link", a.hello(ghost(i))},
				{"http", "GET /hostsAvailable HTTP/1.0\r\n\r\n"},
				{"tls", "\x16\x03\x01"},
			} {
				if i%8 == 0 {
					a.visit(ctx, c.sort, c.first, v)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// What is not to be answered has a moment for that.
	for more := true; more; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
		a.mu.Lock()
		more = a.did["packets answered"] < a.Answers
		a.mu.Unlock()
	}
	return nil
}

// ping is one that v answers.
func (a *attacker) ping(i int, v *victim, me netip.AddrPort) []byte {
	return a.labelled(gossipMessage(gossipPing, map[string]any{
		"SeqNo": uint32(i), "Node": v.Gossip, "SourceAddr": me.Addr().AsSlice(), "SourcePort": me.Port(), "SourceNode": nobodyGossip}))
}

// hello is how a node begins a link; see package tasks/wire.
func (a *attacker) hello(node string) string {
	body := append([]byte{1, 1}, make([]byte, 8)...)
	for _, text := range []string{a.Cluster, node, "1", "attacker"} {
		body = append(append(body, byte(len(text))), text...)
	}
	head := enc.BigEndian.AppendUint32(nil, uint32(len(body)))
	return wire.Preamble + string(head) + "\x01" + string(body)
}

// visit opens a connection, says something, and notes whether that is answered.
func (a *attacker) visit(ctx context.Context, sort, first string, v *victim) {
	a.count(sort+" connections", 1)
	c, err := a.dial(ctx, 0, v)
	if err != nil {
		return
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok { // who does not answer hangs up
		c.SetDeadline(end)
	}
	io.WriteString(c, first)
	if n, _ := c.Read(make([]byte, 1)); n > 0 {
		a.count(sort+" answered", 1)
	}
}

// announce multicasts beacons of its address and of a member's. With a TTL below 255
// it is a router that passes on those of a host elsewhere, which none should: the
// group is one of those that stay on their network.
func (a *attacker) announce(ctx context.Context) error {
	raw, err := openRaw()
	if err != nil {
		return err
	}
	defer raw.close()
	own := netip.AddrPortFrom(netip.MustParseAddr(a.From[0]), 44201)
	for i := range knocks {
		for k, from := range []netip.AddrPort{own, a.Victims[0].Addr} {
			at := netip.AddrPortFrom(from.Addr(), 44299)
			a.count("beacons", 1)
			if err := raw.send(from, beaconGroup, a.TTL, a.announcement(2, 1, at, ghost(2*i+k), "1", "ghost")); err != nil {
				return err
			}
		}
	}
	return nil
}
