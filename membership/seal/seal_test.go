package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/scagent/scagent/test/bounds"
)

// here is the address of whoever receives in these tests.
var here = netip.MustParseAddrPort("10.0.0.1:44201")

func key(n byte) Key {
	k := Key{Tag: [4]byte{n, n, n, n}}
	for i := range k.Secret {
		k.Secret[i] = n
	}
	return k
}

// sealer returns one that counts from 1.
func sealer(node string, session uint64, keys ...Key) *Sealer {
	s := New(node, session, func() []Key { return keys })
	s.counter.Store(0)
	return s
}

// Two processes can come to the same session: both have a copy of one state
// directory, and no clock that runs while they are off.
func TestNoNonceTwiceInACopiedSession(t *testing.T) {
	keys := func() []Key { return []Key{key(1)} }
	seen := map[[12]byte]bool{}
	for range 3 {
		s := New("a", 7, keys)
		for range 1000 {
			n := nonceOf(s.Seal(nil, []byte("x"), here)[21:29])
			if seen[n] {
				t.Fatalf("the nonce %x is used twice", n)
			}
			seen[n] = true
		}
	}
}

func TestNobodyOpensWhatIsForAnother(t *testing.T) {
	a, b := sealer("a", 1, key(1)), sealer("b", 1, key(1))
	sealed := a.Seal(nil, []byte("hello"), here)
	for _, other := range []string{"10.0.0.2:44201", "10.0.0.1:44202", "[fd00::1]:44201"} {
		if _, err := b.Open(nil, sealed, netip.MustParseAddrPort(other)); !errors.Is(err, ErrForged) {
			t.Errorf("Open at %s of what is for %v = %v, want %v", other, here, err, ErrForged)
		}
	}
	if _, err := b.Open(nil, sealed, here); err != nil {
		t.Errorf("Open = %v: what others tried counts as a replay", err)
	}
}

func TestWhatIsSealedOpens(t *testing.T) {
	a, b := sealer("a", 1, key(1)), sealer("b", 1, key(1))
	for _, n := range []int{0, 1, 1000, 1400} {
		plain := bytes.Repeat([]byte{7}, n)
		sealed := a.Seal(nil, plain, here)
		if len(sealed) != n+Overhead {
			t.Errorf("%d bytes sealed are %d, want %d more", n, len(sealed), Overhead)
		}
		if bytes.Contains(sealed, []byte{7, 7, 7, 7, 7, 7}) {
			t.Error("the contents can be read")
		}
		got, err := b.Open([]byte("x"), sealed, here)
		if err != nil || string(got) != "x"+string(plain) {
			t.Errorf("Open of %d bytes = %d, %v", n, len(got), err)
		}
	}
}

func TestFormatStays(t *testing.T) {
	got := hex.EncodeToString(sealer("a", 0x0102030405060708, key(1)).Seal(nil, []byte("hello"), here))
	want, err := os.ReadFile("testdata/sealed.hex")
	if err != nil || got != strings.TrimSpace(string(want)) {
		t.Errorf("sealed: %s, want %s (%v)", got, want, err)
	}
}

func TestWhatDoesNotOpen(t *testing.T) {
	good := sealer("a", 5, key(1)).Seal(nil, []byte("hello"), here)
	b := sealer("b", 1, key(1))
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := b.Open(nil, bad, here); err == nil {
				t.Fatalf("with bit %d of byte %d changed it opens", bit, i)
			}
		}
	}
	for n := range good {
		if _, err := b.Open(nil, good[:n], here); err == nil {
			t.Fatalf("cut to %d bytes it opens", n)
		}
	}
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrMalformed},
		{"noise", bytes.Repeat([]byte{0xaa}, 100), ErrMalformed},
		{"version 2", append([]byte{2}, good[1:]...), ErrMalformed},
		{"another key", sealer("a", 5, key(2)).Seal(nil, []byte("hello"), here), ErrUnknownKey},
		{"another key under our tag", func() []byte {
			k := key(2)
			k.Tag = key(1).Tag
			return sealer("a", 5, k).Seal(nil, []byte("hello"), here)
		}(), ErrForged},
		{"longer", append(bytes.Clone(good), 0), ErrForged},
	} {
		if _, err := b.Open(nil, c.b, here); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if len(b.senders) != 0 {
		t.Errorf("%d senders are remembered of what did not open", len(b.senders))
	}
	if _, err := b.Open(nil, good, here); err != nil {
		t.Errorf("after all that the good one: %v", err)
	}
}

// The window of RFC 6479, against a map of what was seen.
func TestReplaysAreRefused(t *testing.T) {
	a, b := sealer("a", 5, key(1)), sealer("b", 1, key(1))
	var all [][]byte
	for range 5000 {
		all = append(all, a.Seal(nil, nil, here))
	}
	rng, seen, highest := rand.New(rand.NewPCG(1, 2)), map[int]bool{}, 0
	for i := range 50000 {
		at := min(max(i/10+rng.IntN(3000)-2000, 0), len(all)-1)
		_, err := b.Open(nil, all[at], here)
		if seen[at] && err == nil {
			t.Fatalf("datagram %d was taken twice", at)
		}
		if !seen[at] && err != nil && highest-at < (windowWords-1)*64 {
			t.Fatalf("datagram %d, new and within the window of %d, was refused: %v", at, highest, err)
		}
		seen[at] = true
		highest = max(highest, at)
	}
	if _, err := b.Open(nil, all[0], here); !errors.Is(err, ErrReplayed) {
		t.Errorf("a very old one: %v, want %v", err, ErrReplayed)
	}
}

// A13: what a node said before it was started again is not heard any more.
func TestOlderSessionsAreRefused(t *testing.T) {
	old, again, b := sealer("a", 5, key(1)), sealer("a", 6, key(1)), sealer("b", 1, key(1))
	leave := old.Seal(nil, []byte("leave"), here)
	if _, err := b.Open(nil, again.Seal(nil, nil, here), here); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Open(nil, leave, here); !errors.Is(err, ErrReplayed) {
		t.Errorf("an old session's datagram: %v, want %v", err, ErrReplayed)
	}
	if _, err := b.Open(nil, again.Seal(nil, nil, here), here); err != nil {
		t.Errorf("the new session after it: %v", err)
	}
}

func TestKeysChangeWhileRunning(t *testing.T) {
	keys := []Key{key(1)}
	a, b := New("a", 1, func() []Key { return keys }), sealer("b", 1, key(2), key(1))
	for _, next := range [][]Key{{key(1), key(2)}, {key(2), key(1)}, {key(2)}} {
		for range 3 {
			if _, err := b.Open(nil, a.Seal(nil, nil, here), here); err != nil {
				t.Errorf("sealed with %v: %v", keys[0].Tag, err)
			}
		}
		keys = next
	}
}

func TestSendersAreBounded(t *testing.T) {
	b := sealer("b", 1, key(1))
	for i := range maxSenders + 100 {
		if _, err := b.Open(nil, sealer(fmt.Sprint(i), 1, key(1)).Seal(nil, nil, here), here); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.senders) != maxSenders || b.recent.Len() != maxSenders {
		t.Errorf("%d senders are remembered, want %d", len(b.senders), maxSenders)
	}
}

func FuzzOpen(f *testing.F) {
	good := sealer("a", 5, key(1)).Seal(nil, []byte("hello"), here)
	f.Add(good)
	f.Add(good[:Overhead])
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		s := sealer("b", 1, key(1))
		plain, err := s.Open(nil, b, here)
		if err == nil && !bytes.Equal(b, good) {
			t.Errorf("opens to %q without the key", plain)
		}
	})
}

func BenchmarkSealOpen(b *testing.B) {
	x, y := sealer("a", 1, key(1)), sealer("b", 1, key(1))
	plain, sealed, opened := make([]byte, 1000), make([]byte, 0, 1500), make([]byte, 0, 1500)
	b.ReportAllocs()
	b.SetBytes(1000)
	for b.Loop() {
		sealed = x.Seal(sealed[:0], plain, here)
		if _, err := y.Open(opened, sealed, here); err != nil {
			b.Fatal(err)
		}
	}
}
