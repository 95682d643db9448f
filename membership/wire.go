package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The messages of memberlist, as its own encoder writes them: a type byte, then
// a msgpack map from field name to an integer, a bool or bytes. This reader
// takes nothing else, so that what memberlist's far more lenient decoder makes
// of a message is what was checked here.

// kind is memberlist's type byte.
type kind byte

const (
	kindPing         kind = 0
	kindIndirectPing kind = 1
	kindAck          kind = 2
	kindSuspect      kind = 3
	kindAlive        kind = 4
	kindDead         kind = 5
	kindPushPull     kind = 6
	kindCompound     kind = 7
	kindUser         kind = 8
	kindCompress     kind = 9
	kindEncrypt      kind = 10
	kindNack         kind = 11
	kindCRC          kind = 12
	kindErr          kind = 13
	kindLabel        kind = 244
)

// field is a set of fields of memberlist's messages.
type field uint32

const (
	fieldSeqNo field = 1 << iota
	fieldNode
	fieldFrom
	fieldIncarnation
	fieldAddr
	fieldPort
	fieldMeta
	fieldVsn
	fieldTarget
	fieldNack
	fieldSourceAddr
	fieldSourcePort
	fieldSourceNode
	fieldPayload
	fieldError
	fieldName
	fieldState
	fieldNodes
	fieldUserStateLen
	fieldJoin
)

// The fields of each message. Those of a source may be missing.
const (
	sourceFields       = fieldSourceAddr | fieldSourcePort | fieldSourceNode
	pingFields         = fieldSeqNo | fieldNode | sourceFields
	indirectPingFields = pingFields | fieldTarget | fieldPort | fieldNack
	ackFields          = fieldSeqNo | fieldPayload
	nackFields         = fieldSeqNo
	accusationFields   = fieldIncarnation | fieldNode | fieldFrom // suspect and dead
	aliveFields        = fieldIncarnation | fieldNode | fieldAddr | fieldPort | fieldMeta | fieldVsn
	errFields          = fieldError
	headerFields       = fieldNodes | fieldUserStateLen | fieldJoin
	stateFields        = fieldName | fieldAddr | fieldPort | fieldMeta | fieldIncarnation | fieldState | fieldVsn
)

var fieldNames = map[string]field{
	"SeqNo": fieldSeqNo, "Node": fieldNode, "From": fieldFrom, "Incarnation": fieldIncarnation,
	"Addr": fieldAddr, "Port": fieldPort, "Meta": fieldMeta, "Vsn": fieldVsn, "Target": fieldTarget,
	"Nack": fieldNack, "SourceAddr": fieldSourceAddr, "SourcePort": fieldSourcePort,
	"SourceNode": fieldSourceNode, "Payload": fieldPayload, "Error": fieldError, "Name": fieldName,
	"State": fieldState, "Nodes": fieldNodes, "UserStateLen": fieldUserStateLen, "Join": fieldJoin,
}

// message holds the fields of any message. Slices point into what was parsed.
type message struct {
	incarnation, nodes, userStateLen, state uint64
	port, sourcePort                        uint64

	node, from, name, sourceNode []byte
	addr, target, sourceAddr     []byte
	meta, vsn                    []byte

	// incarnationAt and stateAt are the encoded values, for changing them in
	// place.
	incarnationAt, stateAt []byte
}

var (
	// errShort says that the input ended inside a message.
	errShort = errors.New("message ends too early")
	errForm  = errors.New("not a message as memberlist writes it")
)

// parse reads the map at the front of b, which must hold the wanted fields, once
// each and no others, and returns what follows it.
func parse(b []byte, want field) (m message, rest []byte, err error) {
	if len(b) == 0 {
		return m, nil, errShort
	}
	if b[0]&0xf0 != 0x80 {
		return m, nil, errForm
	}
	n, rest := int(b[0]&0x0f), b[1:]
	var seen field
	for range n {
		var key, val value
		if key, rest, err = parseValue(rest); err != nil {
			return m, nil, err
		}
		if val, rest, err = parseValue(rest); err != nil {
			return m, nil, err
		}
		f := fieldNames[string(key.bytes)]
		if f&want == 0 || f&seen != 0 {
			return m, nil, fmt.Errorf("%w: unexpected field", errForm)
		}
		seen |= f
		if !m.set(f, val) {
			return m, nil, fmt.Errorf("%w: a field has the wrong type or size", errForm)
		}
	}
	if missing := want &^ seen; missing&^sourceFields != 0 {
		return m, nil, fmt.Errorf("%w: a field is missing", errForm)
	}
	return m, rest, nil
}

// set stores a field and reports whether its type and size are right.
func (m *message) set(f field, v value) bool {
	number := func(to *uint64, limit uint64) bool {
		*to = v.number
		return v.is == isNumber && v.number <= limit
	}
	bytes := func(to *[]byte) bool {
		*to = v.bytes
		return v.is == isBytes || v.is == isNil
	}
	var ignored []byte
	switch f {
	case fieldSeqNo:
		return v.is == isNumber && v.number <= math.MaxUint32
	case fieldIncarnation:
		m.incarnationAt = v.raw
		return number(&m.incarnation, math.MaxUint32)
	case fieldState:
		m.stateAt = v.raw
		return number(&m.state, stateLeft)
	case fieldPort:
		return number(&m.port, math.MaxUint16)
	case fieldSourcePort:
		return number(&m.sourcePort, math.MaxUint16)
	case fieldNodes:
		return number(&m.nodes, math.MaxInt64)
	case fieldUserStateLen:
		return number(&m.userStateLen, math.MaxInt64)
	case fieldNode:
		return bytes(&m.node)
	case fieldFrom:
		return bytes(&m.from)
	case fieldName:
		return bytes(&m.name)
	case fieldSourceNode:
		return bytes(&m.sourceNode)
	case fieldAddr:
		return bytes(&m.addr)
	case fieldTarget:
		return bytes(&m.target)
	case fieldSourceAddr:
		return bytes(&m.sourceAddr)
	case fieldMeta:
		return bytes(&m.meta)
	case fieldVsn:
		return bytes(&m.vsn)
	case fieldPayload, fieldError:
		return bytes(&ignored)
	case fieldNack, fieldJoin:
		return v.is == isBool
	}
	return false
}

type valueType byte

const (
	isNil valueType = iota
	isBool
	isNumber // not negative
	isBytes
)

type value struct {
	is     valueType
	number uint64
	bytes  []byte
	raw    []byte // the value as encoded
}

// parseValue reads one value at the front of b. Lengths are compared with what
// is there; nothing is allocated.
func parseValue(b []byte) (v value, rest []byte, err error) {
	if len(b) == 0 {
		return v, nil, errShort
	}
	width, bytesLen := 0, -1 // of the big-endian number after the type byte; of what follows
	switch c := b[0]; {
	case c <= 0x7f:
		v.is, v.number = isNumber, uint64(c)
	case c&0xe0 == 0xa0:
		v.is, bytesLen = isBytes, int(c&0x1f)
	case c == 0xc0:
		v.is = isNil
	case c == 0xc2, c == 0xc3:
		v.is = isBool
	case c >= 0xcc && c <= 0xcf: // unsigned, 1 to 8 bytes
		v.is, width = isNumber, 1<<(c-0xcc)
	case c >= 0xd0 && c <= 0xd3: // signed, 1 to 8 bytes
		v.is, width = isNumber, 1<<(c-0xd0)
	case c >= 0xc4 && c <= 0xc6: // bytes, with a length of 1 to 4 bytes
		v.is, width = isBytes, 1<<(c-0xc4)
	case c >= 0xd9 && c <= 0xdb: // text, the same
		v.is, width = isBytes, 1<<(c-0xd9)
	default:
		return v, nil, errForm
	}
	rest = b[1:]
	if width > 0 {
		if len(rest) < width {
			return v, nil, errShort
		}
		var wide [8]byte
		copy(wide[8-width:], rest)
		n := binary.BigEndian.Uint64(wide[:])
		rest = rest[width:]
		if signed := b[0] >= 0xd0 && b[0] <= 0xd3; signed && n>>(8*width-1) != 0 {
			return v, nil, errForm // negative
		}
		if v.is == isBytes {
			if n > maxValueBytes {
				return v, nil, errForm
			}
			bytesLen = int(n)
		} else {
			v.number = n
		}
	}
	if bytesLen >= 0 {
		if len(rest) < bytesLen {
			return v, nil, errShort
		}
		v.bytes, rest = rest[:bytesLen:bytesLen], rest[bytesLen:]
	}
	v.raw = b[:len(b)-len(rest)]
	return v, rest, nil
}

// maxValueBytes is more than any single field of any message holds.
const maxValueBytes = 2048

// memberlist's states of a node, in push/pull.
const (
	stateAlive   = 0
	stateSuspect = 1
	stateDead    = 2
	stateLeft    = 3
)

// compoundParts splits the body of a compound message: a count, the lengths of
// the parts, the parts. The lengths must add up.
func compoundParts(b []byte, each func(part []byte) error) error {
	if len(b) < 1 || len(b) < 1+2*int(b[0]) {
		return errShort
	}
	n := int(b[0])
	lengths, parts := b[1:1+2*n], b[1+2*n:]
	for i := range n {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if size > len(parts) {
			return errShort
		}
		if err := each(parts[:size:size]); err != nil {
			return err
		}
		parts = parts[size:]
	}
	if n == 0 || len(parts) > 0 {
		return errForm
	}
	return nil
}
