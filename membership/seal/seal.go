// Package seal encrypts and authenticates datagrams between the nodes of a pool
// that has a secret, and refuses those that come a second time.
//
// # A sealed datagram
//
// Integers are big-endian.
//
//	offset  size  field
//	0       1     version, now 1
//	1       4     tag: names the key, see Key
//	5       8     sender: start of SHA-256 of the node's id
//	13      8     session: larger at each start of the sender
//	21      8     counter: from a random number in each session, larger in each datagram
//	29      n     contents, AES-256-GCM (NIST SP 800-38D)
//	29+n    16    tag of GCM, over all that precedes, and over the address that the
//	              datagram is for, which is not in it: 16 bytes as in IPv6, port u16
//
// The AES key is that of one sender's session, HKDF-Expand of the Key over "pkt/",
// sender and session (RFC 5869), and the nonce is the counter. So no nonce is used
// twice under a key, however long a node runs. That the counter begins anywhere
// keeps two processes apart that come to one session, by a copied state directory.
//
// # Replays
//
// For each sender the newest session is remembered, with the highest counter and
// a window of the 960 before it, as in RFC 6479. What is older, or was seen, is
// refused. A receiver that has just started remembers nothing yet: it may take an
// old datagram once. Nobody takes one that was for another.
package seal

import (
	"container/list"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	version     = 1
	headerBytes = 29
	gcmBytes    = 16

	// Overhead is how much longer a sealed datagram is than its contents.
	Overhead = headerBytes + gcmBytes

	maxSenders  = 8192 // remembered; the one silent for longest is forgotten
	windowWords = 16   // of 64 counters each
)

// Why a datagram is refused.
var (
	ErrMalformed  = errors.New("not a sealed datagram")
	ErrUnknownKey = errors.New("sealed with an unknown key")
	ErrForged     = errors.New("seal is wrong")
	ErrReplayed   = errors.New("datagram came before")
)

// Key seals datagrams.
type Key struct {
	Tag    [4]byte // names the key, in public
	Secret [32]byte
}

// Sealer seals what one node sends and opens what others sent. Its methods may
// be called from any goroutine.
type Sealer struct {
	sender  [8]byte // constant
	session uint64  // constant
	keys    func() []Key
	counter atomic.Uint64

	mu      sync.Mutex
	out     map[[4]byte]cipher.AEAD   // this node's own, by key
	senders map[[8]byte]*list.Element // of *sender
	recent  list.List                 // the sender heard last in front
}

// sender is what is remembered of a node, in its newest session.
type sender struct {
	id      [8]byte
	session uint64
	aeads   map[[4]byte]cipher.AEAD
	highest uint64 // counter
	window  [windowWords]uint64
}

// New returns the sealer of the node with the id, in a session, which must be
// larger than any before. keys is asked for each datagram: the first seals, any
// opens. It must be quick and never return none.
func New(node string, session uint64, keys func() []Key) *Sealer {
	s := &Sealer{
		sender: senderOf(node), session: session, keys: keys,
		out: map[[4]byte]cipher.AEAD{}, senders: map[[8]byte]*list.Element{},
	}
	var start [8]byte
	rand.Read(start[:])
	s.counter.Store(binary.BigEndian.Uint64(start[:]) >> 2) // far from its end
	return s
}

func senderOf(node string) [8]byte {
	sum := sha256.Sum256([]byte(node))
	return [8]byte(sum[:8])
}

// aeadOf derives the cipher of a session.
func aeadOf(k *Key, id [8]byte, session uint64) cipher.AEAD {
	info := binary.BigEndian.AppendUint64(append([]byte("pkt/"), id[:]...), session)
	key, err := hkdf.Expand(sha256.New, k.Secret[:], string(info), 32)
	if err != nil {
		panic(err) // only for more than 255 hashes
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // only for wrong lengths
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // likewise
	}
	return aead
}

func nonceOf(counter []byte) (n [12]byte) {
	copy(n[4:], counter)
	return n
}

// additional is what the seal is over besides the contents.
func additional(header []byte, to netip.AddrPort) []byte {
	b := make([]byte, 0, headerBytes+18)
	ip := to.Addr().As16()
	b = append(append(b, header...), ip[:]...)
	return binary.BigEndian.AppendUint16(b, to.Port())
}

// Seal appends the sealed form of plain to dst, which must not overlap it. to is the
// address under which the receiver knows itself.
func (s *Sealer) Seal(dst, plain []byte, to netip.AddrPort) []byte {
	key := &s.keys()[0]
	s.mu.Lock()
	aead := s.out[key.Tag]
	if aead == nil {
		aead = aeadOf(key, s.sender, s.session)
		if len(s.out) > 8 { // keys are replaced seldom
			clear(s.out)
		}
		s.out[key.Tag] = aead
	}
	s.mu.Unlock()
	at := len(dst)
	dst = append(dst, version)
	dst = append(dst, key.Tag[:]...)
	dst = append(dst, s.sender[:]...)
	dst = binary.BigEndian.AppendUint64(dst, s.session)
	dst = binary.BigEndian.AppendUint64(dst, s.counter.Add(1))
	header := dst[at : at+headerBytes : at+headerBytes]
	nonce := nonceOf(header[21:])
	return aead.Seal(dst, nonce[:], plain, additional(header, to))
}

// Open appends the contents of a sealed datagram to dst, which must not overlap
// it. at is this node's own address. Its error is one of this package's.
func (s *Sealer) Open(dst, sealed []byte, at netip.AddrPort) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != version {
		return dst, ErrMalformed
	}
	header := sealed[:headerBytes]
	var key *Key
	keys := s.keys()
	for i := range keys {
		if keys[i].Tag == [4]byte(header[1:5]) {
			key = &keys[i]
		}
	}
	if key == nil {
		return dst, ErrUnknownKey
	}
	id := [8]byte(header[5:13])
	session, counter := binary.BigEndian.Uint64(header[13:]), binary.BigEndian.Uint64(header[21:])

	s.mu.Lock()
	defer s.mu.Unlock()
	var known *sender
	e := s.senders[id]
	if e != nil {
		known = e.Value.(*sender)
		if session < known.session || session == known.session && known.seen(counter) {
			return dst, ErrReplayed
		}
	}
	var aead cipher.AEAD
	if known != nil && known.session == session {
		aead = known.aeads[key.Tag]
	}
	fresh := aead == nil
	if fresh {
		aead = aeadOf(key, id, session)
	}
	nonce := nonceOf(header[21:])
	plain, err := aead.Open(dst, nonce[:], sealed[headerBytes:], additional(header, at))
	if err != nil {
		return dst, ErrForged
	}
	// Only what is authentic is remembered.
	switch {
	case known == nil:
		if len(s.senders) >= maxSenders {
			delete(s.senders, s.recent.Remove(s.recent.Back()).(*sender).id)
		}
		known = &sender{id: id, session: session, aeads: map[[4]byte]cipher.AEAD{}}
		s.senders[id] = s.recent.PushFront(known)
	case known.session != session:
		*known = sender{id: id, session: session, aeads: map[[4]byte]cipher.AEAD{}}
		s.recent.MoveToFront(e)
	default:
		s.recent.MoveToFront(e)
	}
	if fresh {
		if len(known.aeads) > 4 {
			clear(known.aeads)
		}
		known.aeads[key.Tag] = aead
	}
	known.mark(counter)
	return plain, nil
}

// seen reports whether a counter was marked, or is too old to tell.
func (d *sender) seen(counter uint64) bool {
	if counter > d.highest {
		return false
	}
	if d.highest-counter >= (windowWords-1)*64 {
		return true
	}
	return d.window[counter/64%windowWords]&(1<<(counter%64)) != 0
}

// mark notes a counter that was not seen.
func (d *sender) mark(counter uint64) {
	if counter > d.highest {
		was, is := d.highest/64, counter/64
		for i := was + 1; i <= is && i <= was+windowWords; i++ {
			d.window[i%windowWords] = 0
		}
		d.highest = counter
	}
	d.window[counter/64%windowWords] |= 1 << (counter % 64)
}
