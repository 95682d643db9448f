package membership

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/test/bounds"
)

// FuzzLetter reads user messages of gossip. What is accepted is from a member's
// name, and encodes to what it was.
func FuzzLetter(f *testing.F) {
	for _, l := range []letter{
		{kind: mailDirect, from: alice, payload: []byte("x")},
		{kind: mailBroadcast, from: alice, id: mailID{1, 2}, payload: []byte{1}},
		{kind: mailFarewell, from: alice, id: mailID{7: 3}, payload: []byte(bob)},
		{kind: mailFarewell, from: alice, payload: []byte("../x\n")},
		{kind: mailLatest, from: alice, id: mailID{7: 1}}, {kind: 5, from: alice}, {kind: mailBroadcast}, {kind: mailDirect, from: "x\x1b.1"},
	} {
		f.Add(l.encode())
	}
	f.Add([]byte{2, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		l, ok := decodeLetter(b)
		if !ok {
			return
		}
		if !bytes.Equal(l.encode(), b) {
			t.Errorf("%x is %+v, which encodes to %x", b, l, l.encode())
		}
		for _, name := range []string{l.from, string(l.payload)} {
			if name == l.from || l.kind == mailFarewell {
				if id, _, _ := strings.Cut(name, "."); !validID(id) || strings.ContainsAny(name, "\n\x1b/ ") {
					t.Errorf("%x names %q", b, name)
				}
			}
		}
	})
}

// FuzzDocument reads what members send as their documents, deflated or not.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{`{}`, `{"data":{"a":[1e999,"\ud800"]},"facts":null,"kinds":["js"],"functions":[],"interpreters":null}`, `[]`, `{"data":1,"data":2}`,
		`{"DATA":9007199254740993}`, `null`, `{"kinds":[1]}`, strings.Repeat("[", 20_000), `{"data":` + strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_001)} {
		f.Add([]byte(s), false)
		f.Add(deflate([]byte(s)), true)
	}
	f.Add(deflate(make([]byte, 40<<20)), true) // a bomb
	f.Add(deflate(bytes.Repeat([]byte(`[`), MaxDocumentBytes)), true)
	f.Fuzz(func(t *testing.T, b []byte, deflated bool) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		encoded := b
		if deflated {
			var err error
			if encoded, err = inflate(b); err != nil {
				return
			}
			if len(encoded) > MaxDocumentBytes {
				t.Fatalf("inflated to %d bytes", len(encoded))
			}
		}
		d, err := decodeDocument(encoded)
		if err != nil {
			return
		}
		again, err := d.encode()
		if err != nil {
			if len(encoded) < MaxDocumentBytes/6 {
				t.Errorf("%q was read and cannot be sent: %v", encoded, err)
			}
			return
		}
		back, err := decodeDocument(again)
		if err != nil || !sameDocument(d, back) {
			t.Errorf("%q became %q, %v", encoded, again, err)
		}
	})
}

// sameDocument compares but for white space, and for empty lists, which are left out.
func sameDocument(a, b *Document) bool {
	same := func(a, b json.RawMessage) bool {
		var x, y bytes.Buffer
		if len(a) > 0 && json.Compact(&x, a) != nil || len(b) > 0 && json.Compact(&y, b) != nil {
			return false
		}
		return x.String() == y.String()
	}
	list := func(a, b []string) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }
	return same(a.Data, b.Data) && same(a.Facts, b.Facts) && list(a.Kinds, b.Kinds) && list(a.Functions, b.Functions) && list(a.Interpreters, b.Interpreters)
}

// FuzzPeersFile reads files of peers. What is taken up can be a member, is not
// this node, and is written and read again as it is.
func FuzzPeersFile(f *testing.F) {
	id := testID(1)
	for _, s := range []string{`{"version":1,"peers":[{"id":"` + id + `","addr":"10.0.0.1:44201","seen":"2025-01-01T00:00:00Z"}]}`,
		`{"version":1,"peers":[{"id":"` + id + `","addr":"0.0.0.0:0","seen":"9999-01-01T00:00:00Z"}]}`, `{"version":2}`, `{"version":1,"peers":null}`, `[]`, ``, "\x00",
		`{"version":1,"peers":[{"id":"../x","addr":"[fe80::1%eth0]:1","seen":"0001-01-01T00:00:00Z"}]}`} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		file := filepath.Join(dir, "peers.json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		config := &Config{ID: testID(9), PeersFile: file, FailedTTL: 72 * time.Hour}
		defer bounds.Check(t)()
		ps := newPeers(config)
		if err := ps.load(); err != nil {
			if len(ps.byID) > 0 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("load of %q: %q with %d peers", b, err, len(ps.byID))
			}
			return
		}
		for id, p := range ps.byID {
			if !validID(id) || id == config.ID || checkHostAddr(p.addr) != nil || p.present || p.seen.After(time.Now()) {
				t.Errorf("peer %q: %+v", id, p)
			}
		}
		addrs := ps.absent(1000, map[netip.AddrPort]struct{}{}, time.Now())
		if len(addrs) > len(ps.byID) {
			t.Errorf("%d addresses of %d peers", len(addrs), len(ps.byID))
		}
		if err := ps.save(); err != nil {
			t.Fatal(err)
		}
		again := newPeers(config)
		if err := again.load(); err != nil || len(again.byID) != len(ps.byID) {
			t.Errorf("%d peers were saved, %d are read, %v", len(ps.byID), len(again.byID), err)
		}
	})
}

// FuzzSeed reads values of -join, and what trackers answer with.
func FuzzSeed(f *testing.F) {
	for _, s := range []string{"h", "h:1", "10.0.0.1", "[::1]:2", "::1", "srv:_x._tcp.h", "http://h:1/x", "h:0", "h:65536", "fe80::1%eth0", "srv:", "a b", "::ffff:10.0.0.1",
		"http://", "https://u:p@h", "0x7f.1", "[", "]", "[]", "[[::1]]", "h:\x1b", "-h", "http://h\x00", "srv:%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bounds.Input(t, s)
		defer bounds.Check(t)()
		sd, err := parseSeed(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("parseSeed(%q): %q is no line", s, err)
			}
			return
		}
		switch {
		case sd.text != s, sd.port == 0, sd.kind != seedURL && sd.host == "", strings.ContainsAny(sd.host, "/ \n%"):
			t.Errorf("parseSeed(%q) = %+v", s, sd)
		}
	})
}
