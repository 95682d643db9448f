package membership

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/scagent/scagent/test/bounds"
)

var (
	alice = gossipName(testID(1), "1")
	bob   = gossipName(testID(2), "1")
	here  = netip.MustParseAddrPort("10.0.0.3:44201")
)

// testGuard knows alice and bob, at 10.0.0.1 and 10.0.0.2.
func testGuard(t testing.TB) *guard {
	t.Helper()
	c := DefaultConfig()
	c.ID, c.Boot, c.Advertise = testID(3), "1", here
	conf, err := c.memberlist()
	if err != nil {
		t.Fatal(err)
	}
	return newGuard(conf, func(name string) (netip.AddrPort, bool) {
		switch name {
		case alice:
			return netip.MustParseAddrPort("10.0.0.1:44201"), true
		case bob:
			return netip.MustParseAddrPort("10.0.0.2:44201"), true
		}
		return netip.AddrPort{}, false
	}, func(kind, []byte, []byte, uint32) {})
}

func goodAlive() wireAlive {
	return wireAlive{1, alice, []byte{10, 0, 0, 1}, 44201, goldenMetas()["digest.hex"].encode(), goodVsn}
}

func withCRC(b []byte) []byte {
	out := append([]byte{byte(kindCRC)}, binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b))...)
	return append(out, b...)
}

func edited[T any](v T, edit func(*T)) T {
	edit(&v)
	return v
}

func TestPackets(t *testing.T) {
	g := testGuard(t)
	from := netip.MustParseAddrPort("10.0.0.1:44201")
	ping := wirePing{1, bob, []byte{10, 0, 0, 1}, 44201, alice}
	indirect := wireIndirectPing{1, []byte{10, 0, 0, 2}, 44201, bob, true, []byte{10, 0, 0, 1}, 44201, alice}
	accused := wireAccusation{1, bob, alice}
	suspect := wire(kindSuspect, accused)
	nested := suspect
	for range 1000 {
		if len(nested) > 60000 {
			break
		}
		nested = compound(nested)
	}
	const none = reason(-1)
	for _, c := range []struct {
		name string
		b    []byte
		want reason
	}{
		{"ping", labelled(wire(kindPing, ping)), none},
		{"ping without a source", labelled(wire(kindPing, wirePing{SeqNo: 1, Node: bob, SourceNode: alice})), none},
		{"ping from a member's own address", labelled(wire(kindPing, edited(ping, func(p *wirePing) { p.SourceAddr, p.SourceNode = []byte{10, 0, 0, 2}, bob }))), none},
		{"indirect ping", labelled(wire(kindIndirectPing, indirect)), none},
		{"ack", labelled(wire(kindAck, wireAck{SeqNo: 1})), none},
		{"nack", labelled(wire(kindNack, wireNack{1})), none},
		{"suspect", labelled(suspect), none},
		{"dead", labelled(wire(kindDead, accused)), none},
		{"alive", labelled(wire(kindAlive, goodAlive())), none},
		{"user message", labelled([]byte{byte(kindUser), 1, 2}), none},
		{"compound", labelled(compound(suspect, wire(kindPing, ping))), none},
		{"with checksum", labelled(withCRC(suspect)), none},
		{"compound with checksum", labelled(withCRC(compound(suspect, suspect))), none},

		{"empty", nil, reasonSize},
		{"one byte", []byte{1}, reasonSize},
		{"too long", make([]byte, maxPacketBytes+1), reasonSize},
		{"label only", labelled(nil), reasonForm},
		{"no label", suspect, reasonLabel},
		{"other label", append([]byte{244, 1, 'x'}, suspect...), reasonLabel},
		{"label cut short", []byte{244, 255, 's'}, reasonLabel},
		{"label twice", labelled(labelled(suspect)), reasonType},
		{"wrong checksum", labelled(append([]byte{12, 1, 2, 3, 4}, suspect...)), reasonChecksum},
		{"checksum twice", labelled(withCRC(withCRC(suspect))), reasonType},
		{"push/pull", labelled([]byte{6, 0x80}), reasonType},
		{"compressed", labelled(wire(kindCompress, wireCompress{})), reasonType},
		{"compressed inside", labelled(compound(suspect, wire(kindCompress, wireCompress{}))), reasonType},
		{"compressed under checksum", labelled(withCRC(wire(kindCompress, wireCompress{}))), reasonType},
		{"encrypted", labelled([]byte{10, 0, 0, 0, 0}), reasonType},
		{"nested compound", labelled(compound(compound(suspect))), reasonType},
		{"deeply nested compound", labelled(nested), reasonSize},
		{"255 parts, no bytes", labelled([]byte{7, 255}), reasonForm},
		{"no parts", labelled(compound()), reasonForm},
		{"empty part", labelled(compound(nil)), reasonForm},
		{"part past the end", labelled([]byte{7, 1, 255, 255, 3}), reasonForm},
		{"bytes after the parts", labelled(append(compound(suspect), 0)), reasonForm},
		{"bytes after the message", labelled(append(slices.Clone(suspect), 0)), reasonForm},
		{"cut short", labelled(suspect[:len(suspect)-1]), reasonForm},
		{"no map", labelled([]byte{3, 0x93, 1, 2, 3}), reasonForm},
		{"huge map", labelled([]byte{3, 0xdf, 255, 255, 255, 255}), reasonForm},
		{"missing field", labelled(wire(kindSuspect, struct{ Node, From string }{bob, alice})), reasonForm},
		{"unknown field", labelled(wire(kindNack, struct{ SeqNo, Extra uint32 }{1, 2})), reasonForm},
		{"field twice", labelled(append([]byte{11, 0x82}, []byte("\xa5SeqNo\x01\xa5SeqNo\x02")...)), reasonForm},
		{"negative number", labelled([]byte("\x0b\x81\xa5SeqNo\xff")), reasonForm},
		{"negative wide number", labelled([]byte("\x0b\x81\xa5SeqNo\xd1\xff\xff")), reasonForm},
		{"number too large", labelled([]byte("\x0b\x81\xa5SeqNo\xcf\x00\x00\x00\x01\x00\x00\x00\x00")), reasonForm},
		{"float", labelled([]byte("\x0b\x81\xa5SeqNo\xca\x3f\x80\x00\x00")), reasonForm},
		{"extension", labelled([]byte("\x0b\x81\xa5SeqNo\xd4\x01\x02")), reasonForm},
		{"time", labelled([]byte("\x0b\x81\xa5SeqNo\xd6\xff\x00\x00\x00\x01")), reasonForm},
		{"list for a number", labelled([]byte("\x0b\x81\xa5SeqNo\x91\x01")), reasonForm},
		{"lists in lists", labelled(append([]byte("\x0b\x81\xa5SeqNo"), bytes.Repeat([]byte{0x91}, 1000)...)), reasonForm},
		{"number as a key", labelled([]byte("\x0b\x81\x01\x01")), reasonForm},
		{"length past the end", labelled([]byte("\x0d\x81\xa5Error\xdb\xff\xff\xff\xff")), reasonType},
		{"name length past the end", labelled([]byte("\x03\x81\xa4Node\xdb\xff\xff\xff\xff")), reasonForm},

		{"suspect: incarnation", labelled(wire(kindSuspect, edited(accused, func(a *wireAccusation) { a.Incarnation = 1<<31 + 1 }))), reasonIncarnation},
		{"dead: incarnation", labelled(wire(kindDead, edited(accused, func(a *wireAccusation) { a.Incarnation = math.MaxUint32 }))), reasonIncarnation},
		{"dead: a long name", labelled(wire(kindDead, edited(accused, func(a *wireAccusation) { a.Node = strings.Repeat("a", 1000) }))), reasonName},
		{"dead: name", labelled(wire(kindDead, edited(accused, func(a *wireAccusation) { a.Node = "x" }))), reasonName},
		{"dead: from", labelled(wire(kindDead, edited(accused, func(a *wireAccusation) { a.From = "" }))), reasonName},
		{"alive: incarnation", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Incarnation = math.MaxUint32 }))), reasonIncarnation},
		{"alive: no name", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Node = "" }))), reasonName},
		{"alive: long name", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Node = alice + "0123456789" }))), reasonName},
		{"alive: name with a line end", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Node = testID(1) + ".\n" }))), reasonName},
		{"alive: path as name", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Node = "../" + alice[3:] }))), reasonName},
		{"alive: metadata", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Meta = make([]byte, 513) }))), reasonMeta},
		{"alive: address", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Addr = []byte{1, 2, 3} }))), reasonAddress},
		{"alive: no address", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Addr = nil }))), reasonAddress},
		{"alive: address of 5 bytes", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Addr = make([]byte, 5) }))), reasonAddress},
		{"alive: port", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Port = 0 }))), reasonAddress},
		{"alive: delegate versions", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Vsn = []byte{1, 5, 2, 200, 250, 200} }))), reasonVersion},
		{"alive: short versions", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Vsn = []byte{1} }))), reasonVersion},
		{"alive: 5 versions", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Vsn = goodVsn[:5] }))), reasonVersion},
		{"alive: 7 versions", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Vsn = append(slices.Clip(goodVsn), 0) }))), reasonVersion},
		{"alive: least version above the most", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Vsn = []byte{5, 1, 2, 0, 0, 0} }))), reasonVersion},
		{"alive: no versions", labelled(wire(kindAlive, edited(goodAlive(), func(a *wireAlive) { a.Vsn = nil }))), reasonVersion},
		{"ping for a third party", labelled(wire(kindPing, edited(ping, func(p *wirePing) { p.SourceAddr = []byte{10, 0, 0, 9} }))), reasonSource},
		{"ping to another port", labelled(wire(kindPing, edited(ping, func(p *wirePing) { p.SourcePort = 22 }))), reasonSource},
		{"ping from no name", labelled(wire(kindPing, edited(ping, func(p *wirePing) { p.SourceNode = "" }))), reasonName},
		{"indirect ping of a stranger", labelled(wire(kindIndirectPing, edited(indirect, func(p *wireIndirectPing) { p.Node = gossipName(testID(9), "1") }))), reasonTarget},
		{"indirect ping elsewhere", labelled(wire(kindIndirectPing, edited(indirect, func(p *wireIndirectPing) { p.Target = []byte{127, 0, 0, 1} }))), reasonTarget},
		{"indirect ping of another port", labelled(wire(kindIndirectPing, edited(indirect, func(p *wireIndirectPing) { p.Port = 22 }))), reasonTarget},
		{"indirect ping for a third party", labelled(wire(kindIndirectPing, edited(indirect, func(p *wireIndirectPing) { p.SourceAddr = []byte{10, 0, 0, 9} }))), reasonSource},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := g.packet(slices.Clone(c.b), from)
			var got refusal
			if !errors.As(err, &got) && err == nil {
				got = refusal(none)
			}
			if reason(got) != c.want {
				t.Fatalf("packet = %v, want %v", err, c.want)
			}
			if err == nil && !bytes.HasPrefix(out, g.label) {
				t.Errorf("label lost: %x", out)
			}
		})
	}
	for k := range 256 {
		if k == int(kindUser) || k == int(kindLabel) {
			continue
		}
		if _, err := g.packet(labelled([]byte{byte(k)}), from); err == nil {
			t.Errorf("a packet of type byte %d alone is let in", k)
		}
	}
}

// What the guard lets through says the same as what came in, except that nobody
// can say that another node left.
func TestForgedLeaveBecomesAnAccusation(t *testing.T) {
	g := testGuard(t)
	for _, wrap := range []func([]byte) []byte{
		func(b []byte) []byte { return b },
		func(b []byte) []byte { return compound(b, b) },
		withCRC,
		func(b []byte) []byte { return withCRC(compound(b)) },
	} {
		b := labelled(wrap(wire(kindDead, wireAccusation{7, bob, bob})))
		out, err := g.packet(b, here)
		if err != nil {
			t.Fatal(err)
		}
		body := out[len(g.label):]
		check := func(part []byte) error {
			m, err := parseAll(part[1:], accusationFields)
			if err != nil || string(m.node) != bob || string(m.from) == bob || !validGossipName(m.from) || m.incarnation != 7 {
				t.Errorf("got %+v, %v", m, err)
			}
			return nil
		}
		if kind(body[0]) == kindCompound {
			if err := compoundParts(body[1:], check); err != nil {
				t.Error(err)
			}
		} else {
			check(body)
		}
	}
}

func TestLimiter(t *testing.T) {
	now := time.Now()
	l := newLimiter()
	a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.1:2")
	count := func(from netip.AddrPort, n int) (let int) {
		for range n {
			if l.allow(from, now) == nil {
				let++
			}
		}
		return let
	}
	if got := count(a, 1000); got != sourceBurst {
		t.Errorf("%d at once, want %d", got, sourceBurst)
	}
	if got := count(b, 10); got != 10 {
		t.Errorf("another port of the same address: %d of 10", got)
	}
	now = now.Add(time.Second)
	if got := count(a, 1000); got != sourceRate {
		t.Errorf("%d after a second, want %d", got, sourceRate)
	}
	now = now.Add(time.Hour)
	total := 0
	for i := range 20000 {
		total += count(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1), 1)
	}
	if total != totalBurst {
		t.Errorf("%d in all, want %d", total, totalBurst)
	}
	if len(l.sources) != maxSources || l.recent.Len() != maxSources {
		t.Errorf("%d sources remembered, want %d", len(l.sources), maxSources)
	}
}

func TestFakeNamesOfReasons(t *testing.T) {
	seen := make(map[string]bool)
	for r := range numReasons {
		if s := r.String(); s == "" || seen[s] {
			t.Errorf("reason %d is called %q", r, s)
		}
		seen[r.String()] = true
	}
	if s := reason(99).String(); !strings.Contains(s, "99") {
		t.Errorf("an unknown reason is called %q", s)
	}
}

func FuzzPacket(f *testing.F) {
	ping := wirePing{1, bob, []byte{10, 0, 0, 1}, 44201, alice}
	accused := wireAccusation{1, bob, bob}
	for _, b := range [][]byte{
		wire(kindPing, ping), wire(kindDead, accused), wire(kindAlive, goodAlive()),
		withCRC(compound(wire(kindSuspect, accused), wire(kindAck, wireAck{SeqNo: 1}))), {byte(kindUser), 1},
		wire(kindIndirectPing, wireIndirectPing{1, []byte{10, 0, 0, 2}, 44201, bob, true, nil, 0, alice}),
	} {
		f.Add(labelled(b))
	}
	g := testGuard(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		out, err := g.packet(slices.Clone(b), here)
		if err != nil {
			var r refusal
			if !errors.As(err, &r) {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		// What was let in is let in again, unchanged: the guard has nothing left to
		// say about it.
		again, err := g.packet(slices.Clone(out), here)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("second look: %x, %v; first %x", again, err, out)
		}
		// And memberlist's own label reader agrees where the label ends.
		rest, label, err := memberlist.RemoveLabelHeaderFromPacket(out)
		if err != nil || fmt.Sprintf("scagent/%s", "default") != label || !bytes.Equal(rest, out[len(g.label):]) {
			t.Fatalf("label %q, rest %x, %v", label, rest, err)
		}
		g.suspicions(out)
		decodeLetter(rest[1:])
	})
}
