package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/wire"
)

// Journal keeps records on disk; *journal.Journal does. See there.
type Journal interface {
	Try(done func(error), rs ...journal.Record)
	Write(done func(error), rs ...journal.Record)
	Scan(k journal.Kind, after tasks.ID, each func(tasks.ID, []byte) error) error
}

// kindOutcome is the kind of the records of outcomes, whose ids are numbers in the
// order in which they ended. An agent has one journal; kinds below 16 are its
// master's.
const kindOutcome journal.Kind = 16

// outcomeVersion is the first byte of each. Msgpack of the struct follows, in which
// fields may be added.
const outcomeVersion = 1

// outcomeRecord is an attempt that has ended and whose master has not said yet that
// it knows.
type outcomeRecord struct {
	Task    tasks.ID
	N       uint32
	Master  string // node id
	At      int64  // when it ended, Unix ns
	Outcome []byte // as it travels
	From    uint64 // offset at which Output begins
	Output  []pieceRecord
}

type pieceRecord struct {
	Stream wire.Stream
	B      []byte
}

var errRecord = errors.New("not a record of this version of scagent")

// kept is the place of an attempt in the outbox. Its fields are constant.
type kept struct {
	number uint64
	size   int // of the record
	since  time.Time
}

// outbox are the outcomes that are on disk, or on their way there. Guarded by
// Worker.mu.
type outbox struct {
	all     map[uint64]*attempt // by kept.number
	oldest  uint64              // no lower number is in all
	newest  uint64              // that was given out
	bytes   int                 // of all records
	failing bool                // the last one could not be written
}

// recordOf returns what goes to disk of an attempt that has ended with o, which names
// such files; nil if nothing does. Files are not kept over a restart, so outcomes that
// name some are not either.
func (w *Worker) recordOf(a *attempt, o *tasks.Outcome, files []tasks.Content) []byte {
	if w.cfg.Journal == nil || !a.durable || len(files) > 0 {
		return nil
	}
	rec := outcomeRecord{Task: a.key.Task, N: a.key.N, Master: a.master, At: time.Now().UnixNano(), Outcome: wire.AppendOutcome(nil, o)}
	if out := a.out.Load(); out != nil {
		rec.From, rec.Output = out.record()
	}
	b, err := tasks.Pack(&rec)
	if err != nil {
		panic(fmt.Sprintf("worker: %v", err)) // plain fields only
	}
	return append([]byte{outcomeVersion}, b...)
}

// keepLocked puts the record of an attempt that has ended on disk. Its result does not
// wait for that: until it is there it may be lost either way, and if the master has it
// first, so much the better.
func (w *Worker) keepLocked(a *attempt, record []byte) {
	b := &w.outbox
	k := &kept{b.newest + 1, len(record), time.Now()}
	b.add(a, k)
	w.cfg.Journal.Try(func(err error) { w.written(a, k, err) }, journal.Record{Kind: kindOutcome, ID: numbered(k.number), Value: record})
	for len(b.all) > w.cfg.MaxRetained || b.bytes > w.cfg.MaxRetainedBytes {
		for b.all[b.oldest] == nil {
			b.oldest++
		}
		old := b.all[b.oldest]
		if old.link != nil { // it is on its way, from memory
			w.unkeepLocked(old)
			continue
		}
		w.cfg.Logger.Printf("[WARN] worker: too many outcomes wait for masters, one is given up: task=%s attempt=%d", old.key.Task, old.key.N)
		w.forgetLocked(old)
	}
}

// written takes note that the journal has a record, or has refused it: then the
// outcome is kept in memory, as those of other tasks are.
func (w *Worker) written(a *attempt, k *kept, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if err != nil && !w.outbox.failing {
		w.cfg.Logger.Printf("[WARN] worker: outcomes do not outlive this agent until there is room on disk: cause=%q", err)
	}
	w.outbox.failing = err != nil
	if err == nil || a.kept != k {
		return
	}
	w.outbox.remove(a)
	if a.link == nil {
		w.expireLocked(a, w.patience(a))
	}
}

func (b *outbox) add(a *attempt, k *kept) {
	if len(b.all) == 0 {
		b.oldest = k.number
	}
	a.kept, b.newest = k, k.number
	b.all[k.number] = a
	b.bytes += k.size
}

func (b *outbox) remove(a *attempt) {
	delete(b.all, a.kept.number)
	b.bytes -= a.kept.size
	a.kept = nil
}

// unkeepLocked removes the outcome of a from the disk, if it is there. If that fails it
// is sent again after the next start, which does no harm.
func (w *Worker) unkeepLocked(a *attempt) {
	if a.kept != nil {
		w.cfg.Journal.Write(func(error) {}, journal.Record{Kind: kindOutcome, ID: numbered(a.kept.number)})
		w.outbox.remove(a)
	}
}

// restoreLocked takes up the outcomes that an earlier start has left.
func (w *Worker) restoreLocked() error {
	return w.cfg.Journal.Scan(kindOutcome, tasks.ID{}, func(id tasks.ID, b []byte) error {
		n := binary.BigEndian.Uint64(id[len(id)-8:])
		a, since, err := w.revive(b)
		if err != nil {
			return fmt.Errorf("journal: outcome %d: %w", n, err)
		}
		w.outbox.add(a, &kept{n, len(b), since})
		w.attempts[a.key] = a
		w.expireLocked(a, w.patience(a))
		return nil
	})
}

// revive makes an attempt that has ended of its record.
func (w *Worker) revive(b []byte) (a *attempt, ended time.Time, err error) {
	var rec outcomeRecord
	if len(b) == 0 || b[0] != outcomeVersion {
		return nil, ended, errRecord
	}
	if err = tasks.Unpack(b[1:], &rec); err != nil {
		return nil, ended, err
	}
	var o tasks.Outcome
	if !wire.DecodeOutcome(rec.Outcome, &o) {
		return nil, ended, errRecord
	}
	a = &attempt{w: w, key: wire.Key{Task: rec.Task, N: rec.N}, master: rec.Master, durable: true, phase: finished}
	if a.result, err = wire.NewResult(a.key, &o); err != nil {
		return nil, ended, err
	}
	if rec.From > 0 || len(rec.Output) > 0 {
		a.out.Store(outputOf(a.key, rec.From, rec.Output))
	}
	return a, time.Unix(0, rec.At), nil
}

// numbered is the id under which the outcome of a number is in the journal.
func numbered(n uint64) (id tasks.ID) {
	binary.BigEndian.PutUint64(id[len(id)-8:], n)
	return id
}
