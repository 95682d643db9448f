//go:build linux

package test

import (
	"bytes"
	"compress/lzw"
	"context"
	enc "encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// Attacks by packets of gossip. Numbers such as A1 are those of the attacks that
// were known of memberlist, as in membership/attack_test.go.
func init() {
	attacks["accuse"] = (*attacker).accuse
	attacks["poison"] = (*attacker).poison
	attacks["bomb"] = (*attacker).bomb
	attacks["reflect"] = (*attacker).reflect
	attacks["flood"] = (*attacker).flood
	attacks["spoof"] = (*attacker).spoof
}

// The types of memberlist's messages.
const (
	gossipPing, gossipIndirectPing, gossipAck, gossipSuspect, gossipAlive, gossipDead = 0, 1, 2, 3, 4, 5
	gossipPushPull, gossipCompound, gossipUser, gossipCompress, gossipEncrypt         = 6, 7, 8, 9, 10
	gossipLabel                                                                       = 244
)

// gossipMessage is one of memberlist's.
func gossipMessage(kind byte, fields map[string]any) []byte {
	b := bytes.NewBuffer([]byte{kind})
	if err := codec.NewEncoder(b, &codec.MsgpackHandle{}).Encode(fields); err != nil {
		panic(err) // only for what no message has
	}
	return b.Bytes()
}

// labelled puts the cluster's label in front, as of every packet and stream.
func (o *orders) labelled(b []byte) []byte {
	label := "scagent/" + o.Cluster
	return append(append([]byte{gossipLabel, byte(len(label))}, label...), b...)
}

// gossipParts is several messages in one.
func gossipParts(parts ...[]byte) []byte {
	b := []byte{gossipCompound, byte(len(parts))}
	for _, p := range parts {
		b = enc.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return append(b, bytes.Join(parts, nil)...)
}

// nobodyGossip is a name in gossip that no node has.
const nobodyGossip = "zzzzzzzzzzzzzzzzzzzzzzzzzz.1"

// udp opens a socket of the attacker.
func (a *attacker) udp(from string) (*net.UDPConn, error) {
	return net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)})
}

// listen notes all that a socket of the attacker gets to read, until ctx ends.
func (a *attacker) listen(ctx context.Context, what string, c *net.UDPConn) {
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Now()) })
	defer stop()
	b := make([]byte, 65536)
	for {
		n, _, err := c.ReadFromUDPAddrPort(b)
		if unlessFull(err) != nil {
			return
		}
		a.count(what, 1)
		a.hear(b[:n])
	}
}

// toAll sends packets to all victims, so many times a second, and notes what is
// answered.
func (a *attacker) toAll(ctx context.Context, what string, perSecond int, packet func(i int, v *victim) []byte) error {
	c, err := a.udp(a.From[0])
	if err != nil {
		return err
	}
	defer c.Close()
	go a.listen(ctx, what+" answers", c)
	return pace(ctx, perSecond, func(i int) error {
		for k := range a.Victims {
			v := &a.Victims[k]
			if _, err := c.WriteToUDPAddrPort(packet(i, v), v.Addr); unlessFull(err) != nil {
				return err
			}
			a.count(what, 1)
		}
		return nil
	})
}

// accusations are deaths, suspicions and farewells of a member: A1, A2, A3.
func accusations(v *victim) (all [][]byte) {
	for _, inc := range []uint32{1, 1000, 1 << 31, math.MaxUint32} {
		for _, from := range []string{nobodyGossip, v.Gossip} {
			for _, kind := range []byte{gossipDead, gossipSuspect} {
				all = append(all, gossipMessage(kind, map[string]any{"Incarnation": inc, "Node": v.Gossip, "From": from}))
			}
		}
	}
	bye := append([]byte{gossipUser, 3, byte(len(v.Gossip))}, v.Gossip...) // a farewell of our own kind
	bye = append(enc.BigEndian.AppendUint64(bye, rand.Uint64()), v.Gossip...)
	return append(all, bye)
}

func (a *attacker) accuse(ctx context.Context) error {
	return a.toAll(ctx, "accusations", 20, func(i int, _ *victim) []byte {
		all := accusations(&a.Victims[i%len(a.Victims)])
		if i%10 == 0 {
			return a.labelled(gossipParts(all...))
		}
		return a.labelled(all[i/len(a.Victims)%len(all)])
	})
}

// poison announces nodes that are not: of impossible versions, metadata, names and
// addresses (A7, A14), members at the attacker's address, and ghosts.
func (a *attacker) poison(ctx context.Context) error {
	me := netip.MustParseAddr(a.From[0]).AsSlice()
	meta := []byte{1, 1, 1, 1, 0, 5, 'g', 'h', 'o', 's', 't', 1, 'v', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	good := []byte{1, 5, 2, 1, 1, 1}
	return a.toAll(ctx, "announcements", 20, func(i int, v *victim) []byte {
		f := map[string]any{"Incarnation": uint32(1 << 30), "Node": nobodyGossip, "Addr": me, "Port": uint16(44201), "Meta": meta, "Vsn": good}
		switch i % 8 {
		case 0:
			f["Vsn"] = []byte{1, 5, 2, 200, 250, 200}
		case 1:
			f["Meta"] = make([]byte, 1000)
		case 2:
			f["Node"] = "evil\x1b[2J\nname." + strings.Repeat("x", 20)
		case 3:
			f["Node"] = strings.Repeat("n", 1200)
		case 4:
			f["Addr"] = []byte{224, 0, 0, 1}
		case 5:
			f["Addr"] = []byte{8, 8, 8, 8}
		case 6:
			f["Node"] = v.Gossip // moved to the attacker
		case 7:
			f["Node"] = ghost(i) + ".1"
			f["Meta"] = append([]byte(nil), meta...)
		}
		return a.labelled(gossipMessage(gossipAlive, f))
	})
}

// ghost is the id of a node that is not.
func ghost(i int) string {
	b := []byte(strings.Repeat("g", 26))
	for at := 25; i > 0; at-- {
		b[at], i = byte('a'+i%26), i/26
	}
	return string(b)
}

// bomb sends what becomes large, deep or endless when it is unpacked: A4.
func (a *attacker) bomb(ctx context.Context) error {
	pack := func(n int) []byte {
		var packed bytes.Buffer
		w := lzw.NewWriter(&packed, lzw.LSB, 8)
		w.Write(make([]byte, n))
		w.Close()
		return gossipMessage(gossipCompress, map[string]any{"Algo": uint8(0), "Buf": packed.Bytes()})
	}
	nest := []byte{gossipAck}
	for range 400 {
		nest = gossipParts(nest)
	}
	bombs := [][]byte{
		pack(39 << 20), pack(1 << 20), pack(1000), gossipParts(pack(1000)), nest, {gossipCompound, 255}, {gossipCompound, 1, 255, 255, 0},
		{gossipPing, 0xdf, 0xff, 0xff, 0xff, 0xff}, {gossipPing, 0x81, 0xdb, 0xff, 0xff, 0xff, 0xff}, {gossipEncrypt, 1, 0x3f, 0xff, 0xff}, {},
	}
	return a.toAll(ctx, "bombs", 50, func(i int, _ *victim) []byte { return a.labelled(bombs[i%len(bombs)]) })
}

// reflect asks for answers that go to a third party, which is another address of
// the attacker's own: A11.
func (a *attacker) reflect(ctx context.Context) error {
	third, err := a.udp(a.From[1])
	if err != nil {
		return err
	}
	defer third.Close()
	go a.listen(ctx, "packets to the third party", third)
	at := third.LocalAddr().(*net.UDPAddr).AddrPort()
	return a.toAll(ctx, "pings", 20, func(i int, v *victim) []byte {
		f := map[string]any{"SeqNo": uint32(i), "Node": v.Gossip, "SourceAddr": at.Addr().AsSlice(), "SourcePort": at.Port(), "SourceNode": nobodyGossip}
		if i%2 == 0 {
			return a.labelled(gossipMessage(gossipPing, f))
		}
		f["Target"], f["Port"], f["Nack"] = at.Addr().AsSlice(), at.Port(), true
		return a.labelled(gossipMessage(gossipIndirectPing, f))
	})
}

// flood sends as many packets as are taken from each source, from so many sources
// that the sum is more than is taken at all.
func (a *attacker) flood(ctx context.Context) error {
	const sources, each = 80, 250 // packets a second
	var from []*net.UDPConn
	for i := range sources {
		c, err := a.udp(a.From[i%len(a.From)])
		if err != nil {
			return err
		}
		defer c.Close()
		from = append(from, c)
	}
	junk := a.labelled(gossipMessage(gossipAck, map[string]any{"SeqNo": uint32(7), "Payload": []byte("x")}))
	return pace(ctx, sources*each, func(i int) error {
		_, err := from[i%sources].WriteToUDPAddrPort(junk, a.Victims[0].Addr)
		a.count("flood", 1)
		return unlessFull(err)
	})
}

// spoof sends packets in the names and from the addresses of members: as many that
// nothing more would be taken from these, if addresses were believed.
func (a *attacker) spoof(ctx context.Context) error {
	s, err := openRaw()
	if err != nil {
		return err
	}
	defer s.close()
	n := len(a.Victims)
	return pace(ctx, 2000*n, func(i int) error {
		from, to := &a.Victims[i%n], &a.Victims[(i+1+i/n%(n-1))%n]
		b := []byte(fmt.Sprintf("junk %d", i))
		if i%20 == 0 {
			b = accusations(from)[i/20%17]
		}
		a.count("spoofed", 1)
		return s.send(from.Addr, to.Addr, 255, a.labelled(b))
	})
}
