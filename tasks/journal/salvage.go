package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Report is what Check found, or Salvage kept.
type Report struct {
	Node     string
	Records  int   // of all kinds, intact and not deleted
	Bytes    int64 // of the log
	Segments int
	Torn     int64 // bytes of a write at the end that was not finished; Open cuts them off

	Damage []string // what is wrong, a line each; empty: nothing
	Gaps   []Gap    // records that are not there or not intact
	Kept   string   // directory with the files as Salvage found them
}

// Gap is a range of sequence numbers. Each record that was ever written has one;
// those in a gap may have been of any kind and ID, also deletions.
type Gap struct{ First, Last uint64 }

// Lost returns how many records were in the gaps.
func (r *Report) Lost() (n uint64) {
	for _, g := range r.Gaps {
		n += g.Last - g.First + 1
	}
	return n
}

// Check reads all of a journal that no process has open, and changes nothing.
// When it is damaged it returns ErrDamaged, and what is intact nevertheless.
func Check(dir string) (Report, error) {
	f := osFS{readOnly: true}
	l, err := load(f, dir)
	if err == nil && l.fresh {
		return Report{}, fmt.Errorf("check journal: there is none in %s", dir)
	}
	if err == nil {
		defer l.close()
		return l.report(), nil
	}
	if !errors.Is(err, ErrDamaged) {
		return Report{}, fmt.Errorf("check journal: %w", err)
	}
	r, rerr := rescue(f, dir)
	if rerr != nil {
		return Report{Damage: []string{err.Error()}}, fmt.Errorf("check journal: %w", errors.Join(err, rerr))
	}
	report := r.report()
	if len(report.Damage) == 0 {
		report.Damage = []string{err.Error()}
	}
	return report, fmt.Errorf("check journal: %w", err)
}

func (l *loaded) report() Report {
	r := Report{Node: l.node, Bytes: l.disk, Segments: len(l.segments), Torn: l.cut}
	for _, t := range l.kinds {
		if t != nil {
			r.Records += t.Len()
		}
	}
	return r
}

// Salvage makes a damaged journal one that opens again: every record that is
// intact goes into new segments, and all files as they were stay in the
// directory Report.Kept, inside dir. It does nothing to a journal that is not
// damaged. An ID whose last record is lost has what it had before, as far as
// that is still in the log: a record may be older than what was acknowledged, or
// one that was deleted may be back.
//
// No process may have the journal open. It can be called again if it was
// interrupted.
func Salvage(dir string) (Report, error) {
	r, err := Check(dir)
	if err == nil || !errors.Is(err, ErrDamaged) {
		return r, err
	}
	s, err := rescue(osFS{}, dir)
	if err != nil {
		return r, fmt.Errorf("salvage journal: %w", err)
	}
	if r.Kept, err = s.keep(); err != nil {
		return r, fmt.Errorf("salvage journal: %w", err)
	}
	cfg := DefaultConfig()
	cfg.Dir, cfg.Node = dir, s.node
	if err := s.rewrite(cfg); err != nil {
		return r, fmt.Errorf("salvage journal: %w; all files are also in %s", err, r.Kept)
	}
	after, err := Check(dir)
	if err != nil {
		return r, fmt.Errorf("salvage journal: %w; all files are also in %s", err, r.Kept)
	}
	if after.Records != r.Records {
		return r, fmt.Errorf("salvage journal: %d records are there now, want %d; all files are also in %s", after.Records, r.Records, r.Kept)
	}
	r.Bytes, r.Segments, r.Torn = after.Bytes, after.Segments, after.Torn
	return r, nil
}

// rescued is what is intact of a journal.
type rescued struct {
	dir     string
	node    string
	base    uint32
	numbers []uint32 // of the files, ascending
	bytes   int64
	next    uint64
	live    map[key]entry
	damage  []string
	gaps    []Gap
}

func (s *rescued) report() Report {
	return Report{Node: s.node, Records: len(s.live), Bytes: s.bytes, Segments: len(s.numbers), Damage: s.damage, Gaps: s.gaps}
}

func (s *rescued) note(format string, a ...any) {
	s.damage = append(s.damage, fmt.Sprintf(format, a...))
}

// rescue reads what is intact.
func rescue(f FS, dir string) (*rescued, error) {
	s := &rescued{dir: dir, live: make(map[key]entry)}
	names, err := f.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			s.numbers = append(s.numbers, n)
		}
	}
	slices.Sort(s.numbers)
	cs, err := s.contents(f)
	if err != nil {
		return nil, err
	}
	if s.node == "" {
		about, err := readFile(f, join(dir, aboutFile))
		if _, serr := fmt.Sscanf(string(about), aboutForm, &s.node); err != nil || serr != nil {
			return nil, fmt.Errorf("no header of a segment in %s is intact, and the file %q does not say whose journal it was: nothing can be kept", dir, aboutFile)
		}
	}
	var es []entry
	for i := range cs {
		more, bad := cs[i].rescue()
		if bad > 0 {
			s.note("%s: %d bytes are not what was written there", cs[i].path, bad)
		}
		for _, e := range more {
			if e.op == opBase {
				s.base = max(s.base, binary.BigEndian.Uint32(e.value))
			}
		}
		cs[i].es = more
	}
	if len(cs) > 0 {
		s.base = max(s.base, cs[0].number)
	}
	for i := range cs {
		if i > 0 && cs[i-1].number >= s.base {
			s.compare(&cs[i-1], &cs[i])
		}
		if cs[i].number >= s.base {
			es = append(es, cs[i].es...)
		}
	}
	s.apply(f, es)
	return s, nil
}

// compare notes what is wrong between two segments.
func (s *rescued) compare(a, b *damagedSegment) {
	switch {
	case b.number == a.number:
		s.note("%s: it has the number of %s", b.path, a.path)
	case b.number > a.number+1:
		s.note("%s: the segment before it is missing", b.path)
	case a.sound && b.sound && b.previousMark != a.mark:
		s.note("%s: it does not follow on %s", b.path, a.path)
	}
}

// damagedSegment is one of which some may be intact.
type damagedSegment struct {
	content
	sound bool // its header is intact
	es    []entry
}

// contents reads all segments, in the order of their numbers. It leaves out those
// of other nodes.
func (s *rescued) contents(f FS) (cs []damagedSegment, err error) {
	for _, n := range s.numbers {
		c := damagedSegment{content: content{path: join(s.dir, segmentName(n))}}
		if c.b, err = readFile(f, c.path); err != nil {
			return nil, err
		}
		s.bytes += int64(len(c.b))
		if c.header, err = parseHeader(c.b); err == nil {
			c.sound = true
			s.node, s.base = c.node, max(s.base, c.base) // of the newest
			if c.number != n {
				s.note("%s: it is segment %d by its header", c.path, c.number)
			}
		} else {
			s.note("%s: %v", c.path, err)
			c.number = n
			if len(c.b) >= headerBytes+groupHeader {
				c.mark = [8]byte(c.b[headerBytes:])
			}
		}
		cs = append(cs, c)
	}
	slices.SortStableFunc(cs, func(a, b damagedSegment) int { return cmp.Compare(a.number, b.number) })
	return slices.DeleteFunc(cs, func(c damagedSegment) bool {
		if c.sound && c.node != s.node {
			s.note("%s: it is of node %q, not %q", c.path, c.node, s.node)
			return true
		}
		return false
	}), nil
}

// rescue returns the intact records of a segment, and how many bytes are none.
//
// Only places count where a group can begin: after another, or where the mark
// of the segment is, which nobody can guess. A value that looks like records is
// never taken for them.
func (c *damagedSegment) rescue() (es []entry, bad int64) {
	for at := headerBytes; at < len(c.b); {
		g, ok := parseGroup(c.b[at:], c.mark)
		end := at + groupHeader + int(g.bytes)
		if !ok {
			end = len(c.b)
			if i := bytes.Index(c.b[at+1:], c.mark[:]); i >= 0 {
				end = at + 1 + i
			}
			bad += int64(min(groupHeader, end-at))
		}
		end = min(end, len(c.b))
		at = min(at+groupHeader, end)
		for at < end {
			e, ok := parseRecord(c.b[at:end])
			size := e.size()
			if !ok {
				if size = skip(c.b[at:end]); size == 0 {
					size = end - at
				}
				bad += int64(size)
			} else {
				es = append(es, e)
			}
			at += size
		}
	}
	return es, bad
}

// skip returns the length of a record that is not intact, if its length seems to
// be: an intact one follows it, or nothing. Otherwise 0.
func skip(b []byte) int {
	if len(b) < recordHeader {
		return 0
	}
	n := recordHeader + uint64(binary.BigEndian.Uint32(b[4:]))
	if n > uint64(len(b)) {
		return 0
	}
	if _, ok := parseRecord(b[n:]); !ok && n < uint64(len(b)) {
		return 0
	}
	return int(n)
}

// apply works out from records what there is.
func (s *rescued) apply(f FS, es []entry) {
	slices.SortStableFunc(es, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	es = slices.CompactFunc(es, func(a, b entry) bool { return a.seq == b.seq })
	for i, e := range es {
		if i > 0 && e.seq != s.next {
			s.gaps = append(s.gaps, Gap{s.next, e.seq - 1})
		}
		s.next = e.seq + 1
		k := key{e.kind, e.id}
		switch e.op {
		case opFile:
			if _, err := readValue(f, join(s.dir, valuesDir), sum(e.value)); err == nil {
				s.live[k] = e
			} else if later := es[i+1:]; !slices.ContainsFunc(later, func(l entry) bool { return l.kind == e.kind && l.id == e.id }) {
				s.note("a value of %d/%s is lost: %v", e.kind, e.id, err)
			}
		case opPut:
			s.live[k] = e
		case opDelete:
			delete(s.live, k)
		}
	}
	s.next = max(s.next, 1)
}

// keep puts all files as they are into a directory of their own.
func (s *rescued) keep() (dir string, err error) {
	dir = join(s.dir, damagedPrefix+"-"+time.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.MkdirAll(join(dir, valuesDir), 0o700); err != nil {
		return "", err
	}
	f := osFS{}
	for _, sub := range []string{"", valuesDir} {
		names, err := f.ReadDir(join(s.dir, sub))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, name := range names {
			if sub == "" && name == valuesDir || strings.HasPrefix(name, damagedPrefix) {
				continue
			}
			if err := link(filepath.Join(s.dir, sub, name), filepath.Join(dir, sub, name)); err != nil {
				return "", err
			}
		}
	}
	for _, d := range []string{join(dir, valuesDir), dir, s.dir} {
		if err := f.SyncDir(d); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// link gives a file a second name, or copies it where that is impossible.
func link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}

// rewrite writes what is intact to segments behind all others. The last record
// says that only they count; before it, Open still sees the damaged ones.
func (s *rescued) rewrite(cfg Config) error {
	j := &Journal{cfg: cfg, index: newIndex()}
	j.writer = writer{Journal: j, next: s.next}
	first := uint32(1)
	if len(s.numbers) > 0 {
		first = s.numbers[len(s.numbers)-1] + 1 // by name, so that no file is in the way
	}
	if first == 0 {
		return fmt.Errorf("there is no number after that of %s; move that file away", segmentName(math.MaxUint32))
	}
	if err := cfg.FS.MkdirAll(join(s.dir, valuesDir)); err != nil {
		return err
	}
	j.writer.base = min(max(s.base, 1), first) // until the last record below
	if err := j.writer.addSegment(first, newMark(), newMark()); err != nil {
		return err
	}
	defer func() {
		for _, g := range j.index.segments {
			g.file.Close()
		}
	}()
	es := make([]entry, 0, len(s.live)+1)
	for _, e := range s.live {
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	es = append(es, entry{op: opBase, value: binary.BigEndian.AppendUint32(nil, first)})
	for len(es) > 0 {
		n, size := 0, 0
		for n < len(es) && (n == 0 || int64(size+es[n].size()) <= min(maxGroup, cfg.SegmentBytes/4)) {
			size += es[n].size()
			n++
		}
		if err := j.writer.append(es[:n]); err != nil {
			return err
		}
		es = es[n:]
	}
	for _, n := range s.numbers {
		if err := cfg.FS.Remove(join(s.dir, segmentName(n))); err != nil {
			return err
		}
	}
	return nil // the next Open removes the files of values that are not named
}
