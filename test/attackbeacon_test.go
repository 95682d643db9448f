//go:build linux

package test

import (
	"context"
	"crypto/sha256"
	enc "encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// Attacks by multicast, and by what is heard on the network.
func init() {
	attacks["beacon"] = (*attacker).beacon
	attacks["replay"] = (*attacker).replay
}

var beaconGroup = netip.MustParseAddrPort("224.0.0.234:44201")

// announcement is that of a node as agents without a secret send it; see package
// membership/beacon.
func (o *orders) announcement(flags byte, seq uint64, at netip.AddrPort, node, boot, name string) []byte {
	tag := sha256.Sum256([]byte("scagent beacon cluster\x00" + o.Cluster))
	b := append([]byte("\x5c\xa6BC\x01"), flags)
	b = append(b, tag[:8]...)
	b = enc.BigEndian.AppendUint64(b, seq)
	b = enc.BigEndian.AppendUint16(b, at.Port())
	for _, s := range []string{string(at.Addr().AsSlice()), node, boot, name} {
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// beacon announces nodes that are not, members that are elsewhere, services, and
// nonsense, from own addresses and from those of members.
func (a *attacker) beacon(ctx context.Context) error {
	s, err := openRaw()
	if err != nil {
		return err
	}
	defer s.close()
	me := netip.AddrPortFrom(netip.MustParseAddr(a.From[0]), 44201)
	return pace(ctx, 100, func(i int) error {
		v := &a.Victims[i%len(a.Victims)]
		from, b := me, []byte(nil)
		switch i % 8 {
		case 0: // a node that is not
			b = a.announcement(2, 1, me, ghost(i), "1", "ghost")
		case 1: // one that is everywhere
			b = a.announcement(2, uint64(i), v.Addr, ghost(i), "1", "ghost")
		case 2: // a member, started anew, at the attacker's
			b = a.announcement(2, uint64(i), me, v.ID, "zzzzzzzz", "moved")
		case 3: // a member, from its own address
			from, b = v.Addr, a.announcement(0, 1<<60, v.Addr, v.ID, "zzzzzzzz", "moved")
		case 4: // signed with nothing
			b = append(a.announcement(1, uint64(i), me, v.ID, "zzzzzzzz", "signed"), make([]byte, 16)...)
		case 5: // services
			b = []byte(fmt.Sprintf(`{"s%d":{"id":"s%d","name":"worker","data":{"port":9},"available":true}}`, i%2000, i%2000))
		case 6:
			b = []byte("{}")
		case 7:
			b = make([]byte, 1+rand.IntN(1400))
			for k := range b {
				b[k] = byte(rand.Uint32())
			}
		}
		a.count("beacons", 1)
		return s.send(from, beaconGroup, 255, b)
	})
}

// replay hears what passes on the network, notes it, and sends it again: at once
// and later, to whom it was for and to others, as its sender and as itself.
func (a *attacker) replay(ctx context.Context) error {
	in, err := openSniffer("eth0")
	if err != nil {
		return err
	}
	defer in.close()
	out, err := openRaw()
	if err != nil {
		return err
	}
	defer out.close()
	me := netip.AddrPortFrom(netip.MustParseAddr(a.From[0]), 44201)
	var kept []datagram
	for ctx.Err() == nil {
		p, ok := in.next(a)
		if !ok || p.to.Port() != 44201 && p.from.Port() != 44201 {
			continue
		}
		a.count("packets overheard", 1)
		if len(kept) < 5000 {
			kept = append(kept, p)
		}
		old := kept[rand.IntN(len(kept))]
		for _, again := range []datagram{p, old, {p.from, a.Victims[rand.IntN(len(a.Victims))].Addr, old.payload}, {me, old.to, old.payload}} {
			a.count("packets replayed", 1)
			if err := out.send(again.from, again.to, 255, again.payload); err != nil {
				return err
			}
		}
	}
	return nil
}
