package journal

import (
	"encoding/binary"
	"fmt"
)

const (
	// compactRatio is how many bytes of the oldest segments compaction looks at
	// for each byte that is written, once it is needed. With it, compaction that
	// begins at 1.5 x live + 2 segments is done before there are
	// 2 x live + 3 segments, unless much is deleted at once.
	compactRatio = 4
	// compactBytes is how much it looks at in one step.
	compactBytes = 1 << 20
)

// cursor is how far compaction is in the oldest segment.
type cursor struct {
	off  int64 // 0: it has not begun
	left int64 // bytes of the group at off that it has not looked at
}

// compact moves live records of the oldest segments to the last one and removes
// segments that have none, in small steps while there is time, and at once when
// the log gets too long for what is in it.
func (w *writer) compact() {
	for w.full == nil && w.failed == nil && !w.rotten {
		x := w.index
		over := x.disk - x.live*3/2 - 2*w.cfg.SegmentBytes
		if over <= 0 || len(x.segments) < 2 {
			w.owed = 0
			return
		}
		must := x.disk > 2*x.live+3*w.cfg.SegmentBytes
		step := min(compactBytes, w.cfg.SegmentBytes/4)
		if !must && w.owed < step && x.segments[0].live > 0 {
			return
		}
		w.owed = max(0, w.owed-step)
		if err := w.compactStep(step); err != nil {
			w.fail(err)
		}
	}
}

// compactStep looks at about n bytes of the oldest segment.
func (w *writer) compactStep(n int64) error {
	s := w.index.segments[0]
	c := w.cursor
	if c.off == 0 {
		c.off = headerBytes
	}
	var es []entry
	if s.live > 0 {
		var err error
		if es, c, err = w.liveRecords(s, c, n); err != nil {
			// Taking records goes on. The next Open will say what to do.
			w.rotten = true
			w.cfg.Logger.Printf("[ERR] journal: cannot compact: error=%q", err)
			return nil
		}
	}
	done := s.live == 0 || c.off >= s.size
	if done {
		es = append(es, entry{op: opBase, value: binary.BigEndian.AppendUint32(nil, s.number+1)})
	}
	if len(es) > 0 {
		if err := w.append(es); err != nil {
			return err
		}
	}
	w.cursor = c
	if done {
		w.cursor = cursor{}
		w.dropOldest()
	}
	return nil
}

// liveRecords returns those of the next n bytes, or more when a record is longer.
func (w *writer) liveRecords(s *segment, c cursor, n int64) (es []entry, after cursor, err error) {
	n = max(n, int64(recordHeader+w.cfg.FileBytes+groupHeader))
	b := make([]byte, min(n, s.size-c.off))
	if _, err := s.file.ReadAt(b, c.off); err != nil {
		return nil, c, fmt.Errorf("read %s at %d: %w", s.path, c.off, err)
	}
	for len(b) > 0 {
		size := groupHeader
		if c.left == 0 {
			g, ok := parseGroup(b, s.mark)
			if !ok && len(b) >= groupHeader {
				return nil, c, damage(s.path, c.off, "a group is not what was written there")
			}
			if !ok {
				break
			}
			c.left = int64(g.bytes)
		} else {
			e, ok := parseRecord(b)
			if !ok && (len(b) < recordHeader || recordHeader+int64(binary.BigEndian.Uint32(b[4:])) > int64(len(b))) && c.off+int64(len(b)) < s.size {
				break // the rest of it comes with the next step
			}
			if !ok {
				return nil, c, damage(s.path, c.off, "a record is not what was written there")
			}
			size = e.size()
			it, some := w.index.get(e.kind, e.id)
			if some && it.segment == s.number && int64(it.off) == c.off {
				es = append(es, e)
			}
			c.left -= int64(size)
		}
		b, c.off = b[size:], c.off+int64(size)
	}
	return es, c, nil
}

// dropOldest forgets the oldest segment, which has no live record and is no
// longer the base.
func (w *writer) dropOldest() {
	s := w.index.segments[0]
	w.view.Lock()
	w.index.segments = append([]*segment(nil), w.index.segments[1:]...)
	w.index.disk -= s.size
	w.view.Unlock()
	s.file.Close()
	if err := w.cfg.FS.Remove(s.path); err != nil {
		w.cfg.Logger.Printf("[WARN] journal: cannot remove what is no longer needed: file=%s error=%q", s.path, err)
	}
}
