package worker

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/journal"
	"github.com/scagent/scagent/tasks/wire"
)

// disk is a journal that does at once what it is told, or says that it is full.
type disk struct {
	mu      sync.Mutex
	records map[tasks.ID][]byte
	full    bool
}

func (d *disk) put(done func(error), refuse bool, rs []journal.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if refuse {
		err = journal.ErrFull
	} else {
		for _, r := range rs {
			if d.records[r.ID] = r.Value; r.Value == nil {
				delete(d.records, r.ID)
			}
		}
	}
	go done(err)
}

func (d *disk) Try(done func(error), rs ...journal.Record)   { d.put(done, d.full, rs) }
func (d *disk) Write(done func(error), rs ...journal.Record) { d.put(done, false, rs) }

func (d *disk) Scan(_ journal.Kind, _ tasks.ID, each func(tasks.ID, []byte) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []tasks.ID
	for id := range d.records {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b tasks.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		if err := each(id, d.records[id]); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.records)
}

func durable(o *wire.Offer) { o.Durable = true }

// boxed is a worker of many slots whose tasks end at once, after writing their
// argument; and its disk.
type boxed struct {
	*rig
	disk *disk
	logs bytes.Buffer
	cfg  Config
}

func inBox(t *testing.T, change func(*Config), test func(t *testing.T, b *boxed)) {
	b := &boxed{disk: &disk{records: map[tasks.ID][]byte{}}}
	inRig(t, 8, func(cfg *Config) {
		cfg.Journal = b.disk
		cfg.Logger = log.New(&b.logs, "", 0)
		cfg.Runners = map[tasks.Kind]Runner{tasks.Command: runFunc(func(_ context.Context, a *tasks.Attempt) tasks.Outcome {
			fmt.Fprint(a.Stdout, a.Task.Argv[0])
			return tasks.Outcome{Value: []byte("1"), Encoding: tasks.JSON}
		})}
		if change != nil {
			change(cfg)
		}
		b.cfg = *cfg
	}, func(t *testing.T, r *rig) {
		b.rig = r
		test(t, b)
	})
}

// restart kills the worker and starts it anew.
func (b *boxed) restart() {
	b.t.Helper()
	b.net.Host(workerHost).Kill()
	if err := b.w.Close(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.hub.Close()
	var err error
	if b.w, err = New(b.cfg); err != nil {
		b.t.Fatal(err)
	}
	b.hub = b.newHub("w", workerHost, wire.Config{Worker: b.w, Events: downs{b.w}, Load: b.w.Load})
}

// unlink breaks the link from a master.
func (b *boxed) unlink(master string) {
	b.mhubs[master].Close()
	delete(b.mhubs, master)
	synctest.Wait()
}

// expectAll is expect for what comes in any order.
func expectAll(t *testing.T, h *heard, want ...string) {
	t.Helper()
	got := strings.Split(h.take(), ", ")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the master heard %q, want %q", got, want)
	}
}

// An outcome is on disk until its ack, and comes again after a restart, with what it
// wrote, named or not.
func TestOutcomeIsOnDiskUntilItsAck(t *testing.T) {
	for _, named := range []bool{true, false} {
		t.Run(fmt.Sprint(named), func(t *testing.T) {
			inBox(t, nil, func(t *testing.T, b *boxed) {
				l, h := b.link("a")
				offer(l, "a", 1, durable)
				offer(l, "a", 2)
				expectAll(t, h, "result 1", "result 2")
				if n := b.disk.len(); n != 1 {
					t.Fatalf("the disk has %d outcomes, want that of the durable task", n)
				}
				b.restart()
				var held []wire.Held
				want := "result 1"
				if named {
					held = []wire.Held{{Key: key("a", 1)}, {Key: key("a", 2)}}
					want = "state 1 finished, state 2 unknown, result 1"
				}
				for range 2 { // it is sent on each link until it is acknowledged
					b.unlink("a")
					l, h = b.link("a")
					l.SendReattach(held)
					expect(t, h, want)
					if got := h.output[key("a", 1)]; got != "x" {
						t.Errorf("it wrote %q, want x", got)
					}
				}
				l.SendAck(key("a", 1), 1<<20)
				synctest.Wait()
				if n := b.w.Outcomes() + b.disk.len(); n != 0 {
					t.Errorf("%d are left after the ack", n)
				}
			})
		})
	}
}

// Nobody comes: it is given up after its retention, which goes on over restarts.
func TestOutcomeIsGivenUpAfterItsRetention(t *testing.T) {
	inBox(t, nil, func(t *testing.T, b *boxed) {
		l, h := b.link("a")
		offer(l, "a", 1, durable)
		expect(t, h, "result 1")
		b.net.Host("10.0.1.1").Kill() // the master
		for range 3 {
			time.Sleep(7 * time.Hour)
			b.restart()
		}
		time.Sleep(2 * time.Hour)
		if b.w.Outcomes() != 1 || b.disk.len() != 1 {
			t.Errorf("after 23 hours there are %d outcomes, %d on disk, want one", b.w.Outcomes(), b.disk.len())
		}
		time.Sleep(2 * time.Hour)
		if b.w.Outcomes() != 0 || b.disk.len() != 0 {
			t.Errorf("after 25 hours there are %d outcomes, %d on disk, want none", b.w.Outcomes(), b.disk.len())
		}
		if !strings.Contains(b.logs.String(), "attempt given up: task="+key("a", 1).Task.String()) {
			t.Errorf("the log does not say so: %s", &b.logs)
		}
	})
}

// Only so many are kept. One that is on its way leaves the disk, one that waits is
// given up.
func TestOldestOutcomesGoFirst(t *testing.T) {
	for name, limit := range map[string]func(*Config){
		"number": func(cfg *Config) { cfg.MaxRetained = 3 },
		"bytes":  func(cfg *Config) { cfg.MaxRetainedBytes = 3*300 + 100 },
	} {
		t.Run(name, func(t *testing.T) {
			inBox(t, func(cfg *Config) { limit(cfg) }, func(t *testing.T, b *boxed) {
				l, h := b.link("a")
				wide := func(o *wire.Offer) {
					durable(o)
					o.Spec = wire.AppendTask(nil, &tasks.Task{Kind: tasks.Command, Argv: []string{strings.Repeat("y", 150)}})
				}
				for n := range uint32(5) {
					offer(l, "a", n+1, wide)
					h.take()
				}
				if b.w.Outcomes() != 5 || b.disk.len() != 3 {
					t.Errorf("there are %d outcomes, %d on disk, want 5 and 3", b.w.Outcomes(), b.disk.len())
				}
				b.restart()
				if b.w.Outcomes() != 3 {
					t.Errorf("after a restart there are %d, want 3", b.w.Outcomes())
				}
				l, h = b.link("c")
				offer(l, "c", 1, wide)
				h.take()
				if b.w.Outcomes() != 3 || b.disk.len() != 3 {
					t.Errorf("with another there are %d outcomes, %d on disk, want 3", b.w.Outcomes(), b.disk.len())
				}
				l, h = b.link("a")
				l.SendReattach(nil)
				expectAll(t, h, "result 4", "result 5")
			})
		})
	}
}

// A disk without room costs no outcome as long as the agent lives.
func TestOutcomeStaysInMemoryWhenTheDiskIsFull(t *testing.T) {
	inBox(t, nil, func(t *testing.T, b *boxed) {
		b.disk.full = true
		l, h := b.link("a")
		for n := range uint32(3) {
			offer(l, "a", n+1, durable)
		}
		h.take()
		if b.w.Outcomes() != 3 || b.disk.len() != 0 {
			t.Errorf("there are %d outcomes, %d on disk, want 3 and none", b.w.Outcomes(), b.disk.len())
		}
		if n := strings.Count(b.logs.String(), "[WARN]"); n != 1 {
			t.Errorf("there are %d warnings, want one: %s", n, &b.logs)
		}
		b.unlink("a")
		time.Sleep(time.Minute)
		l, h = b.link("a")
		l.SendReattach([]wire.Held{{Key: key("a", 1)}, {Key: key("a", 2)}})
		if got := h.take(); !strings.HasPrefix(got, "state 1 finished, state 2 finished, result") || strings.Count(got, "result") != 3 {
			t.Errorf("the master heard %q, want all three", got)
		}
		l.SendAck(key("a", 1), 1<<20)
		synctest.Wait()
		b.unlink("a")
		time.Sleep(b.cfg.KeepOutcome + time.Minute)
		if n := b.w.Outcomes(); n != 0 {
			t.Errorf("%d outcomes are in memory long after, want none", n)
		}

		b.disk.full = false
		l, h = b.link("d")
		offer(l, "d", 1, durable)
		h.take()
		if b.disk.len() != 1 {
			t.Error("with room again it is not on disk")
		}
	})
}

// Files are not kept over a restart, and so neither are outcomes that name some.
func TestOutcomeWithFilesIsNotPutOnDisk(t *testing.T) {
	inBox(t, func(cfg *Config) {
		cfg.Runners = map[tasks.Kind]Runner{tasks.Command: runFunc(func(context.Context, *tasks.Attempt) tasks.Outcome {
			return tasks.Outcome{Outputs: []tasks.OutputFile{{Name: "f", Content: tasks.Content{Blob: strings.Repeat("0", 64), Size: 1}}}}
		})}
	}, func(t *testing.T, b *boxed) {
		l, h := b.link("a")
		offer(l, "a", 1, durable)
		expect(t, h, "result 1")
		if b.w.Outcomes() != 1 || b.disk.len() != 0 {
			t.Errorf("there are %d outcomes, %d on disk, want one and none", b.w.Outcomes(), b.disk.len())
		}
	})
}

// A record that nobody of this version wrote is no reason to begin anew.
func TestWhatIsNoOutcomeIsRefused(t *testing.T) {
	good := &disk{records: map[tasks.ID][]byte{}}
	inBox(t, func(cfg *Config) { cfg.Journal = good }, func(t *testing.T, b *boxed) {
		l, h := b.link("a")
		offer(l, "a", 1, durable)
		expect(t, h, "result 1")
	})
	record := good.records[numbered(1)]
	if len(record) == 0 {
		t.Fatal("there is no record")
	}
	cfg := DefaultConfig()
	for n := range record {
		cfg.Journal = &disk{records: map[tasks.ID][]byte{numbered(7): record[:n]}}
		if w, err := New(cfg); err == nil {
			a := w.attempts[key("a", 1)]
			t.Fatalf("the first %d bytes of %d are taken: %+v", n, len(record), a)
		} else if !strings.Contains(err.Error(), "outcome 7") {
			t.Fatalf("the error is %q, want the number in it", err)
		}
	}
}
