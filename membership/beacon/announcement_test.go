package beacon

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/scagent/scagent/test/bounds"
)

var update = flag.Bool("update", false, "rewrite testdata")

var sample = announcement{
	node: "abcdefghijklmnopqrstuvwxy2", boot: "k3x9z0", name: "render-7",
	addr: netip.MustParseAddrPort("10.77.0.3:44201"), seq: 0x0102030405060708,
}

func testCodec(t testing.TB, cluster string, keys ...string) *codec {
	t.Helper()
	var k [][]byte
	for _, s := range keys {
		k = append(k, []byte(s))
	}
	fn := func() [][]byte { return k }
	if len(k) == 0 {
		fn = nil
	}
	c, err := newCodec(cluster, fn)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

const keyA, keyB = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"

func TestAnnouncementsKeepTheirBytes(t *testing.T) {
	v6 := sample
	v6.addr = netip.MustParseAddrPort("[fd00::3]:44201")
	v6.hello = true
	for _, g := range []struct {
		file string
		c    *codec
		a    announcement
	}{
		{"testdata/announcement-v1.hex", testCodec(t, "default"), sample},
		{"testdata/announcement-v1-ipv6.hex", testCodec(t, "default"), v6},
		{"testdata/announcement-v1-sealed.hex", testCodec(t, "default", keyA), sample},
	} {
		b := g.c.encode(&g.a)
		if *update {
			if err := os.WriteFile(g.file, []byte(hex.EncodeToString(b)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(g.file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, want) {
			t.Errorf("encode = %x, want %x as in %s", b, want, g.file)
		}
		if got, err := g.c.decode(want); err != nil || got != g.a {
			t.Errorf("decode(%s) = %+v, %v; want %+v", g.file, got, err, g.a)
		}
	}
}

func TestTheLargestAnnouncementFits(t *testing.T) {
	a := announcement{
		node: strings.Repeat("n", MaxNodeBytes), boot: strings.Repeat("z", MaxBootBytes), name: strings.Repeat("é", MaxNameBytes/2),
		addr: netip.MustParseAddrPort("[2001:db8::1]:65535"), seq: 1<<64 - 1,
	}
	c := testCodec(t, "default", keyA)
	b := c.encode(&a)
	if got, err := c.decode(b); len(b) > MaxBytes || err != nil || got != a {
		t.Errorf("decode of %d bytes = %+v, %v; want at most %d bytes and %+v", len(b), got, err, MaxBytes, a)
	}
}

func TestBadDatagramsAreTold(t *testing.T) {
	c := testCodec(t, "default")
	good := c.encode(&sample)
	with := func(change func(a *announcement)) []byte {
		a := sample
		change(&a)
		return c.encode(&a)
	}
	addr := func(s string) []byte {
		return with(func(a *announcement) { a.addr = netip.MustParseAddrPort(s) })
	}
	set := func(i int, v byte) []byte {
		b := bytes.Clone(good)
		b[i] = v
		return b
	}
	for _, d := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, errMalformed},
		{"one byte", []byte{0x5c}, errMalformed},
		{"513 bytes", append(bytes.Clone(good), make([]byte, MaxBytes+1-len(good))...), errMalformed},
		{"64 KB", make([]byte, 65507), errMalformed},
		{"wrong magic", set(0, 0), errMalformed},
		{"version 0", set(4, 0), errVersion},
		{"version 2", set(4, 2), errVersion},
		{"another cluster", testCodec(t, "other").encode(&sample), errForeign},
		{"sealed by a pool with a secret", testCodec(t, "default", keyA).encode(&sample), errUnsigned},
		{"address of 5 bytes", set(headerBytes, 5), errMalformed},
		{"node longer than the datagram", set(headerBytes+5, 255), errMalformed},
		{"node empty", with(func(a *announcement) { a.node = "" }), errMalformed},
		{"node with a slash", with(func(a *announcement) { a.node = "../x" }), errMalformed},
		{"node too long", with(func(a *announcement) { a.node = strings.Repeat("n", MaxNodeBytes+1) }), errMalformed},
		{"boot in capitals", with(func(a *announcement) { a.boot = "K3" }), errMalformed},
		{"boot too long", with(func(a *announcement) { a.boot = strings.Repeat("1", MaxBootBytes+1) }), errMalformed},
		{"name with an escape sequence", with(func(a *announcement) { a.name = "\x1b[2J" }), errMalformed},
		{"name not UTF-8", with(func(a *announcement) { a.name = "\xff" }), errMalformed},
		{"name too long", with(func(a *announcement) { a.name = strings.Repeat("n", MaxNameBytes+1) }), errMalformed},
		{"port 0", addr("10.0.0.1:0"), errMalformed},
		{"unspecified", addr("0.0.0.0:1"), errMalformed},
		{"unspecified IPv6", addr("[::]:1"), errMalformed},
		{"multicast", addr("224.0.0.234:1"), errMalformed},
		{"broadcast", addr("255.255.255.255:1"), errMalformed},
		{"IPv4 in IPv6", addr("[::ffff:10.0.0.1]:1"), errMalformed},
	} {
		t.Run(d.name, func(t *testing.T) {
			if got, err := c.decode(d.b); !errors.Is(err, d.want) || got != (announcement{}) {
				t.Errorf("decode(%.60x) = %+v, %v; want %v", d.b, got, err, d.want)
			}
		})
	}
	for n := range good {
		if _, err := c.decode(good[:n]); err == nil {
			t.Errorf("decode of the first %d of %d bytes = nil, want an error", n, len(good))
		}
	}
}

func TestWhatLaterReleasesAddIsIgnored(t *testing.T) {
	c := testCodec(t, "default")
	b := append(c.encode(&sample), "more"...)
	b[5] |= 0x80
	if got, err := c.decode(b); err != nil || got != sample {
		t.Errorf("decode = %+v, %v; want %+v", got, err, sample)
	}
}

func TestKeysCanBeReplaced(t *testing.T) {
	old, both, next := testCodec(t, "c", keyA), testCodec(t, "c", keyB, keyA), testCodec(t, "c", keyB)
	for _, d := range []struct {
		name     string
		from, to *codec
		want     error
	}{
		{"old to both", old, both, nil},
		{"both to next", both, next, nil},
		{"next to both", next, both, nil},
		{"both to old", both, old, errUnsigned},
		{"old to next", old, next, errUnsigned},
		{"no key to old", testCodec(t, "c"), old, errUnsigned},
		{"old to no key", old, testCodec(t, "c"), errUnsigned},
	} {
		if _, err := d.to.decode(d.from.encode(&sample)); !errors.Is(err, d.want) {
			t.Errorf("%s: decode = %v, want %v", d.name, err, d.want)
		}
	}
}

func TestEveryBitIsUnderTheSeal(t *testing.T) {
	c := testCodec(t, "c", keyA)
	b := c.encode(&sample)
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if got, err := c.decode(b); err == nil {
			t.Errorf("decode with bit %d flipped = %+v, want an error", i, got)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

func TestASealedAnnouncementTellsNothing(t *testing.T) {
	b := testCodec(t, "c", keyA).encode(&sample)
	for what, text := range map[string]string{"node": sample.node, "boot": sample.boot, "name": sample.name, "address": string(sample.addr.Addr().AsSlice())} {
		if bytes.Contains(b, []byte(text)) {
			t.Errorf("the %s can be read in %x", what, b)
		}
	}
	next := sample
	next.seq++
	other := testCodec(t, "c", keyA).encode(&next)
	if n := outerBytes; bytes.Equal(b[n:n+nonceBytes], other[n:n+nonceBytes]) {
		t.Error("two announcements have the same nonce")
	}
}

func TestBootsAreOrderedAsNumbers(t *testing.T) {
	order := []string{"9", "a", "z", "10", "zz", "100"}
	for i, a := range order {
		for j, b := range order {
			if got := olderBoot(a, b); got != (i < j) {
				t.Errorf("olderBoot(%q, %q) = %v, want %v", a, b, got, i < j)
			}
		}
	}
}

func FuzzAnnouncement(f *testing.F) {
	plain, signed := testCodec(f, "default"), testCodec(f, "default", keyA)
	f.Add(plain.encode(&sample))
	f.Add(signed.encode(&sample))
	f.Add([]byte(magic))
	f.Add(make([]byte, MaxBytes+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		for _, c := range []*codec{plain, signed} {
			a, err := c.decode(b)
			if err != nil {
				continue
			}
			if err := a.check(); err != nil {
				t.Errorf("decode(%x) = %+v, which cannot be announced: %v", b, a, err)
			}
			again := c.encode(&a)
			if got, err := c.decode(again); err != nil || got != a || len(again) > MaxBytes {
				t.Errorf("decode(encode(%+v)) = %+v, %v", a, got, err)
			}
		}
	})
}
