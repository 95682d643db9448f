package secret

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/test/bounds"
)

// fixed returns the n-th of some secrets that are the same in each run.
func fixed(n byte) *Secret { return fromSeed(bytes.Repeat([]byte{n}, seedBytes)) }

// FuzzParse reads secrets and tokens. What is accepted is what Text writes, but
// for case and spaces around it; and no error tells what was read.
func FuzzParse(f *testing.F) {
	s := fixed(7)
	f.Add(s.Text())
	f.Add(" " + strings.ToUpper(s.Token().Text()) + "\n")
	f.Add("sck1-" + strings.Repeat("a", 52) + "-aaaa")
	f.Add("sck1-" + strings.Repeat("é", 26) + "-0000")
	f.Add(s.Text()[:40])
	f.Fuzz(func(t *testing.T, text string) {
		bounds.Input(t, text)
		defer bounds.Check(t)()
		got, err := Parse(text)
		if err != nil {
			if long := strings.TrimSpace(text); len(long) > 20 && strings.Contains(err.Error(), long[5:15]) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("the error quotes the secret, or is no line: %q", err)
			}
			return
		}
		if want := strings.ToLower(strings.TrimSpace(text)); got.Text() != want {
			t.Errorf("Parse(%q).Text() = %q", text, got.Text())
		}
		if got.Token().Full() || got.Full() != strings.HasPrefix(got.Text(), fullPrefix) {
			t.Errorf("%q: full %v, its token %v", text, got.Full(), got.Token().Full())
		}
	})
}

// FuzzCheckRequest checks requests that another secret, or none, signed: they are
// refused, whatever their header says. The one that was signed is taken once.
func FuzzCheckRequest(f *testing.F) {
	now := time.Unix(1_764_000_000, 0)
	ring := &Keyring{key: ed25519.NewKeyFromSeed(make([]byte, 32)), now: func() time.Time { return now }}
	good := fixed(1)
	if err := ring.set(Chain{{Secret: good}, {Secret: fixed(2), Until: now.Add(time.Hour)}}, good); err != nil {
		f.Fatal(err)
	}
	header := good.SignRequest("POST", "/a?b=c", []byte("body"), now)
	for _, h := range []string{header, fixed(9).SignRequest("POST", "/a?b=c", []byte("body"), now), "", "SC1", "SC1 ts=,nonce=,sig=",
		"SC1 ts=1764000000,nonce=" + strings.Repeat("0", 32) + ",sig=00", "Bearer x", header + ",ts=1", strings.ToUpper(header),
		"SC1 ts=-9223372036854775808,nonce=x,sig=x", "SC1 " + strings.Repeat(",", 100)} {
		f.Add("POST", "/a?b=c", []byte("body"), h)
	}
	f.Add("GET", "/a?b=c", []byte("body"), header)
	f.Add("POST", "/a?b=d", []byte("body"), header)
	f.Add("POST", "/a?b=c", []byte("bodz"), header)
	f.Fuzz(func(t *testing.T, method, target string, body []byte, header string) {
		bounds.Input(t, body)
		bounds.Input(t, header, target)
		if !strings.HasPrefix(target, "/") {
			t.Skip("no path")
		}
		r, err := http.NewRequest(method, "http://h"+target, bytes.NewReader(body))
		if err != nil {
			t.Skip("no request")
		}
		r.Header.Set("Authorization", header)
		defer bounds.Check(t)()
		var nonces Nonces
		err = ring.CheckRequest(r, &nonces)
		same := method == "POST" && r.URL.RequestURI() == "/a?b=c" && string(body) == "body"
		if err == nil && !(same && strings.Contains(strings.ToLower(header), "nonce=")) {
			t.Errorf("%s %s with %q is taken", method, target, header)
		}
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("the error is no line: %q", err)
			}
			if len(nonces.seen) != 0 {
				t.Errorf("a request that was refused (%v) used up its nonce", err)
			}
			return
		}
		if b, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(b, body) {
			t.Errorf("the body that is left is %q, %v; want %q", b, err, body)
		}
		if err := ring.CheckRequest(r, &nonces); err == nil {
			t.Errorf("%q is taken twice", header)
		}
	})
}

// FuzzVerify changes bytes of certificates. None is taken that was not issued as
// it is.
func FuzzVerify(f *testing.F) {
	s, other := fixed(1), fixed(2)
	var issued [][]byte // by s, then by others
	for i, from := range []*Secret{s, s.Token(), other, other.Token()} {
		c, err := from.certificate(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, 32)), []string{"127.0.0.1", "n"})
		if err != nil {
			f.Fatal(err)
		}
		issued = append(issued, c.Certificate[0])
	}
	root, err := s.Root()
	if err != nil {
		f.Fatal(err)
	}
	issued = append(issued, root)
	for i := range issued {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte{0, 40, 1, 0, 60, 0xff})
	}
	f.Add(uint8(0), issued[2])
	f.Fuzz(func(t *testing.T, which uint8, edits []byte) {
		bounds.Input(t, edits)
		der := bytes.Clone(issued[int(which)%len(issued)])
		if bytes.HasPrefix(edits, []byte{0x30}) {
			der = edits // a certificate of the fuzzer's own
		} else {
			for ; len(edits) >= 3; edits = edits[3:] {
				der[int(binary.BigEndian.Uint16(edits))%len(der)] ^= edits[2]
			}
		}
		defer bounds.Check(t)()
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		peer, err := s.verify(leaf)
		if err != nil {
			return
		}
		switch {
		case bytes.Equal(der, issued[0]):
		case bytes.Equal(der, issued[1]):
			if peer.Submit {
				t.Error("a worker token's certificate may submit")
			}
		default:
			t.Errorf("%x is taken for %+v", der, peer)
		}
		if id, err := NodeID(leaf.PublicKey); err != nil || id != peer.Node {
			t.Errorf("taken for %q, want %q, %v", peer.Node, id, err)
		}
	})
}
