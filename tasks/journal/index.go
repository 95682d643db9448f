package journal

import (
	"cmp"
	"encoding/binary"

	"github.com/google/btree"
	"github.com/scagent/scagent/tasks"
)

// item says where the last record of an ID is. There are many: it is kept small.
type item struct {
	id      tasks.ID
	segment uint32
	off     uint32
	size    uint32 // of the record; the top bit is set when the value has a file
}

const inFile = 1 << 31

func (it *item) bytes() int64 { return int64(it.size &^ inFile) }

func before(a, b item) bool { return compareIDs(a.id, b.id) < 0 }

func compareIDs(a, b tasks.ID) int {
	return cmp.Or(cmp.Compare(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(b[:8])),
		cmp.Compare(binary.BigEndian.Uint64(a[8:]), binary.BigEndian.Uint64(b[8:])))
}

// degree is that of the trees: with IDs that mostly grow the nodes are half full.
const degree = 32

// segment is one file of the log.
type segment struct {
	number uint32 // constant
	mark   [8]byte
	path   string // constant
	file   File   // constant; closed when the segment is dropped
	size   int64  // bytes of the file
	live   int64  // bytes of records that the index has
}

// sum is the SHA-256 of a value that has a file.
type sum [32]byte

type key struct {
	kind Kind
	id   tasks.ID
}

// index knows all records.
type index struct {
	kinds    [256]*btree.BTreeG[item]
	segments []*segment  // ascending and without a gap, the last is written to
	files    map[key]sum // values that have a file
	refs     map[sum]int // how many records name it
	live     int64       // sum of segment.live
	disk     int64       // sum of segment.size
}

func newIndex() *index {
	return &index{files: make(map[key]sum), refs: make(map[sum]int)}
}

func (x *index) head() *segment { return x.segments[len(x.segments)-1] }

// segment returns the segment of that number, which must be there.
func (x *index) segment(n uint32) *segment { return x.segments[n-x.segments[0].number] }

func (x *index) get(k Kind, id tasks.ID) (item, bool) {
	if x.kinds[k] == nil {
		return item{}, false
	}
	return x.kinds[k].Get(item{id: id})
}

// put takes over a record of segment s. A file that is no longer named is
// returned as unused.
func (x *index) put(s *segment, e *entry) (unused sum, some bool) {
	switch e.op {
	case opPut, opFile:
		it := item{id: e.id, segment: s.number, off: uint32(e.off), size: uint32(e.size())}
		if e.op == opFile {
			it.size |= inFile
			x.refs[sum(e.value)]++
		}
		if x.kinds[e.kind] == nil {
			x.kinds[e.kind] = btree.NewG(degree, before)
		}
		old, had := x.kinds[e.kind].ReplaceOrInsert(it)
		if had {
			unused, some = x.drop(e.kind, old)
		}
		if e.op == opFile {
			x.files[key{e.kind, e.id}] = sum(e.value)
		}
		s.live += int64(e.size())
		x.live += int64(e.size())
	case opDelete:
		if x.kinds[e.kind] == nil {
			break
		}
		if old, had := x.kinds[e.kind].Delete(item{id: e.id}); had {
			return x.drop(e.kind, old)
		}
	}
	return unused, some
}

// drop forgets what an item stood for.
func (x *index) drop(k Kind, it item) (unused sum, some bool) {
	x.segment(it.segment).live -= it.bytes()
	x.live -= it.bytes()
	if it.size&inFile == 0 {
		return unused, false
	}
	h := x.files[key{k, it.id}]
	delete(x.files, key{k, it.id})
	if x.refs[h]--; x.refs[h] > 0 {
		return unused, false
	}
	delete(x.refs, h)
	return h, true
}
