package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/scagent/scagent/tasks"
)

// A segment begins with a header. Integers are big-endian.
//
//	offset  size  field
//	0       8     magic, "scjournl"
//	8       4     version, now 1
//	12      4     crc32c of these 128 bytes without this field
//	16      4     number of the segment, which is in its name too
//	20      4     base: the oldest segment that counted when this one was made
//	24      8     sequence number of its first record
//	32      8     mark, random: each group of the segment begins with it
//	40      8     mark of the segment before it, 0 for the first of a journal
//	48      1     length of the node id
//	49      79    node id, then zeros
//
// Other versions keep magic, version and crc where they are, over 128 bytes.
//
// Then come groups. A group is what was written and synced at once:
//
//	0       8     mark of the segment
//	8       4     crc32c of this header without this field
//	12      4     length of the records in bytes
//	16      4     how many there are, at least 1
//	20      8     sequence number of the first
//	28            the records
//
// A record:
//
//	0       4     crc32c of the rest of the record
//	4       4     length of the value
//	8       8     sequence number
//	16      1     op
//	17      1     kind; 0 for records of the journal's own
//	18      16    id
//	34            the value
const (
	version      = 1
	headerBytes  = 128
	groupHeader  = 28
	recordHeader = 34
	maxNode      = headerBytes - 49
)

var magic = [8]byte{'s', 'c', 'j', 'o', 'u', 'r', 'n', 'l'}

// The ops.
const (
	opPut    = 1 // value is the value
	opDelete = 2 // no value
	opFile   = 3 // value is the SHA-256 of the value, which names its file
	opSeal   = 4 // the last record of a segment; value: number and mark of the next
	opBase   = 5 // value: number of the oldest segment that counts
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is that of a segment.
type header struct {
	number, base       uint32
	first              uint64
	mark, previousMark [8]byte
	node               string
}

func (h *header) marshal() []byte {
	b := make([]byte, headerBytes)
	copy(b, magic[:])
	binary.BigEndian.PutUint32(b[8:], version)
	binary.BigEndian.PutUint32(b[16:], h.number)
	binary.BigEndian.PutUint32(b[20:], h.base)
	binary.BigEndian.PutUint64(b[24:], h.first)
	copy(b[32:], h.mark[:])
	copy(b[40:], h.previousMark[:])
	b[48] = byte(len(h.node))
	copy(b[49:], h.node)
	binary.BigEndian.PutUint32(b[12:], headerSum(b))
	return b
}

func headerSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:headerBytes])
}

// What can be wrong with a header, and so with its segment.
var (
	errShort   = errors.New("it is shorter than its header")
	errMagic   = errors.New("it does not begin as a segment does")
	errSum     = errors.New("the checksum of its header is wrong")
	errVersion = errors.New("another version")
)

func parseHeader(b []byte) (h header, err error) {
	switch {
	case len(b) < headerBytes:
		return h, errShort
	case [8]byte(b) != magic:
		return h, errMagic
	case binary.BigEndian.Uint32(b[12:]) != headerSum(b):
		return h, errSum
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != version {
		return h, fmt.Errorf("%w: %d", errVersion, v)
	}
	h.number = binary.BigEndian.Uint32(b[16:])
	h.base = binary.BigEndian.Uint32(b[20:])
	h.first = binary.BigEndian.Uint64(b[24:])
	h.mark = [8]byte(b[32:])
	h.previousMark = [8]byte(b[40:])
	h.node = string(b[49 : 49+min(int(b[48]), maxNode)])
	return h, nil
}

// entry is a record as it lies in a segment.
type entry struct {
	op    byte
	kind  Kind
	id    tasks.ID
	seq   uint64
	off   int64 // in the segment
	value []byte
}

func (e *entry) size() int { return recordHeader + len(e.value) }

// appendRecord appends a record to b.
func appendRecord(b []byte, e *entry) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.value)))
	b = binary.BigEndian.AppendUint64(b, e.seq)
	b = append(b, e.op, byte(e.kind))
	b = append(b, e.id[:]...)
	b = append(b, e.value...)
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

// parseRecord reads the record at the beginning of b, whose value is part of b.
func parseRecord(b []byte) (e entry, ok bool) {
	if len(b) < recordHeader {
		return e, false
	}
	n := uint64(binary.BigEndian.Uint32(b[4:])) + recordHeader
	if n > uint64(len(b)) || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:n], castagnoli) {
		return e, false
	}
	e = entry{op: b[16], kind: Kind(b[17]), seq: binary.BigEndian.Uint64(b[8:]), id: tasks.ID(b[18:34]), value: b[recordHeader:n:n]}
	return e, e.valid()
}

// valid reports whether the record is one that this version writes.
func (e *entry) valid() bool {
	switch e.op {
	case opPut:
		return e.kind != 0
	case opDelete:
		return e.kind != 0 && len(e.value) == 0
	case opFile:
		return e.kind != 0 && len(e.value) == sha256.Size
	case opSeal:
		return e.kind == 0 && len(e.value) == 12
	case opBase:
		return e.kind == 0 && len(e.value) == 4
	}
	return false
}

// group is the header of a group.
type group struct {
	bytes, count uint32
	first        uint64
}

// finishGroup fills in the header of the group that b is, whose first
// groupHeader bytes were left free.
func finishGroup(b []byte, mark [8]byte, g group) {
	copy(b, mark[:])
	binary.BigEndian.PutUint32(b[12:], g.bytes)
	binary.BigEndian.PutUint32(b[16:], g.count)
	binary.BigEndian.PutUint64(b[20:], g.first)
	binary.BigEndian.PutUint32(b[8:], groupSum(b))
}

func groupSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:8], castagnoli), castagnoli, b[12:groupHeader])
}

func parseGroup(b []byte, mark [8]byte) (g group, ok bool) {
	if len(b) < groupHeader || [8]byte(b) != mark || binary.BigEndian.Uint32(b[8:]) != groupSum(b) {
		return g, false
	}
	g = group{bytes: binary.BigEndian.Uint32(b[12:]), count: binary.BigEndian.Uint32(b[16:]), first: binary.BigEndian.Uint64(b[20:])}
	return g, g.count > 0 && g.bytes <= maxCall+maxGroup
}

// records reads the records of an intact group at the beginning of b, which
// begins at offset off of its segment, into es. When it is not intact, bad is
// where in b the first record is that is not, or 0 for the header.
func records(es []entry, b []byte, off int64, mark [8]byte, next uint64) (out []entry, n, bad int, ok bool) {
	g, ok := parseGroup(b, mark)
	if !ok || g.first != next {
		return es, 0, 0, false
	}
	n = groupHeader
	end := min(len(b), groupHeader+int(g.bytes))
	for i := range g.count {
		e, ok := parseRecord(b[n:end])
		if !ok || e.seq != next+uint64(i) {
			return es, groupHeader + int(g.bytes), n, false
		}
		e.off = off + int64(n)
		es = append(es, e)
		n += e.size()
	}
	return es, groupHeader + int(g.bytes), n, n == groupHeader+int(g.bytes)
}

// sector is what a disk writes whole or not at all.
const sector = 512

// torn reports whether b, the end of a segment that begins at offset off, can be
// what a crash leaves of the last write: a group of which the file has not got
// all bytes, or not got whole sectors, which then read as zeros. No later group
// may begin in it, since that would have been written only when this one was
// safe. Anything else is damage.
func torn(b []byte, off int64, mark [8]byte, next uint64) bool {
	for rest := b[1:]; ; {
		i := bytes.Index(rest, mark[:])
		if i < 0 {
			break
		}
		if g, ok := parseGroup(rest[i:], mark); ok && g.first > next {
			return false
		}
		rest = rest[i+1:]
	}
	if len(b) < groupHeader {
		return bytes.HasPrefix(mark[:], b[:min(len(b), len(mark))]) || missing(b, off, 0, len(b))
	}
	g, ok := parseGroup(b, mark)
	if !ok {
		return missing(b, off, 0, groupHeader)
	}
	end := groupHeader + int(g.bytes)
	if g.first != next || len(bytes.Trim(b[min(end, len(b)):], "\x00")) > 0 {
		return false
	}
	if end > len(b) {
		return true
	}
	_, _, bad, _ := records(nil, b, off, mark, next)
	size := recordHeader
	if n := uint64(len(b)) - uint64(bad); n >= recordHeader {
		size = int(min(recordHeader+uint64(binary.BigEndian.Uint32(b[bad+4:])), uint64(end-bad)))
	}
	return bad < end && missing(b[:end], off, bad, bad+size)
}

// missing reports whether one of the sectors that b[from:to] touches has nothing
// but zeros, as far as it belongs to b. b begins at offset off.
func missing(b []byte, off int64, from, to int) bool {
	for at := from - int((off+int64(from))%sector); at < to; at += sector {
		part := b[max(at, 0):min(at+sector, len(b))]
		if len(bytes.TrimLeft(part, "\x00")) == 0 {
			return true
		}
	}
	return false
}
