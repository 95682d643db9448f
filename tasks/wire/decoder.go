package wire

import (
	"encoding/binary"
	"math"

	"github.com/scagent/scagent/tasks"
)

// decoder takes values off the front of a body. After a value that is not
// there or not valid, bad is set, and all further values are zero.
type decoder struct {
	b   []byte // what is left
	bad bool
}

// fail makes the rest of the body worthless.
func (d *decoder) fail() { d.b, d.bad = nil, true }

// done reports whether all was valid and nothing is left.
func (d *decoder) done() bool { return !d.bad && len(d.b) == 0 }

// take returns the next n bytes, which alias the body; nil if there are fewer.
func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u8() byte {
	if len(d.b) < 1 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// flag takes a byte that is 0 or 1.
func (d *decoder) flag() bool {
	v := d.u8()
	if v > 1 {
		d.fail()
	}
	return v == 1
}

func (d *decoder) u16() uint16 {
	if len(d.b) < 2 {
		d.fail()
		return 0
	}
	v := binary.BigEndian.Uint16(d.b)
	d.b = d.b[2:]
	return v
}

func (d *decoder) u32() uint32 {
	if len(d.b) < 4 {
		d.fail()
		return 0
	}
	v := binary.BigEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *decoder) u64() uint64 {
	if len(d.b) < 8 {
		d.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) id() (id tasks.ID) {
	if len(d.b) < len(id) {
		d.fail()
		return id
	}
	copy(id[:], d.b)
	d.b = d.b[len(id):]
	return id
}

func (d *decoder) key() Key { return Key{Task: d.id(), N: d.u32()} }

// uvarint takes an unsigned number, at most limit.
func (d *decoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// positive takes a number that fits an int64 and is not negative.
func (d *decoder) positive() int64 { return int64(d.uvarint(math.MaxInt64)) }

// signed takes a number in zigzag.
func (d *decoder) signed() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count takes the number of elements of a list, each of which takes at least
// size bytes of the body, so that no list is made that cannot be there.
func (d *decoder) count(size int) int {
	return int(d.uvarint(uint64(len(d.b) / size)))
}

// bytes takes a length and as many bytes, which alias the body; nil for none.
func (d *decoder) bytes() []byte {
	n := int(d.uvarint(uint64(len(d.b))))
	if n == 0 {
		return nil
	}
	return d.take(n)
}

// text is bytes as a string of its own.
func (d *decoder) text() string { return string(d.bytes()) }

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendPositive(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(max(v, 0)))
}
