package beacon

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An announcement is one datagram of at most MaxBytes. Integers are big-endian.
//
//	offset  size  field
//	0       4     magic, 5C A6 42 43
//	4       1     version, now 1; a reader drops what it does not know
//	5       1     flags: 1 sealed; 2 hello: the node has just started or is alone; others
//	              are 0, and ignored
//	6       8     cluster tag: start of SHA-256("scagent beacon cluster\x00" + cluster)
//	14      12    with flag 1 alone: the nonce; what follows is sealed
//	14      8     sequence number, from 1 at each boot, larger in each announcement
//	22      2     port of the gossip
//	24      1     length of the address, 4 or 16
//	25      n     address of the gossip
//	        1+n   length and text of the node id
//	        1+n   length and text of the boot
//	        1+n   length and text of the name
//	              what later releases add; ignored
//
// Where the cluster has a secret, announcements are sealed, so that who listens on
// the network learns of no node's name, id or address: with AES-256-GCM, the first
// 14 bytes as additional data, and 16 bytes of GCM's tag at the end. Of the 64 bytes
// that HKDF-Expand (RFC 5869) makes of the cluster's key over "beacon", the first 32
// are the key of AES; the others that of HMAC-SHA256 over all but the nonce, whose
// first 12 bytes the nonce is. No two announcements are alike, so no two nonces are.
const (
	magic      = "\x5c\xa6\x42\x43"
	version    = 1
	flagSealed = 1
	flagHi     = 2
	tagBytes   = 8
	tagText    = "scagent beacon cluster\x00"
	sealText   = "beacon"

	outerBytes  = 14              // what is never sealed
	headerBytes = outerBytes + 10 // all before the length of the address
	nonceBytes  = 12
	gcmBytes    = 16
)

// MaxBytes is the largest announcement that is sent or looked at.
const MaxBytes = 512

// Limits of the texts in an announcement, in bytes.
const (
	MaxNodeBytes = 64
	MaxBootBytes = 16
	MaxNameBytes = 64

	minKeyBytes = 16
)

// Why a datagram is not an announcement for this node.
var (
	errMalformed = errors.New("not an announcement")
	errVersion   = errors.New("unknown version")
	errForeign   = errors.New("another cluster's")
	errUnsigned  = errors.New("wrong key")
)

// announcement is what one datagram says.
type announcement struct {
	node, boot, name string
	addr             netip.AddrPort // without zone, IPv4 as such
	seq              uint64
	hello            bool // members of its pool, if there are any, are to answer
}

// check reports the first field that cannot be announced.
func (a *announcement) check() error {
	ip := a.addr.Addr()
	switch {
	case !isWord(a.node, MaxNodeBytes, "-_."):
		return fmt.Errorf("node is %q; want 1 to %d letters and digits", a.node, MaxNodeBytes)
	case !isWord(a.boot, MaxBootBytes, "") || strings.ToLower(a.boot) != a.boot:
		return fmt.Errorf("boot is %q; want a number in base 36, at most %d digits", a.boot, MaxBootBytes)
	case len(a.name) > MaxNameBytes || !utf8.ValidString(a.name) || strings.ContainsFunc(a.name, unicode.IsControl):
		return fmt.Errorf("name is %.100q; want at most %d bytes of UTF-8 without control characters", a.name, MaxNameBytes)
	case !a.addr.IsValid() || a.addr.Port() == 0:
		return fmt.Errorf("addr is %v; want an address and a port other than 0", a.addr)
	case ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("addr is %v; want an address that others can reach", a.addr)
	}
	return nil
}

// isWord reports whether s is 1 to limit letters, digits and bytes of extra.
func isWord(s string, limit int, extra string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(extra, c) >= 0) {
			return false
		}
	}
	return true
}

// olderBoot reports whether the start called a was before the one called b.
func olderBoot(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// codec writes and reads the announcements of one cluster. It is constant.
type codec struct {
	tag  [tagBytes]byte
	keys func() [][]byte // the first seals; nil: nothing is sealed
}

func newCodec(cluster string, keys func() [][]byte) (codec, error) {
	if cluster == "" {
		return codec{}, errors.New("cluster is empty; want the name of a cluster")
	}
	c := codec{keys: keys}
	sum := sha256.Sum256([]byte(tagText + cluster))
	copy(c.tag[:], sum[:])
	if keys == nil {
		return c, nil
	}
	if len(keys()) == 0 {
		return codec{}, errors.New("no key is returned by Keys; want at least one, or no function")
	}
	for i, k := range keys() {
		if len(k) < minKeyBytes {
			return codec{}, fmt.Errorf("keys[%d] has %d bytes; want at least %d", i, len(k), minKeyBytes)
		}
	}
	return c, nil
}

// sealed reports whether announcements are sealed.
func (c *codec) sealed() bool { return c.keys != nil }

// encode returns the datagram for a, which must have passed check.
func (c *codec) encode(a *announcement) []byte {
	var flags byte
	if c.sealed() {
		flags |= flagSealed
	}
	if a.hello {
		flags |= flagHi
	}
	b := make([]byte, 0, MaxBytes)
	b = append(b, magic...)
	b = append(b, version, flags)
	b = append(b, c.tag[:]...)
	b = binary.BigEndian.AppendUint64(b, a.seq)
	b = binary.BigEndian.AppendUint16(b, a.addr.Port())
	b = appendText(b, a.addr.Addr().AsSlice())
	b = appendText(b, a.node)
	b = appendText(b, a.boot)
	b = appendText(b, a.name)
	if c.sealed() {
		b = newSeal(c.keys()[0]).seal(b)
	}
	return b
}

// decode reads a datagram. Its error is one of errMalformed, errVersion,
// errForeign and errUnsigned.
func (c *codec) decode(b []byte) (announcement, error) {
	var a announcement
	switch {
	case len(b) > MaxBytes || len(b) < headerBytes || string(b[:4]) != magic:
		return a, errMalformed
	case b[4] != version:
		return a, errVersion
	case [tagBytes]byte(b[6:14]) != c.tag:
		return a, errForeign
	}
	flags := b[5]
	if (flags&flagSealed != 0) != c.sealed() {
		return a, errUnsigned
	}
	if c.sealed() {
		var ok bool
		if b, ok = c.open(b); !ok {
			return a, errUnsigned
		}
	}
	if len(b) < headerBytes {
		return a, errMalformed
	}
	a.hello = flags&flagHi != 0
	a.seq = binary.BigEndian.Uint64(b[14:])
	port := binary.BigEndian.Uint16(b[22:])
	addr, rest, ok1 := cutText(b[headerBytes:])
	node, rest, ok2 := cutText(rest)
	boot, rest, ok3 := cutText(rest)
	name, _, ok4 := cutText(rest)
	ip, ok5 := netip.AddrFromSlice(addr)
	if !(ok1 && ok2 && ok3 && ok4 && ok5) || ip.Is4In6() {
		return announcement{}, errMalformed
	}
	a.node, a.boot, a.name, a.addr = string(node), string(boot), string(name), netip.AddrPortFrom(ip, port)
	if a.check() != nil {
		return announcement{}, errMalformed
	}
	return a, nil
}

// open returns a sealed announcement as it was before, if one of the keys opens it.
func (c *codec) open(b []byte) ([]byte, bool) {
	for _, k := range c.keys() {
		if plain, ok := newSeal(k).open(b); ok {
			return plain, true
		}
	}
	return nil, false
}

// seal is what one key of the cluster seals announcements with.
type seal struct {
	aead     cipher.AEAD
	nonceKey []byte
}

func newSeal(key []byte) seal {
	k, err := hkdf.Expand(sha256.New, key, sealText, 64)
	if err != nil {
		panic(err) // only for more than 255 hashes
	}
	block, err := aes.NewCipher(k[:32])
	if err != nil {
		panic(err) // only for wrong lengths
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // likewise
	}
	return seal{aead, k[32:]}
}

func (s seal) seal(b []byte) []byte {
	h := hmac.New(sha256.New, s.nonceKey)
	h.Write(b)
	nonce := h.Sum(nil)[:nonceBytes]
	sealed := append(make([]byte, 0, MaxBytes), b[:outerBytes]...)
	return s.aead.Seal(append(sealed, nonce...), nonce, b[outerBytes:], b[:outerBytes])
}

func (s seal) open(b []byte) ([]byte, bool) {
	if len(b) < outerBytes+nonceBytes+gcmBytes {
		return nil, false
	}
	outer, nonce, rest := b[:outerBytes], b[outerBytes:outerBytes+nonceBytes], b[outerBytes+nonceBytes:]
	plain, err := s.aead.Open(append(make([]byte, 0, MaxBytes), outer...), nonce, rest, outer)
	return plain, err == nil
}

// appendText appends s, at most 255 bytes, after its length.
func appendText[T string | []byte](b []byte, s T) []byte {
	return append(append(b, byte(len(s))), s...)
}

// cutText is the reverse of appendText; ok is false when b is too short.
func cutText(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || len(b)-1 < int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}
