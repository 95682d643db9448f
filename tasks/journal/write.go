package journal

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	// maxGroup is how much is written and synced at once, if there is so much.
	maxGroup = 4 << 20
	// maxCall is how long the records of one call may be, without values that
	// have files.
	maxCall = 64 << 20
	// lookAgain is the time between two looks whether there is room again.
	lookAgain = time.Second
)

// call is one call of Write or Try.
type call struct {
	records []Record
	done    func(error)
	must    bool // Write
}

// Write stores records that must not be lost. It never waits: they are kept in
// memory until they are on disk, in the order of the calls of Write and Try.
// When there is no room they wait until there is some. Then done is called, with
// nil; with an error when they will never be stored: ErrFailed, ErrClosed when
// the journal was closed before there was room, ErrBad.
//
// The records of one call are stored all or none, whatever happens. done is
// called from the goroutine that writes: it must not wait for anything. (Only
// after Close it comes from a goroutine of its own.)
func (j *Journal) Write(done func(error), rs ...Record) { j.add(call{rs, done, true}) }

// Try is Write for records that may be refused: when they cannot be stored now,
// done soon gets ErrFull, and nothing of them will be seen.
func (j *Journal) Try(done func(error), rs ...Record) { j.add(call{rs, done, false}) }

func (j *Journal) add(c call) {
	j.mu.Lock()
	closing := j.closing
	if !closing {
		j.queue = append(j.queue, c)
	}
	j.mu.Unlock()
	if closing {
		go c.done(ErrClosed)
		return
	}
	j.signal()
}

func (j *Journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// writer is what the writer goroutine has to itself.
type writer struct {
	*Journal
	next uint64 // sequence number of the next record
	todo []call // taken from the queue, in order

	// Of the group that is written, kept for the next.
	calls   []call
	entries []entry
	buf     []byte

	base uint32 // what headers give as the oldest segment that counts; 0: it is the oldest of index

	failed error     // ErrFailed: for good
	full   error     // ErrFull: nothing can be written before again
	low    error     // ErrFull: there is less than MinFree
	again  time.Time // when to look whether there is room

	owed   int64  // bytes that compaction is to look at, see compact
	cursor cursor // of compaction
	rotten bool   // compaction met damage and rests

	lost error // Close's, guarded by mu
}

// run is the writer goroutine.
func (j *Journal) run() {
	defer close(j.ended)
	w := &j.writer
	for {
		closing := w.receive()
		looks := (w.full != nil || w.low != nil) && (closing || !time.Now().Before(w.again))
		switch {
		case w.failed != nil:
			w.refuse(w.failed, true)
		case looks:
			w.look()
		case w.full != nil:
			w.refuse(w.full, false)
		}
		for len(w.todo) > 0 && w.full == nil && w.failed == nil {
			w.commit(maxGroup)
			w.compact()
		}
		if closing && (w.failed != nil || len(w.todo) == 0 || w.full != nil) {
			w.end()
			return
		}
	}
}

// receive waits until there is something to do.
func (w *writer) receive() (closing bool) {
	for {
		w.mu.Lock()
		some := len(w.queue) > 0
		if len(w.todo) == 0 {
			w.todo, w.queue = w.queue, w.todo[:0]
		} else {
			w.todo = append(w.todo, w.queue...)
			clear(w.queue)
			w.queue = w.queue[:0]
		}
		closing = w.closing
		w.mu.Unlock()
		if some || closing || len(w.todo) > 0 && w.full == nil {
			return closing
		}
		var timeout <-chan time.Time
		if w.failed == nil && (w.full != nil || w.low != nil) {
			timeout = time.After(time.Until(w.again))
		}
		select {
		case <-w.wake:
		case <-timeout:
			return false
		}
	}
}

// end tells those that were not stored, and closes the files.
func (w *writer) end() {
	var err error
	if len(w.todo) > 0 {
		err = fmt.Errorf("%w before these records were stored: %w", ErrClosed, cmpErr(w.failed, w.full))
		w.refuse(err, true)
	}
	w.mu.Lock()
	rest := w.queue
	w.queue = nil
	w.lost = cmpErr(err, w.failed)
	w.err = ErrClosed
	w.mu.Unlock()
	for _, c := range rest {
		c.done(ErrClosed)
	}
	for _, s := range w.index.segments {
		s.file.Close()
	}
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// refuse tells those who wait; those of Write only if all is set.
func (w *writer) refuse(err error, all bool) {
	kept := w.todo[:0]
	for _, c := range w.todo {
		if c.must && !all {
			kept = append(kept, c)
		} else {
			c.done(err)
		}
	}
	clear(w.todo[len(kept):])
	w.todo = kept
}

// tell sets what Err returns.
func (w *writer) tell() {
	err := cmpErr(w.failed, cmpErr(w.full, w.low))
	w.mu.Lock()
	was := w.err
	w.err = err
	w.mu.Unlock()
	if err != nil && was == nil {
		level := "WARN"
		if w.failed != nil {
			level = "ERR"
		}
		w.cfg.Logger.Printf("[%s] journal: takes nothing: dir=%s error=%q", level, w.cfg.Dir, err)
	} else if err == nil && was != nil {
		w.cfg.Logger.Printf("[INFO] journal: takes records again: dir=%s", w.cfg.Dir)
	}
}

// fail sorts an error of writing.
func (w *writer) fail(err error) {
	if temporary(err) {
		w.full = fmt.Errorf("%w: %w; make room where %s is", ErrFull, err, w.cfg.Dir)
		w.again = time.Now().Add(lookAgain)
	} else if w.failed == nil {
		w.failed = fmt.Errorf("%w: %w; what was acknowledged is safe, nothing more is taken: see to the disk, then start again", ErrFailed, err)
	}
	w.tell()
}

// look looks whether there is room again. What waits goes first, one call alone,
// since little room may be enough for that.
func (w *writer) look() {
	w.full = nil
	w.room()
	if len(w.todo) > 0 {
		w.commit(1)
	}
	if w.full == nil {
		w.tell()
	}
	if w.full != nil {
		w.refuse(w.full, false)
	}
}

// room looks how many bytes Try may write. While there is too little it looks at
// most once in lookAgain.
func (w *writer) room() int64 {
	if w.cfg.MinFree == 0 {
		return math.MaxInt64
	}
	if w.low != nil && time.Now().Before(w.again) {
		return 0
	}
	free, err := w.cfg.FS.Free(w.cfg.Dir)
	if err != nil {
		return math.MaxInt64 // writing will tell
	}
	if free < w.cfg.MinFree {
		w.setLow(fmt.Errorf("%w: %d bytes are free where %s is, of which %d stay free; make room there", ErrFull, free, w.cfg.Dir, w.cfg.MinFree))
		return 0
	}
	w.setLow(nil)
	return free - w.cfg.MinFree
}

func (w *writer) setLow(err error) {
	changed := (err == nil) != (w.low == nil)
	w.low = err
	w.again = time.Now().Add(lookAgain)
	if changed {
		w.tell()
	}
}

// size returns how much of the log the records of a call take, and fileBytes how
// much their files do.
func (w *writer) size(c *call) (logBytes, fileBytes int64, err error) {
	for i := range c.records {
		r := &c.records[i]
		if r.Kind == 0 {
			return 0, 0, fmt.Errorf("%w: kind 0; kinds begin with 1", ErrBad)
		}
		n := int64(len(r.Value))
		if len(r.Value) > w.cfg.FileBytes {
			fileBytes += n
			n = sha256.Size
		}
		logBytes += recordHeader + n
	}
	if logBytes > maxCall {
		return 0, 0, fmt.Errorf("%w: the records of one call take %d bytes; want at most %d", ErrBad, logBytes, maxCall)
	}
	return logBytes, fileBytes, nil
}

// commit writes the first calls of todo as one group, at least one and more as
// long as they take at most limit bytes.
func (w *writer) commit(limit int64) {
	limit = min(limit, w.cfg.SegmentBytes/4)
	calls := w.calls[:0]
	var size, files int64
	room := int64(-1) // not yet looked
	for len(w.todo) > 0 {
		c := &w.todo[0]
		n, f, err := w.size(c)
		if err == nil && len(calls) > 0 && size+n > limit {
			break
		}
		if err == nil && !c.must {
			if room < 0 {
				room = w.room()
			}
			if size+n+files+f > room {
				if w.low == nil {
					w.setLow(fmt.Errorf("%w: %d bytes are free where %s is above the %d that stay free; make room there", ErrFull, room, w.cfg.Dir, w.cfg.MinFree))
				}
				err = w.low
			}
		}
		if err != nil {
			c.done(err)
		} else {
			size, files = size+n, files+f
			calls = append(calls, *c)
		}
		*c = call{}
		w.todo = w.todo[1:]
	}
	if len(calls) == 0 {
		return
	}
	if err := w.store(calls); err != nil {
		w.todo = slices.Concat(calls, w.todo)
		w.fail(err)
		w.refuse(cmpErr(w.failed, w.full), w.failed != nil)
		return
	}
	w.owed += compactRatio * size
	for _, c := range calls {
		c.done(nil)
	}
	clear(calls)
	w.calls = calls
}

// store writes calls and takes them into the index.
func (w *writer) store(calls []call) error {
	es := w.entries[:0]
	var made []sum
	undo := func() {
		for _, h := range made {
			w.removeValue(h)
		}
	}
	for _, c := range calls {
		for _, r := range c.records {
			e := entry{op: opPut, kind: r.Kind, id: r.ID, value: r.Value}
			if r.Value == nil {
				e.op = opDelete
			} else if len(r.Value) > w.cfg.FileBytes {
				h := sum(sha256.Sum256(r.Value))
				if w.index.refs[h] == 0 && !slices.Contains(made, h) {
					made = append(made, h)
					if err := writeFile(w.cfg.FS, join(w.cfg.Dir, valuesDir), hex.EncodeToString(h[:]), r.Value); err != nil {
						undo()
						return err
					}
				}
				e.op, e.value = opFile, h[:]
			}
			es = append(es, e)
		}
	}
	w.entries = es
	defer func() { clear(es) }() // they refer to the values
	if len(es) == 0 {
		return nil
	}
	if err := w.append(es); err != nil {
		undo()
		return err
	}
	return nil
}

// removeValue removes the file of a value. What stays, Open removes.
func (w *writer) removeValue(h sum) {
	w.cfg.FS.Remove(join(join(w.cfg.Dir, valuesDir), hex.EncodeToString(h[:])))
}

// append writes records as a group to the last segment, or to a new one, and
// takes them into the index. After an error nothing of them is in the log.
func (w *writer) append(es []entry) error {
	n := int64(groupHeader)
	for i := range es {
		n += int64(es[i].size())
	}
	if s := w.index.head(); s.size > headerBytes && s.size+n+sealBytes > w.cfg.SegmentBytes {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	return w.appendTo(w.index.head(), es)
}

func (w *writer) appendTo(s *segment, es []entry) error {
	w.buf = append(w.buf[:0], make([]byte, groupHeader)...)
	for i := range es {
		es[i].seq = w.next + uint64(i)
		es[i].off = s.size + int64(len(w.buf))
		w.buf = appendRecord(w.buf, &es[i])
	}
	finishGroup(w.buf, s.mark, group{bytes: uint32(len(w.buf) - groupHeader), count: uint32(len(es)), first: w.next})
	if err := write(s.file, w.buf, s.size); err != nil {
		return w.undone(s, fmt.Errorf("write %s: %w", s.path, err))
	}
	if err := s.file.Sync(); err != nil {
		return w.undone(s, fmt.Errorf("sync %s: %w", s.path, syncError{err}))
	}
	var unused []sum
	w.view.Lock()
	s.size += int64(len(w.buf))
	w.index.disk += int64(len(w.buf))
	w.next += uint64(len(es))
	for i := range es {
		if h, some := w.index.put(s, &es[i]); some {
			unused = append(unused, h)
		}
	}
	w.view.Unlock()
	if cap(w.buf) > 2*maxGroup {
		w.buf = nil
	}
	for _, h := range unused {
		if w.index.refs[h] == 0 {
			w.removeValue(h)
		}
	}
	return nil
}

// undone cuts off what was written of a group. It returns the error that was
// the reason, or what makes it one for good.
func (w *writer) undone(s *segment, reason error) error {
	err := s.file.Truncate(s.size)
	if err == nil && temporary(reason) {
		err = s.file.Sync()
	}
	if err != nil {
		return syncError{fmt.Errorf("%w; and then: %w", reason, err)}
	}
	return reason
}

// cut shortens the last segment.
func (w *writer) cut(size int64) error {
	s := w.index.head()
	if err := s.file.Truncate(size); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	w.index.disk -= s.size - size
	s.size = size
	return nil
}

// sealBytes is the length of the group that ends a segment.
const sealBytes = groupHeader + recordHeader + 12

// rotate begins a new segment. First the new one is made, then the old one
// says that it goes on there: a crash between the two leaves an empty segment
// that nothing names, and Open removes it.
func (w *writer) rotate() error {
	old := w.index.head()
	mark, number := newMark(), old.number+1
	w.next++ // the seal
	err := w.addSegment(number, mark, old.mark)
	w.next--
	if err != nil {
		return err
	}
	seal := binary.BigEndian.AppendUint32(nil, number)
	if err := w.appendTo(old, []entry{{op: opSeal, value: append(seal, mark[:]...)}}); err != nil {
		s := w.index.head()
		s.file.Close()
		w.view.Lock()
		w.index.segments = w.index.segments[:len(w.index.segments)-1]
		w.index.disk -= s.size
		w.view.Unlock()
		w.cfg.FS.Remove(s.path) // if it stays, the next one takes its place
		return err
	}
	return nil
}

// addSegment makes a segment, empty but for its header, the last one.
func (w *writer) addSegment(number uint32, mark, previous [8]byte) error {
	h := header{number: number, base: cmp.Or(w.base, number), first: w.next, mark: mark, previousMark: previous, node: w.cfg.Node}
	if w.base == 0 && len(w.index.segments) > 0 {
		h.base = w.index.segments[0].number
	}
	if err := writeFile(w.cfg.FS, w.cfg.Dir, segmentName(number), h.marshal()); err != nil {
		return fmt.Errorf("begin a segment: %w", err)
	}
	s := &segment{number: number, mark: mark, path: join(w.cfg.Dir, segmentName(number)), size: headerBytes}
	var err error
	if s.file, err = w.cfg.FS.Open(s.path); err != nil {
		w.cfg.FS.Remove(s.path)
		return fmt.Errorf("begin a segment: %w", err)
	}
	w.view.Lock()
	w.index.segments = append(w.index.segments, s)
	w.index.disk += s.size
	w.view.Unlock()
	return nil
}
