package membership

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"github.com/hashicorp/memberlist"
)

const (
	minPacketBytes = 2
	maxPacketBytes = 1500
)

// Incarnations that are believed. memberlist's own grow by one now and then. An
// accusation makes the accused answer with the incarnation of the accusation
// plus one, so what may be announced goes further than what may be accused: no
// accusation exists that cannot be answered, and no number here can wrap.
const (
	maxAccusedIncarnation   = 1 << 31
	maxAnnouncedIncarnation = 1<<31 + 1<<30
)

// guard decides what memberlist gets to see. It is constant, and its functions
// are safe for concurrent use.
type guard struct {
	label []byte // header and label, as they begin each packet and stream
	vsn   []byte // protocol versions that a node must speak
	// known returns the address of the member with a name in gossip.
	known func(name string) (netip.AddrPort, bool)
	// rumour is told of suspicions that memberlist has taken up, and of signs of
	// life, whether it has or not. from is who had the suspicion.
	rumour func(k kind, name, from []byte, incarnation uint32)
}

func newGuard(conf *memberlist.Config, known func(string) (netip.AddrPort, bool), rumour func(k kind, name, from []byte, incarnation uint32)) *guard {
	label := append([]byte{byte(kindLabel), byte(len(conf.Label))}, conf.Label...)
	return &guard{label: label, vsn: conf.BuildVsnArray(), known: known, rumour: rumour}
}

// packet checks a packet that came from a source, and returns what memberlist
// shall read, which shares b, or a refusal.
//
// Two things are changed on the way. A checksum is checked and taken off. And
// nobody gets to say that a node has left by forging its farewell: memberlist
// would not even ask it (a node that left is not gossiped to), so such a message
// becomes an accusation by another, which the node can answer. That a node has
// left is said by leave messages of our own, see roster.
func (g *guard) packet(b []byte, from netip.AddrPort) ([]byte, error) {
	if len(b) < minPacketBytes || len(b) > maxPacketBytes {
		return nil, refusal(reasonSize)
	}
	body, ok := bytes.CutPrefix(b, g.label)
	if !ok {
		return nil, refusal(reasonLabel)
	}
	if len(body) >= 5 && kind(body[0]) == kindCRC {
		if crc32.ChecksumIEEE(body[5:]) != binary.BigEndian.Uint32(body[1:]) {
			return nil, refusal(reasonChecksum)
		}
		n := copy(body, body[5:])
		body = body[:n]
	}
	var err error
	if len(body) > 0 && kind(body[0]) == kindCompound {
		var refused error
		err = compoundParts(body[1:], func(part []byte) error {
			refused = g.message(part, from)
			return refused
		})
		if err != nil && refused == nil {
			err = refusal(reasonForm)
		}
	} else {
		err = g.message(body, from)
	}
	if err != nil {
		return nil, err
	}
	return b[:len(g.label)+len(body)], nil
}

// message checks one message that is not made of others.
func (g *guard) message(b []byte, from netip.AddrPort) error {
	if len(b) == 0 {
		return refusal(reasonForm)
	}
	switch body := b[1:]; kind(b[0]) {
	case kindPing:
		m, err := parseAll(body, pingFields)
		if err != nil {
			return err
		}
		return g.ping(&m, from)
	case kindIndirectPing:
		m, err := parseAll(body, indirectPingFields)
		if err != nil {
			return err
		}
		// Whoever asks for a ping may point at members only.
		if at, ok := g.known(string(m.node)); !ok || at != addrPort(m.target, m.port) {
			return refusal(reasonTarget)
		}
		return g.ping(&m, from)
	case kindAck:
		_, err := parseAll(body, ackFields)
		return err
	case kindNack:
		_, err := parseAll(body, nackFields)
		return err
	case kindSuspect, kindDead:
		m, err := parseAll(body, accusationFields)
		if err != nil {
			return err
		}
		if m.incarnation > maxAccusedIncarnation {
			return refusal(reasonIncarnation)
		}
		if !validGossipName(m.node) || !validGossipName(m.from) {
			return refusal(reasonName)
		}
		if kind(b[0]) == kindDead && bytes.Equal(m.node, m.from) {
			disown(m.from)
		}
		return nil
	case kindAlive:
		m, err := parseAll(body, aliveFields)
		if err != nil {
			return err
		}
		if err := g.announcement(m.node, &m); err != nil {
			return err
		}
		g.heard(m.node, &m)
		return nil
	case kindUser:
		return nil // ours to read, see message.go
	default:
		return refusal(reasonType)
	}
}

// ping checks who is to be answered: the sender of the packet, or the member
// that it says it is.
func (g *guard) ping(m *message, from netip.AddrPort) error {
	if !validGossipName(m.node) || !validGossipName(m.sourceNode) {
		return refusal(reasonName)
	}
	if len(m.sourceAddr) == 0 || m.sourcePort == 0 {
		return nil // memberlist answers the sender
	}
	back := addrPort(m.sourceAddr, m.sourcePort)
	if back == from {
		return nil
	}
	if at, ok := g.known(string(m.sourceNode)); ok && at == back {
		return nil
	}
	return refusal(reasonSource)
}

// announcement checks what is said about a node that is alive. The metadata's
// contents and the address are checked in NotifyAlive.
func (g *guard) announcement(name []byte, m *message) error {
	switch {
	case m.incarnation > maxAnnouncedIncarnation:
		return refusal(reasonIncarnation)
	case !validGossipName(name):
		return refusal(reasonName)
	case len(m.meta) > memberlist.MetaMaxSize:
		return refusal(reasonMeta)
	case !bytes.Equal(m.vsn, g.vsn):
		return refusal(reasonVersion)
	case !addrPort(m.addr, m.port).IsValid() || m.port == 0:
		return refusal(reasonAddress)
	}
	return nil
}

// heard passes on a sign of life that memberlist is about to read.
func (g *guard) heard(name []byte, m *message) { g.rumour(kindAlive, name, nil, uint32(m.incarnation)) }

// disown turns the name of a sender into that of nobody, in place.
func disown(name []byte) {
	if name[0] == 'a' {
		name[0] = 'b'
	} else {
		name[0] = 'a'
	}
}

// parseAll parses a message that must end where b ends.
func parseAll(b []byte, want field) (message, error) {
	m, rest, err := parse(b, want)
	if err != nil || len(rest) > 0 {
		return m, refusal(reasonForm)
	}
	return m, nil
}

// addrPort returns an address in the one form in which addresses compare; an
// invalid one when ip is no address.
func addrPort(ip []byte, port uint64) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), uint16(port))
}

// suspicions tells of each suspicion in a packet that memberlist sends. It sends
// on what it has taken up itself, so this shows its opinion of a member, which it
// tells nobody otherwise. That an opinion has changed for the better is read off
// what comes in (see heard): memberlist believes any higher incarnation, but does
// not always send it on, since a broadcast in its queue can replace an unrelated
// one of the same length.
func (g *guard) suspicions(b []byte) {
	body, _ := bytes.CutPrefix(b, g.label)
	if len(body) >= 5 && kind(body[0]) == kindCRC {
		body = body[5:]
	}
	one := func(part []byte) error {
		if len(part) > 0 && kind(part[0]) == kindSuspect {
			if m, err := parseAll(part[1:], accusationFields); err == nil {
				g.rumour(kindSuspect, m.node, m.from, uint32(m.incarnation))
			}
		}
		return nil
	}
	if len(body) > 0 && kind(body[0]) == kindCompound {
		compoundParts(body[1:], one) // one never fails; memberlist writes good ones
		return
	}
	one(body)
}
