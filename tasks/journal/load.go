package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Names in the directory.
const (
	aboutFile     = "about"   // made once: a directory that has it once had segments
	valuesDir     = "values"  // of files named by the hash of what they hold
	segmentSuffix = ".log"    // after the number in 8 hex digits
	tmpSuffix     = ".tmp"    // not yet complete; removed by Open
	damagedPrefix = "damaged" // what Salvage keeps
)

// aboutForm is how the text of aboutFile begins, for people and for Salvage.
const aboutForm = "journal of node %s\n"

func join(dir, name string) string { return filepath.Join(dir, name) }

func segmentName(n uint32) string { return fmt.Sprintf("%08x%s", n, segmentSuffix) }

// segmentNumber is the reverse of segmentName.
func segmentNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(digits, 16, 32)
	return uint32(n), ok && err == nil && segmentName(uint32(n)) == name
}

// remedy is what to do about damage.
const remedy = "nothing was changed; restore a copy of the directory, or keep what is intact with: scagent journal salvage"

// noOffset is for damage to a file as a whole.
const noOffset = -1

// damage returns ErrDamaged about a place.
func damage(path string, off int64, format string, a ...any) error {
	if off != noOffset {
		path = fmt.Sprintf("%s, offset %d", path, off)
	}
	return fmt.Errorf("%w: %s: %s; %s", ErrDamaged, path, fmt.Sprintf(format, a...), remedy)
}

// loaded is what a directory holds.
type loaded struct {
	*index
	node  string
	next  uint64 // sequence number of the next record
	fresh bool   // there is no journal yet
	about bool   // the file is there

	cut    int64    // bytes of a torn write at the end of the last segment
	remove []string // leftovers, paths
}

func (l *loaded) close() {
	for _, s := range l.segments {
		s.file.Close()
	}
}

// load reads and verifies all of a directory and changes nothing.
func load(f FS, dir string) (l *loaded, err error) {
	l = &loaded{index: newIndex()}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	names, err := f.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		l.fresh = true
		return l, nil
	}
	if err != nil {
		return l, err
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			numbers = append(numbers, n)
		} else if strings.HasSuffix(name, tmpSuffix) {
			l.remove = append(l.remove, join(dir, name))
		}
	}
	slices.Sort(numbers)
	l.about = slices.Contains(names, aboutFile)
	if len(numbers) == 0 {
		if l.about {
			return l, damage(dir, noOffset, "there is the file %q but no segment of the journal: they were removed", aboutFile)
		}
		l.fresh = true
		return l, nil
	}
	if err := l.segmentsOf(f, dir, numbers); err != nil {
		return l, err
	}
	return l, l.values(f, dir)
}

// content is a segment in memory.
type content struct {
	path string
	header
	b []byte
}

func readSegment(f FS, dir string, n uint32) (c content, err error) {
	c.path = join(dir, segmentName(n))
	if c.b, err = readFile(f, c.path); err != nil {
		return c, err
	}
	if c.header, err = parseHeader(c.b); err != nil {
		if errors.Is(err, errVersion) {
			return c, fmt.Errorf("%w: %s is of %w, this program reads version %d: run the scagent that wrote it, or a newer one", ErrVersion, c.path, err, version)
		}
		return c, damage(c.path, 0, "%s", err)
	}
	if c.number != n {
		return c, damage(c.path, 16, "it is segment %d by its header: files were exchanged or copied", c.number)
	}
	return c, nil
}

// segmentsOf reads the segments of the given numbers.
func (l *loaded) segmentsOf(f FS, dir string, numbers []uint32) error {
	last, err := readSegment(f, dir, numbers[len(numbers)-1])
	if err != nil {
		return err
	}
	l.node = last.node
	base := newestBase(&last)
	if len(last.b) == headerBytes && slices.Contains(numbers, last.number-1) {
		// Perhaps nothing names the last one, and its predecessor went on.
		c, err := readSegment(f, dir, last.number-1)
		if err == nil {
			base = max(base, newestBase(&c))
		}
	}
	if base == 0 || base > last.number {
		return damage(last.path, noOffset, "it says that segments from number %d on count", base)
	}
	// What is older was no longer needed and its removal cut short.
	for len(numbers) > 0 && numbers[0] < base {
		l.remove = append(l.remove, join(dir, segmentName(numbers[0])))
		numbers = numbers[1:]
	}
	var seal *entry // of the segment before
	var mark [8]byte
	for i, n := range numbers {
		if want := base + uint32(i); n != want {
			return damage(join(dir, segmentName(want)), noOffset, "the segment is missing")
		}
		c := last
		if n != last.number {
			if c, err = readSegment(f, dir, n); err != nil {
				return err
			}
		}
		if i == 0 {
			l.next = c.first
		} else if seal == nil && n == last.number && len(c.b) == headerBytes && c.previousMark == mark {
			// The change from the last segment to a new one was cut short.
			l.remove = append(l.remove, c.path)
			break
		} else if err := l.follows(&c, seal, mark); err != nil {
			return err
		}
		isLast := n == last.number || n == last.number-1 && len(last.b) == headerBytes
		if seal, err = l.segment1(f, &c, isLast); err != nil {
			return err
		}
		mark = c.mark
	}
	if seal != nil {
		n := l.head().number + 1
		return damage(join(dir, segmentName(n)), noOffset, "the segment is missing: %s says that it follows", l.head().path)
	}
	return nil
}

// newestBase returns what a segment says of the oldest one that counts.
func newestBase(c *content) uint32 {
	base := c.base
	for _, e := range intact(c) {
		if e.op == opBase {
			base = binary.BigEndian.Uint32(e.value)
		}
	}
	return base
}

// intact returns the records of a segment up to the first group that is not.
func intact(c *content) (es []entry) {
	for off, next := int64(headerBytes), c.first; off < int64(len(c.b)); {
		more, n, _, ok := records(es, c.b[off:], off, c.mark, next)
		if !ok {
			break
		}
		next += uint64(len(more) - len(es))
		es, off = more, off+int64(n)
	}
	return es
}

// follows checks that a segment is the one that its predecessor names.
func (l *loaded) follows(c *content, seal *entry, mark [8]byte) error {
	before := l.head()
	switch {
	case seal == nil:
		return damage(before.path, before.size, "the segment ends too early: its end is missing, or %s is not of this journal", c.path)
	case c.previousMark != mark || [8]byte(seal.value[4:]) != c.mark || c.first != l.next:
		return damage(c.path, 32, "it does not follow on %s: it is of another journal or of another time", before.path)
	case c.node != l.node:
		return damage(c.path, 48, "it is of node %q, the last segment of node %q", c.node, l.node)
	}
	return nil
}

// segment1 takes over one segment and returns its seal, if it has one.
func (l *loaded) segment1(f FS, c *content, last bool) (seal *entry, err error) {
	s := &segment{number: c.number, mark: c.mark, path: c.path, size: int64(len(c.b))}
	if s.file, err = f.Open(c.path); err != nil {
		return nil, err
	}
	l.segments = append(l.segments, s)
	l.disk += s.size
	var es []entry
	for off := int64(headerBytes); off < int64(len(c.b)); {
		rest := c.b[off:]
		if seal != nil {
			return nil, damage(s.path, off, "%d bytes lie behind the end of the segment", len(rest))
		}
		var n, bad int
		var ok bool
		if es, n, bad, ok = records(es[:0], rest, off, c.mark, l.next); !ok {
			if !last || !torn(rest, off, c.mark, l.next) {
				return nil, damage(s.path, off+int64(bad), "a record is not what was written there (record %d of the journal, or one behind it)", l.next)
			}
			l.cut = int64(len(rest))
			break
		}
		for i := range es {
			if es[i].op == opSeal {
				seal = &entry{op: opSeal, value: bytes.Clone(es[i].value)}
			}
			l.put(s, &es[i])
		}
		l.next += uint64(len(es))
		off += int64(n)
	}
	return seal, nil
}

// values verifies the files of values.
func (l *loaded) values(f FS, dir string) error {
	dir = join(dir, valuesDir)
	names, err := f.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		var h sum
		if n, err := hex.Decode(h[:], []byte(name)); err == nil && n == len(h) && l.refs[h] > 0 {
			continue
		}
		l.remove = append(l.remove, join(dir, name))
	}
	for h := range l.refs {
		if _, err := readValue(f, dir, h); err != nil {
			return err
		}
	}
	return nil
}

// readValue reads the file of a value and verifies it.
func readValue(f FS, dir string, h sum) ([]byte, error) {
	path := join(dir, hex.EncodeToString(h[:]))
	b, err := readFile(f, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (%w)", damage(path, noOffset, "the file is missing"), fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(b) != h {
		return nil, damage(path, noOffset, "the contents (%d bytes) do not match the hash that the name is", len(b))
	}
	return b, nil
}
