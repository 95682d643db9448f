package history

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"
)

// MaxPending is how many events may wait for the disk. Add waits when as many do:
// a history with holes proves nothing, so that nothing is dropped.
const MaxPending = 8192

// retryWrite is how long after a write that failed the next is tried.
const retryWrite = 100 * time.Millisecond

// Log writes a history. Its methods may be called from any goroutine, with locks
// held: they do no I/O. A nil *Log writes nothing.
type Log struct {
	node, boot string        // constant
	clock      clock         // constant
	w          io.Writer     // the writer's
	logger     *log.Logger   // constant
	done       chan struct{} // closed when the writer has returned
	closing    chan struct{} // closed by Close

	// mu guards the fields below. work wakes the writer, room those who wait in Add.
	mu      sync.Mutex
	work    sync.Cond
	room    sync.Cond
	pending []Event
	closed  bool
	err     error // of Close; set before done is closed
}

// Open appends to the file at path, which is made if need be, and writes Booted
// with what first says. It must have Node and Boot. A last line that an earlier
// start left unfinished is ended first, so that readers can tell. What cannot be
// written is logged to logger, and tried again until Close.
func Open(path string, logger *log.Logger, first Event) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	if err := endLine(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("history: %w", err)
	}
	first.Host = hostID()
	return start(f, logger, hostClock(), first), nil
}

// endLine sees to it that the file is empty or ends with a line's end.
func endLine(f *os.File) error {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, fi.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.WriteString("\n")
	return err
}

// New is Open for a node that shares its process with others, and perhaps its clock
// with a synctest bubble: Mono is as Wall. w is closed by Close if it can be.
func New(w io.Writer, first Event) *Log {
	return start(w, log.New(io.Discard, "", 0), clock{}, first)
}

func start(w io.Writer, logger *log.Logger, c clock, first Event) *Log {
	l := &Log{node: first.Node, boot: first.Boot, clock: c, w: w, logger: logger, done: make(chan struct{}), closing: make(chan struct{})}
	l.work.L, l.room.L = &l.mu, &l.mu
	first.Name = Booted
	l.Add(first)
	go l.write()
	return l
}

// On says that events are written, for what takes time to find out.
func (l *Log) On() bool { return l != nil }

// Add writes an event down. Events are in the file in the order of the calls, as
// their stamps are. Who is about to do what others can see calls it before. It
// returns at once unless MaxPending events wait; then it waits for the disk. After
// Close it does nothing.
func (l *Log) Add(e Event) {
	if l != nil {
		l.add(&e)
	}
}

func (l *Log) add(e *Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) >= MaxPending && !l.closed {
		l.room.Wait()
	}
	if !l.closed {
		l.addLocked(e)
	}
}

func (l *Log) addLocked(e *Event) {
	e.Mono, e.Wall = l.clock.now()
	e.Node, e.Boot = l.node, l.boot
	l.pending = append(l.pending, *e)
	if len(l.pending) == 1 {
		l.work.Signal()
	}
}

// Close writes Stopped and all that waits, and closes the file; it waits for the disk,
// but not for one that fails. The error says what was not written. It may be called
// twice.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if !l.closed {
		l.addLocked(&Event{Name: Stopped})
		l.closed = true
		close(l.closing)
		l.work.Signal()
		l.room.Broadcast()
	}
	l.mu.Unlock()
	<-l.done
	return l.err
}

// write is the goroutine that writes what was added.
func (l *Log) write() {
	defer close(l.done)
	var buf bytes.Buffer
	var batch []Event
	for {
		l.mu.Lock()
		for len(l.pending) == 0 && !l.closed {
			l.work.Wait()
		}
		batch, l.pending = l.pending, batch[:0]
		l.room.Broadcast()
		l.mu.Unlock()
		if len(batch) == 0 {
			break
		}
		buf.Reset()
		for i := range batch {
			buf.Write(Append(buf.AvailableBuffer(), &batch[i]))
		}
		if err := l.flush(&buf); err != nil {
			l.err = fmt.Errorf("history: the last %d bytes were not written: %w", buf.Len(), err)
			break
		}
		clear(batch)
	}
	if c, ok := l.w.(io.Closer); ok {
		if err := c.Close(); err != nil && l.err == nil {
			l.err = fmt.Errorf("history: %w", err)
		}
	}
}

// flush writes all of buf, however often it takes, unless the log is being closed.
func (l *Log) flush(buf *bytes.Buffer) error {
	for told := false; ; told = true {
		_, err := buf.WriteTo(l.w)
		if err == nil {
			return nil
		}
		if !told {
			l.logger.Printf("[ERR] history: write failed, trying again; the agent waits when %d events do: err=%q", MaxPending, err)
		}
		select {
		case <-time.After(retryWrite):
		case <-l.closing:
			if told {
				return err
			}
		}
	}
}
