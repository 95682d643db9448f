package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"sync"

	"github.com/scagent/scagent/tasks"
)

var (
	// ErrNone: there is no such record.
	ErrNone = errors.New("no such record")
	// ErrFull: there is no room for more records at the moment.
	ErrFull = errors.New("no room for the journal")
	// ErrFailed: the disk failed. Nothing is taken until the next Open.
	ErrFailed = errors.New("the journal's disk failed")
	// ErrDamaged: what is there is not what was written.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrOther: the journal is that of another node.
	ErrOther = errors.New("the journal is another node's")
	// ErrVersion: a newer program wrote the journal.
	ErrVersion = errors.New("the journal has a newer format")
	// ErrClosed: the journal is closed.
	ErrClosed = errors.New("the journal is closed")
	// ErrBad: the records of a call cannot be stored, now or later.
	ErrBad = errors.New("not a record")
)

// Kind tells the several records of one ID apart. It is the caller's, from 1.
type Kind uint8

// Record is what is known of an ID under a Kind. With Value nil it is deleted;
// an empty Value is one. Value must not be changed before done was called.
type Record struct {
	Kind  Kind
	ID    tasks.ID
	Value []byte
}

// Config says where a Journal is and how much it takes. Start from
// DefaultConfig.
type Config struct {
	// Dir is the directory, made with mode 0700 if it is missing. Nothing else
	// may write to it.
	Dir string

	// Node is the id of the node whose journal it is, at most 79 bytes. A
	// journal of another node is refused.
	Node string

	// MinFree is how many bytes of the file system Try leaves free. Write, and
	// what makes room, may use them: when disks fill up, tasks that run can
	// still end. 0: any write is tried. Default: 16 MiB.
	MinFree int64

	// SegmentBytes is how long a file of the log gets, at least 4096, at most
	// 1 GiB. Default: 16 MiB.
	SegmentBytes int64

	// FileBytes is the length above which a value gets a file of its own, at
	// most a quarter of SegmentBytes. Default: 64 KiB.
	FileBytes int

	// Logger: nothing is logged by default.
	Logger *log.Logger

	// FS is where the directory is. Default: the file system of the machine.
	FS FS
}

// DefaultConfig returns a Config that lacks Dir and Node.
func DefaultConfig() Config {
	return Config{MinFree: 16 << 20, SegmentBytes: 16 << 20, FileBytes: 64 << 10, Logger: log.New(io.Discard, "", 0), FS: osFS{}}
}

func (c *Config) check() error {
	switch {
	case c.Dir == "":
		return errors.New("journal: Dir is empty; want a directory")
	case c.Node == "" || len(c.Node) > maxNode:
		return fmt.Errorf("journal: Node is %q; want 1 to %d bytes", c.Node, maxNode)
	case c.MinFree < 0:
		return fmt.Errorf("journal: MinFree is %d; want at least 0", c.MinFree)
	case c.SegmentBytes < 4096 || c.SegmentBytes > 1<<30:
		return fmt.Errorf("journal: SegmentBytes is %d; want 4096 to %d", c.SegmentBytes, 1<<30)
	case c.FileBytes < 1 || int64(c.FileBytes) > c.SegmentBytes/4:
		return fmt.Errorf("journal: FileBytes is %d; want 1 to a quarter of SegmentBytes, %d", c.FileBytes, c.SegmentBytes/4)
	case c.Logger == nil || c.FS == nil:
		return errors.New("journal: Logger or FS is nil; start from DefaultConfig")
	}
	return nil
}

// Journal is an open journal. It may be used by any number of goroutines.
type Journal struct {
	cfg   Config        // constant
	wake  chan struct{} // capacity 1: the writer has something to look at
	ended chan struct{} // closed when the writer has returned

	// mu guards the fields below. It is not held over I/O.
	mu      sync.Mutex
	queue   []call // bounded by the callers, who wait for done
	closing bool
	err     error // of Err

	// view guards index. The writer alone changes it, and reads it without view.
	// It is not held over I/O, and never together with mu.
	view  sync.RWMutex
	index *index

	writer writer // the writer goroutine's own
}

// Open opens the journal of a directory, or begins one, and verifies all that
// is there. A write that a crash cut short is cut off and logged. When anything
// else is not as it was written it changes nothing and returns ErrDamaged, whose
// text names the file and the place.
//
// One process may have it open at a time; that is for the caller to see to.
func Open(cfg Config) (*Journal, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	l, err := load(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j, err := open(cfg, l)
	if err != nil {
		l.close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	go j.run()
	return j, nil
}

// open makes the changes that a loaded directory needs.
func open(cfg Config, l *loaded) (*Journal, error) {
	if !l.fresh && l.node != cfg.Node {
		return nil, fmt.Errorf("%w: %s is that of node %s, this is node %s; give each node a state directory of its own", ErrOther, cfg.Dir, l.node, cfg.Node)
	}
	j := &Journal{cfg: cfg, wake: make(chan struct{}, 1), ended: make(chan struct{}), index: l.index}
	j.writer = writer{Journal: j, next: l.next}
	w := &j.writer
	if err := cfg.FS.MkdirAll(join(cfg.Dir, valuesDir)); err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Dir(cfg.Dir), cfg.Dir} {
		if err := cfg.FS.SyncDir(dir); err != nil {
			return nil, err
		}
	}
	if l.fresh {
		w.next = 1
		if err := w.addSegment(1, newMark(), [8]byte{}); err != nil {
			return nil, err
		}
	}
	if !l.about {
		about := fmt.Sprintf(aboutForm+"It has the tasks of this node of scagent. Removing files here loses tasks.\n", cfg.Node)
		if err := writeFile(cfg.FS, cfg.Dir, aboutFile, []byte(about)); err != nil {
			return nil, err
		}
	}
	for _, path := range l.remove {
		if err := cfg.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if l.cut > 0 {
		head := j.index.head()
		j.cfg.Logger.Printf("[WARN] journal: cut off a write that was not finished: file=%s bytes=%d", head.path, l.cut)
		if err := w.cut(head.size - l.cut); err != nil {
			return nil, err
		}
	}
	return j, nil
}

func newMark() (m [8]byte) {
	rand.Read(m[:]) // never fails, see crypto/rand
	return m
}

// Err says why Try is refused at the moment: ErrFull, ErrFailed or ErrClosed.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Close writes what was accepted, waits for that, and closes the journal. It
// returns an error if there was something that could not be written.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closing = true
	j.mu.Unlock()
	j.signal()
	<-j.ended
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.writer.lost
}

// Get returns the value of a record that is on disk, or ErrNone. Its contents
// are verified. The value is the caller's.
func (j *Journal) Get(k Kind, id tasks.ID) ([]byte, error) {
	for {
		j.view.RLock()
		it, ok := j.index.get(k, id)
		if !ok {
			j.view.RUnlock()
			return nil, ErrNone
		}
		s, h := j.index.segment(it.segment), j.index.files[key{k, id}]
		j.view.RUnlock()
		v, err := j.read(s, it, k, h)
		if err == nil {
			return v, nil
		}
		j.view.RLock()
		now, ok := j.index.get(k, id)
		j.view.RUnlock()
		if ok && now == it {
			if errors.Is(err, os.ErrClosed) {
				err = ErrClosed
			}
			return nil, err
		}
		// It was moved, changed or deleted meanwhile.
	}
}

// read reads the value of an item.
func (j *Journal) read(s *segment, it item, k Kind, h sum) ([]byte, error) {
	if it.size&inFile != 0 {
		return readValue(j.cfg.FS, join(j.cfg.Dir, valuesDir), h)
	}
	b := make([]byte, it.bytes())
	if _, err := s.file.ReadAt(b, int64(it.off)); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", s.path, it.off, err)
	}
	e, ok := parseRecord(b)
	if !ok || e.kind != k || e.id != it.id || e.size() != len(b) {
		return nil, damage(s.path, int64(it.off), "the record is not what was written there")
	}
	return e.value, nil
}

// scanBatch is how many places Scan notes at a time.
const scanBatch = 256

// Scan calls each with the records of a kind that are on disk and whose ID is
// above after, in the order of the IDs, until each returns an error, which Scan
// then returns. What is written meanwhile it may give or not.
func (j *Journal) Scan(k Kind, after tasks.ID, each func(id tasks.ID, value []byte) error) error {
	ids := make([]tasks.ID, 0, scanBatch)
	for {
		ids = ids[:0]
		j.view.RLock()
		if t := j.index.kinds[k]; t != nil {
			t.AscendGreaterOrEqual(item{id: after}, func(it item) bool {
				if it.id != after {
					ids = append(ids, it.id)
				}
				return len(ids) < scanBatch
			})
		}
		j.view.RUnlock()
		for _, id := range ids {
			v, err := j.Get(k, id)
			if errors.Is(err, ErrNone) {
				continue
			}
			if err != nil {
				return err
			}
			if err := each(id, v); err != nil {
				return err
			}
		}
		if len(ids) < scanBatch {
			return nil
		}
		after = ids[len(ids)-1]
	}
}

// Len returns how many records of a kind are on disk.
func (j *Journal) Len(k Kind) int {
	j.view.RLock()
	defer j.view.RUnlock()
	if t := j.index.kinds[k]; t != nil {
		return t.Len()
	}
	return 0
}

// Stats are figures about a Journal.
type Stats struct {
	Live     int64 // bytes of the log that records of now take
	Disk     int64 // bytes of the log, at most 2 x Live + 4 segments
	Segments int
	Files    int // values that have a file of their own
}

// Stats returns the figures of now.
func (j *Journal) Stats() Stats {
	j.view.RLock()
	defer j.view.RUnlock()
	x := j.index
	return Stats{Live: x.live, Disk: x.disk, Segments: len(x.segments), Files: len(x.refs)}
}
