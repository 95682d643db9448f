package secret

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

const (
	fullPrefix   = "sck1-"
	workerPrefix = "scw1-"
	checkChars   = 4 // of base32, behind the last hyphen

	seedBytes  = 32
	tokenBytes = 16 + 32 + 4 + 32 + ed25519.SeedSize + ed25519.PublicKeySize
)

var text32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Secret is a cluster's secret or a worker token, with what is derived from it.
// It is constant.
type Secret struct {
	seed []byte // nil: a worker token

	cluster   [16]byte
	gossip    [32]byte
	tag       [4]byte
	discovery [32]byte
	masterKey ed25519.PrivateKey // nil: a worker token
	masterPub ed25519.PublicKey
	workerKey ed25519.PrivateKey
}

// New makes a secret.
func New() *Secret {
	seed := make([]byte, seedBytes)
	rand.Read(seed)
	return fromSeed(seed)
}

func fromSeed(seed []byte) *Secret {
	s := &Secret{seed: seed}
	prk, err := hkdf.Extract(sha256.New, seed, []byte("scagent/v1"))
	if err != nil {
		panic(err) // only for hashes that FIPS forbids
	}
	expand := func(to []byte, info string) {
		key, err := hkdf.Expand(sha256.New, prk, info, len(to))
		if err != nil {
			panic(err) // only for more than 255 hashes
		}
		copy(to, key)
	}
	expand(s.cluster[:], "cluster-id")
	expand(s.gossip[:], "gossip")
	expand(s.tag[:], "gossip-tag")
	expand(s.discovery[:], "discovery")
	var ca [ed25519.SeedSize]byte
	expand(ca[:], "ca/master")
	s.masterKey = ed25519.NewKeyFromSeed(ca[:])
	s.masterPub = s.masterKey.Public().(ed25519.PublicKey)
	expand(ca[:], "ca/worker")
	s.workerKey = ed25519.NewKeyFromSeed(ca[:])
	return s
}

// Full reports whether the secret may do everything; a worker token may not.
func (s *Secret) Full() bool { return s.seed != nil }

// Token returns the worker token of a secret; that of a token is itself.
func (s *Secret) Token() *Secret {
	t := *s
	t.seed, t.masterKey = nil, nil
	return &t
}

// Cluster names the secret in public: 32 hexadecimal digits, the same for a
// secret and its token.
func (s *Secret) Cluster() string { return fmt.Sprintf("%x", s.cluster) }

// Equal reports whether two are the same, secret or token.
func (s *Secret) Equal(o *Secret) bool { return s.cluster == o.cluster && s.Full() == o.Full() }

// Text returns the secret as it is written to files. It is not named String, so
// that no log prints it by accident.
func (s *Secret) Text() string {
	if s.Full() {
		return encode(fullPrefix, s.seed)
	}
	return encode(workerPrefix, bytes.Join([][]byte{
		s.cluster[:], s.gossip[:], s.tag[:], s.discovery[:], s.workerKey.Seed(), s.masterPub,
	}, nil))
}

// String hides the secret.
func (s *Secret) String() string {
	if s.Full() {
		return "secret of cluster " + s.Cluster()[:8]
	}
	return "worker token of cluster " + s.Cluster()[:8]
}

// GoString hides the secret from %#v.
func (s *Secret) GoString() string { return s.String() }

// Parse reads what Text returns. Upper case and spaces around it do not matter.
// Its errors do not quote the text.
func Parse(text string) (*Secret, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	switch {
	case text == "":
		return nil, errors.New("the secret is empty; make one with: scagent secret new")
	case strings.HasPrefix(text, fullPrefix):
		b, err := decode(text[len(fullPrefix):], seedBytes)
		if err != nil {
			return nil, fmt.Errorf("the secret %w", err)
		}
		return fromSeed(b), nil
	case strings.HasPrefix(text, workerPrefix):
		b, err := decode(text[len(workerPrefix):], tokenBytes)
		if err != nil {
			return nil, fmt.Errorf("the worker token %w", err)
		}
		return fromToken(b), nil
	}
	return nil, fmt.Errorf("this is no secret: want one line that begins with %s, as scagent secret new makes, or %s, as scagent secret token", fullPrefix, workerPrefix)
}

func fromToken(b []byte) *Secret {
	s := &Secret{}
	for _, part := range [][]byte{s.cluster[:], s.gossip[:], s.tag[:], s.discovery[:]} {
		b = b[copy(part, b):]
	}
	s.workerKey = ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
	s.masterPub = bytes.Clone(b[ed25519.SeedSize:])
	return s
}

// encode writes b with a checksum over prefix and b.
func encode(prefix string, b []byte) string {
	return prefix + text32.EncodeToString(b) + "-" + check(b)
}

func check(b []byte) string {
	return text32.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)))[:checkChars]
}

// decode reads n bytes and their checksum.
func decode(text string, n int) ([]byte, error) {
	body, sum, _ := strings.Cut(text, "-")
	want := text32.EncodedLen(n)
	if len(body) != want || len(sum) != checkChars {
		return nil, fmt.Errorf("is not whole: it has %d characters behind its prefix, want %d; copy it again", len(text), want+1+checkChars)
	}
	b, err := text32.DecodeString(body)
	if err != nil || check(b) != sum || text32.EncodeToString(b) != body {
		return nil, errors.New("has a typing error: its checksum is wrong; copy it again")
	}
	return b, nil
}
