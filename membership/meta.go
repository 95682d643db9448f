package membership

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// Metadata is what every node gossips about itself, at most 512 bytes.
//
//	size     field
//	1        format, now 1; a reader refuses one it does not know
//	1        flags: 1 available
//	1        roles: 1 worker, 2 master, 4 tracker
//	varint   slots
//	varint   busy
//	1+n      name, its length first
//	1+n      version of scagent, its length first
//	1        how the document travels: 1 inside, 2 by digest
//	varint+n inside: the document, deflated, its length first
//	16       by digest: the first half of its SHA-256
//	...      fields that later versions append; ignored by this one
const (
	metaFormat = 1

	metaAvailable = 1 << 0

	documentInside   = 1
	documentByDigest = 2

	maxVersionBytes = 32

	// maxSlots bounds slots and busy, so that no sum of them overflows.
	maxSlots = 1 << 20
)

var errBadMeta = errors.New("bad metadata")

// meta is the decoded form of metadata.
type meta struct {
	available bool
	roles     byte // bits, by index into the variable roles
	slots     int
	busy      int
	name      string
	version   string

	inside []byte // the deflated document; nil when it travels by digest
	digest digest // of the document, or of inside in what decodeMeta returns
}

// encode returns m's bytes, which always fit: the document goes inside only
// when there is room. The caller has checked name and version.
func (m *meta) encode() []byte {
	b := make([]byte, 0, memberlist.MetaMaxSize)
	var flags byte
	if m.available {
		flags |= metaAvailable
	}
	b = append(b, metaFormat, flags, m.roles)
	b = binary.AppendUvarint(b, uint64(m.slots))
	b = binary.AppendUvarint(b, uint64(m.busy))
	b = append(append(b, byte(len(m.name))), m.name...)
	b = append(append(b, byte(len(m.version))), m.version...)
	if m.inside != nil && len(b)+3+len(m.inside) <= memberlist.MetaMaxSize {
		b = append(b, documentInside)
		b = binary.AppendUvarint(b, uint64(len(m.inside)))
		return append(b, m.inside...)
	}
	return append(append(b, documentByDigest), m.digest[:]...)
}

// decodeMeta reads what encode wrote. The result refers to nothing of b.
func decodeMeta(b []byte) (*meta, error) {
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errBadMeta, len(b), memberlist.MetaMaxSize)
	}
	if len(b) < 3 {
		return nil, fmt.Errorf("%w: %d bytes are too short", errBadMeta, len(b))
	}
	if b[0] != metaFormat {
		return nil, fmt.Errorf("%w: format %d; this version of scagent knows %d", errBadMeta, b[0], metaFormat)
	}
	m := &meta{available: b[1]&metaAvailable != 0, roles: b[2] & (1<<len(roles) - 1)}
	r := metaReader{rest: b[3:]}
	m.slots = int(r.number(maxSlots))
	m.busy = int(r.number(maxSlots))
	m.name = string(r.text())
	m.version = string(r.text())
	switch how := r.take(1); {
	case r.bad:
	case how[0] == documentInside:
		m.inside = append([]byte{}, r.take(r.number(memberlist.MetaMaxSize))...)
		m.digest = digestOf(m.inside)
	case how[0] == documentByDigest:
		copy(m.digest[:], r.take(uint64(len(m.digest))))
	default:
		r.bad = true
	}
	if r.bad {
		return nil, fmt.Errorf("%w: a field is missing or out of range", errBadMeta)
	}
	if m.roles == 0 {
		return nil, fmt.Errorf("%w: no role", errBadMeta)
	}
	if err := errors.Join(checkText("name", m.name, maxNameBytes), checkText("version", m.version, maxVersionBytes)); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadMeta, err)
	}
	return m, nil
}

// metaReader takes fields off the front of rest; after a failure it returns
// zero values.
type metaReader struct {
	rest []byte
	bad  bool
}

func (r *metaReader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *metaReader) number(limit uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > limit {
		r.bad = true
		return 0
	}
	r.take(uint64(n))
	return v
}

func (r *metaReader) text() []byte {
	n := r.take(1)
	if r.bad {
		return nil
	}
	return r.take(uint64(n[0]))
}

func roleBits(list []Role) byte {
	var bits byte
	for i, r := range roles {
		for _, have := range list {
			if have == r {
				bits |= 1 << i
			}
		}
	}
	return bits
}

// roleLists holds the role list of every combination of bits, so that members
// share them.
var roleLists = func() (lists [1 << len(roles)][]Role) {
	for bits := range lists {
		for i, r := range roles {
			if bits&(1<<i) != 0 {
				lists[bits] = append(lists[bits], r)
			}
		}
	}
	return lists
}()
