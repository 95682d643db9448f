package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/scagent/scagent/tasks"
)

const testNode = "abcdefghijklmnop"

// smallConfig makes journals of many small segments.
func smallConfig(dir string) Config {
	cfg := DefaultConfig()
	cfg.Dir, cfg.Node = dir, testNode
	cfg.SegmentBytes, cfg.FileBytes, cfg.MinFree = 8192, 600, 0
	return cfg
}

func logTo(cfg Config, w io.Writer) Config {
	cfg.Logger = log.New(w, "", 0)
	return cfg
}

func mustOpen(t testing.TB, cfg Config) *Journal {
	t.Helper()
	j, err := Open(cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func mustClose(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// id returns IDs that grow with n.
func id(n int) (id tasks.ID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

func put(k Kind, n int, v string) Record { return Record{k, id(n), []byte(v)} }

func del(k Kind, n int) Record { return Record{Kind: k, ID: id(n)} }

// try waits for what Try says.
func try(j *Journal, rs ...Record) error {
	done := make(chan error, 1)
	j.Try(func(err error) { done <- err }, rs...)
	return <-done
}

func mustTry(t testing.TB, j *Journal, rs ...Record) {
	t.Helper()
	if err := try(j, rs...); err != nil {
		t.Fatalf("Try: %v", err)
	}
}

// model is what a Journal should have.
type model map[key]string

func (m model) apply(rs ...Record) {
	for _, r := range rs {
		if r.Value == nil {
			delete(m, key{r.Kind, r.ID})
		} else {
			m[key{r.Kind, r.ID}] = string(r.Value)
		}
	}
}

// contents reads all records of kinds 1 to 3.
func contents(j *Journal) (model, error) {
	m := model{}
	for k := range Kind(4) {
		var last tasks.ID
		n := 0
		err := j.Scan(k, tasks.ID{}, func(id tasks.ID, v []byte) error {
			if compareIDs(id, last) <= 0 {
				return fmt.Errorf("Scan gave %x after %x", id, last)
			}
			last = id
			n++
			m[key{k, id}] = string(v)
			return nil
		})
		if err != nil {
			return m, err
		}
		if n != j.Len(k) {
			return m, fmt.Errorf("Scan gave %d records of kind %d, Len %d", n, k, j.Len(k))
		}
	}
	return m, nil
}

func (m model) diff(o model) string {
	var d []string
	for k, v := range m {
		if w, ok := o[k]; !ok {
			d = append(d, fmt.Sprintf("lacks %d/%x", k.kind, k.id[8:]))
		} else if w != v {
			d = append(d, fmt.Sprintf("%d/%x is %.20q, not %.20q", k.kind, k.id[8:], w, v))
		}
	}
	for k := range o {
		if _, ok := m[k]; !ok {
			d = append(d, fmt.Sprintf("has %d/%x", k.kind, k.id[8:]))
		}
	}
	slices.Sort(d)
	return strings.Join(d[:min(len(d), 10)], ", ")
}

func wantContents(t testing.TB, j *Journal, want model) {
	t.Helper()
	got, err := contents(j)
	if err != nil {
		t.Fatalf("read all: %v", err)
	}
	if d := want.diff(got); d != "" {
		t.Fatalf("the journal %s", d)
	}
}

func TestWhatWasWrittenIsThereAfterOpen(t *testing.T) {
	cfg := smallConfig(t.TempDir() + "/sub/journal")
	j := mustOpen(t, cfg)
	want := model{}
	for _, rs := range [][]Record{
		{put(1, 1, "one"), put(2, 1, "other kind"), put(1, 3, "three")},
		{put(1, 2, ""), put(1, 4, strings.Repeat("large", 1000))},
		{put(1, 1, "changed"), del(1, 3), del(1, 99)},
		{put(3, 5, strings.Repeat("large", 1000)), del(1, 4)},
	} {
		mustTry(t, j, rs...)
		want.apply(rs...)
	}
	wantContents(t, j, want)
	if _, err := j.Get(1, id(3)); !errors.Is(err, ErrNone) {
		t.Errorf("Get of a deleted record = %v, want ErrNone", err)
	}
	if v, err := j.Get(1, id(2)); err != nil || v == nil || len(v) != 0 {
		t.Errorf("Get of an empty value = %v, %v; want an empty one", v, err)
	}
	mustClose(t, j)
	j = mustOpen(t, cfg)
	wantContents(t, j, want)
	if n := j.Stats().Files; n != 1 {
		t.Errorf("%d values have files, want 1", n)
	}
}

func TestScanBeginsAboveAfterAndStopsOnError(t *testing.T) {
	j := mustOpen(t, smallConfig(t.TempDir()))
	for n := range 1000 {
		j.Write(func(error) {}, put(1, n, fmt.Sprint(n)))
	}
	mustTry(t, j)
	stop := errors.New("stop")
	next := 301
	err := j.Scan(1, id(300), func(i tasks.ID, v []byte) error {
		if i != id(next) || string(v) != fmt.Sprint(next) {
			t.Fatalf("Scan gave %x, %q; want %d", i, v, next)
		}
		if next++; next == 900 {
			return stop
		}
		return nil
	})
	if err != stop || next != 900 {
		t.Errorf("Scan = %v after %d, want the error of each after 899", err, next-1)
	}
}

func TestDonesComeInOrder(t *testing.T) {
	j := mustOpen(t, smallConfig(t.TempDir()))
	var got []int
	for n := range 500 {
		write := j.Try
		if n%2 == 0 {
			write = j.Write
		}
		write(func(err error) {
			if err != nil {
				t.Errorf("call %d: %v", n, err)
			}
			if _, err := j.Get(1, id(n)); err != nil {
				t.Errorf("Get of record %d when its done is called: %v", n, err)
			}
			got = append(got, n)
		}, put(1, n, "v"))
	}
	mustClose(t, j)
	if len(got) != 500 || !slices.IsSorted(got) {
		t.Errorf("done was called for %v, want 0 to 499", got)
	}
}

func TestBadRecordsAreRefused(t *testing.T) {
	j := mustOpen(t, smallConfig(t.TempDir()))
	if err := try(j, put(1, 1, "v"), put(0, 1, "v")); !errors.Is(err, ErrBad) {
		t.Errorf("Try of kind 0 = %v, want ErrBad", err)
	}
	many := make([]Record, maxCall/recordHeader+1)
	for i := range many {
		many[i] = put(1, i, "")
	}
	if err := try(j, many...); !errors.Is(err, ErrBad) {
		t.Errorf("Try of %d records = %v, want ErrBad", len(many), err)
	}
	wantContents(t, j, model{})
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"Dir":          func(c *Config) { c.Dir = "" },
		"Node":         func(c *Config) { c.Node = strings.Repeat("x", 80) },
		"MinFree":      func(c *Config) { c.MinFree = -1 },
		"SegmentBytes": func(c *Config) { c.SegmentBytes = 4095 },
		"FileBytes":    func(c *Config) { c.FileBytes = 5000 },
		"Logger":       func(c *Config) { c.Logger = nil },
	} {
		cfg := smallConfig(t.TempDir())
		change(&cfg)
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), name+" is") && !strings.Contains(err.Error(), name+" or") {
			t.Errorf("Open with a bad %s = %v, want an error that names it", name, err)
		}
	}
}

func TestAnotherNodesJournalIsRefused(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	mustClose(t, mustOpen(t, cfg))
	cfg.Node = "other"
	if _, err := Open(cfg); !errors.Is(err, ErrOther) || !strings.Contains(err.Error(), testNode) {
		t.Errorf("Open of another node's journal = %v, want ErrOther with its id", err)
	}
}

func TestClosedJournalTakesNothing(t *testing.T) {
	j := mustOpen(t, smallConfig(t.TempDir()))
	mustClose(t, j)
	mustClose(t, j)
	if err := try(j, put(1, 1, "v")); !errors.Is(err, ErrClosed) {
		t.Errorf("Try after Close = %v, want ErrClosed", err)
	}
	if err := j.Err(); !errors.Is(err, ErrClosed) {
		t.Errorf("Err after Close = %v, want ErrClosed", err)
	}
}

// randomCall returns a call such as the tests of models make.
func randomCall(r *rand.Rand, ids int) []Record {
	rs := make([]Record, 1+r.IntN(4)*r.IntN(2))
	for i := range rs {
		rs[i] = Record{Kind: Kind(1 + r.IntN(3)), ID: id(r.IntN(ids))}
		switch r.IntN(10) {
		case 0, 1, 2:
		case 3:
			rs[i].Value = bytes.Repeat([]byte{byte('a' + r.IntN(4))}, 601+r.IntN(3)*1000) // some are equal
		default:
			rs[i].Value = make([]byte, r.IntN(300))
			for k := range rs[i].Value {
				rs[i].Value[k] = byte(r.IntN(256))
			}
		}
	}
	return rs
}

func TestReopenedJournalEqualsModel(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	r := rand.New(rand.NewPCG(1, 2))
	want := model{}
	var first uint32
	for round := range 20 {
		j := mustOpen(t, cfg)
		wantContents(t, j, want)
		var wg sync.WaitGroup
		for n := range 500 {
			rs := randomCall(r, 10+round*10)
			want.apply(rs...)
			wg.Add(1)
			j.Write(func(err error) {
				defer wg.Done()
				if err != nil {
					t.Errorf("Write: %v", err)
				}
				wantBounded(t, j)
			}, rs...)
			if n%20 == 0 {
				wg.Wait()
			}
		}
		mustClose(t, j)
		first = j.index.segments[0].number
	}
	if first < 50 {
		t.Errorf("the oldest segment is %d after all this: hardly anything was compacted", first)
	}
	wantContents(t, mustOpen(t, cfg), want)
}

// TestReadersSeeEachRecordWhileItIsMoved: compaction closes and removes files
// that readers are about to read.
func TestReadersSeeEachRecordWhileItIsMoved(t *testing.T) {
	j := mustOpen(t, smallConfig(t.TempDir()))
	const kept = 50
	for n := range kept {
		size := 100 + n%2*1000 // some in files
		mustTry(t, j, put(1, n, strings.Repeat(string(rune('A'+n)), size)))
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for n := range kept {
					if v, err := j.Get(1, id(n)); err != nil || string(v[:1]) != string(rune('A'+n)) {
						t.Errorf("Get of record %d = %.10q, %v", n, v, err)
						return
					}
				}
				if err := j.Scan(2, tasks.ID{}, func(tasks.ID, []byte) error { return nil }); err != nil {
					t.Errorf("Scan of what changes: %v", err)
					return
				}
			}
		})
	}
	for n := range 6000 {
		j.Write(func(error) {}, put(2, n%20, strings.Repeat("x", n%600)))
		if n%500 == 0 {
			mustTry(t, j)
		}
	}
	mustTry(t, j)
	close(stop)
	readers.Wait()
	if first := j.index.segments[0].number; first < 100 {
		t.Errorf("the oldest segment is %d: hardly anything was compacted", first)
	}
}

// wantBounded checks that the log is not much longer than what is in it.
func wantBounded(t testing.TB, j *Journal) {
	t.Helper()
	if s := j.Stats(); s.Disk > 2*s.Live+4*j.cfg.SegmentBytes {
		t.Errorf("the log has %d bytes and %d live ones, want at most 2 x live + 4 segments of %d", s.Disk, s.Live, j.cfg.SegmentBytes)
	}
}

func TestMassDeletionMakesTheLogShort(t *testing.T) {
	cfg := smallConfig(t.TempDir())
	var text strings.Builder
	j := mustOpen(t, logTo(cfg, &text))
	want := model{}
	for n := range 4000 {
		r := put(1, n, strings.Repeat("v", 200))
		j.Write(func(error) {}, r)
		want.apply(r)
	}
	mustTry(t, j)
	wantContents(t, j, want)
	for n := range 4000 {
		if n%50 != 0 {
			j.Write(func(error) {}, del(1, n))
			want.apply(del(1, n))
		}
	}
	mustTry(t, j)
	mustClose(t, j)
	wantBounded(t, j)
	wantContents(t, mustOpen(t, cfg), want)
	if text.Len() > 0 {
		t.Errorf("logged: %s", text.String())
	}
}
