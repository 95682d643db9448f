package tasks

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// ID names a task or a run. Its first five bytes are those of the node that
// submitted it, so that whoever holds an ID can tell whom to ask about it; then
// come six bytes of Unix milliseconds and five that make it unique.
//
// As text it is 26 characters of lower-case base32, the first eight of which
// are the first eight characters of the submitting node's id.
type ID [16]byte

// ownerChars is how many characters of an ID's text are its owner's.
const ownerChars = 8

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ErrBadID is returned for text that is not an ID.
var ErrBadID = errors.New("not an id")

// String returns the ID as text.
func (id ID) String() string { return idEncoding.EncodeToString(id[:]) }

// IsZero reports whether the ID names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Owner returns the first eight characters of the id of the node that submitted
// the task.
func (id ID) Owner() string { return id.String()[:ownerChars] }

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := idEncoding.DecodeString(strings.ToLower(s))
	copy(id[:], b)
	// The decoder skips line ends, and bits at the end that mean nothing.
	if err != nil || len(b) != len(id) || id.String() != strings.ToLower(s) {
		return ID{}, fmt.Errorf("%w: %.40q; want the 26 letters and digits that submit printed", ErrBadID, s)
	}
	return id, nil
}

// MarshalText makes an ID a string in JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// Follow returns the ID that IDs mostly hands out after id.
func (id ID) Follow() ID {
	for i := len(id) - 1; i >= 11; i-- {
		if id[i]++; id[i] != 0 {
			break
		}
	}
	return id
}

// IDs hands out the IDs of one node. They only grow, so that sorting by ID is
// sorting by time of submission.
type IDs struct {
	owner [5]byte // constant

	mu   sync.Mutex
	last uint64 // milliseconds of the last ID
	tail uint64 // 40 bits: random at each new millisecond, then counted up
}

// NewIDs returns the source of IDs for the node with the given id (base32, as
// membership spells it).
func NewIDs(node string) (*IDs, error) {
	if len(node) < ownerChars {
		return nil, fmt.Errorf("node id is %q; want at least %d characters of base32", node, ownerChars)
	}
	b, err := idEncoding.DecodeString(node[:ownerChars])
	if err != nil {
		return nil, fmt.Errorf("node id %q: %w", node, err)
	}
	s := &IDs{}
	copy(s.owner[:], b)
	return s, nil
}

// Past sees to it that the next IDs are larger than id, which a node had handed out
// when it ran before, perhaps by another clock.
func (s *IDs) Past(id ID) {
	ms := uint64(id[5])<<40 | uint64(id[6])<<32 | uint64(binary.BigEndian.Uint32(id[7:]))
	s.mu.Lock()
	defer s.mu.Unlock()
	if ms >= s.last {
		s.last, s.tail = ms+1, 0
	}
}

// Next returns a new ID.
func (s *IDs) Next() ID {
	now := uint64(time.Now().UnixMilli())
	s.mu.Lock()
	if now > s.last {
		var r [8]byte
		rand.Read(r[:]) // never fails, see crypto/rand
		s.last, s.tail = now, binary.BigEndian.Uint64(r[:])>>26
	} else if s.tail++; s.tail >= 1<<40 {
		s.last, s.tail = s.last+1, 0
	}
	ms, tail := s.last, s.tail
	s.mu.Unlock()

	var id ID
	copy(id[:5], s.owner[:])
	id[5], id[6] = byte(ms>>40), byte(ms>>32)
	binary.BigEndian.PutUint32(id[7:], uint32(ms))
	id[11] = byte(tail >> 32)
	binary.BigEndian.PutUint32(id[12:], uint32(tail))
	return id
}
