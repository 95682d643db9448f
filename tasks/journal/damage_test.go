package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks/journal/memfs"
)

const memDir = "/j"

func memConfig(m *memfs.FS[File]) Config {
	cfg := smallConfig(memDir)
	cfg.FS = m
	return cfg
}

// written is a journal with what it was after each group.
type written struct {
	fs     *memfs.FS[File]
	states []model
}

// writeCalls writes each call as a group of its own.
func writeCalls(t testing.TB, cfg Config, calls [][]Record) *written {
	t.Helper()
	w := &written{fs: cfg.FS.(*memfs.FS[File]), states: []model{{}}}
	j := mustOpen(t, cfg)
	m := model{}
	for _, rs := range calls {
		mustTry(t, j, rs...)
		m.apply(rs...)
		w.states = append(w.states, model{})
		for k, v := range m {
			w.states[len(w.states)-1][k] = v
		}
	}
	mustClose(t, j)
	return w
}

// someCalls are n calls that put, change and delete. No value has a zero byte.
func someCalls(n int) (calls [][]Record) {
	for i := range n {
		rs := []Record{put(1, i, fmt.Sprintf("value %d %s", i, strings.Repeat("x", i%50)))}
		switch i % 5 {
		case 1:
			rs = append(rs, put(2, i/10, fmt.Sprintf("changed by %d", i)))
		case 2:
			rs = append(rs, del(1, i/2))
		}
		calls = append(calls, rs)
	}
	return calls
}

// last returns the path of the segment that is written to.
func (w *written) last() string {
	var last string
	for path := range w.fs.Now {
		if filepath.Ext(path) == segmentSuffix {
			last = max(last, path)
		}
	}
	return last
}

// loadState loads a journal and returns after how many groups it was as it is.
// A journal that equals none of the states fails the test.
func (w *written) loadState(t testing.TB, m *memfs.FS[File], what string) (int, error) {
	t.Helper()
	l, err := load(m, memDir)
	if err != nil {
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), memDir) {
			t.Fatalf("%s: Open = %v, want ErrDamaged with the path of a file", what, err)
		}
		return 0, err
	}
	got, err := contents(&Journal{cfg: memConfig(m), index: l.index})
	if err != nil {
		t.Fatalf("%s: read all: %v", what, err)
	}
	for n := len(w.states) - 1; n >= 0; n-- {
		if s := w.states[n]; len(s) == len(got) && s.diff(got) == "" {
			return n, nil
		}
	}
	t.Fatalf("%s: the journal is as it never was; of the last state it %s", what, w.states[len(w.states)-1].diff(got))
	return 0, nil
}

// oneSegment makes a journal of n calls that has one segment.
func oneSegment(t testing.TB, n int) *written {
	cfg := memConfig(memfs.New[File]())
	cfg.SegmentBytes = 1 << 20
	return writeCalls(t, cfg, someCalls(n))
}

// groupEnds returns where the groups of the only segment end, its header first.
func (w *written) groupEnds(t testing.TB) []int {
	b := w.fs.File(w.last())
	h, err := parseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int{headerBytes}
	for off := headerBytes; off < len(b); {
		g, ok := parseGroup(b[off:], h.mark)
		if !ok {
			t.Fatalf("no group at %d", off)
		}
		off += groupHeader + int(g.bytes)
		ends = append(ends, off)
	}
	if len(ends) != len(w.states) {
		t.Fatalf("%d groups, want %d", len(ends)-1, len(w.states)-1)
	}
	return ends
}

func TestTruncatedLastSegmentOpensAsItWasBefore(t *testing.T) {
	w := oneSegment(t, 140) // some 200 records
	path := w.last()
	b, ends := w.fs.File(path), w.groupEnds(t)
	groups := 0
	for n := 0; n < len(b); n += 1 + (n*7)%stride {
		m := w.fs.With(path, b[:n:n])
		what := fmt.Sprintf("cut at %d", n)
		got, err := w.loadState(t, m, what)
		if n < headerBytes {
			if err == nil {
				t.Fatalf("%s, within its header: Open says nothing", what)
			}
			continue
		}
		for groups+1 < len(ends) && ends[groups+1] <= n {
			groups++
		}
		if err != nil || w.states[got].diff(w.states[groups]) != "" {
			t.Fatalf("%s: state %d, %v; want %d", what, got, err, groups)
		}
		if n%50 == 0 { // and it goes on
			cfg := memConfig(m)
			j := mustOpen(t, cfg)
			mustTry(t, j, put(3, 1, "more"))
			mustClose(t, j)
			j = mustOpen(t, cfg)
			if _, err := j.Get(3, id(1)); err != nil {
				t.Fatalf("%s: Get of what was written then: %v", what, err)
			}
			mustClose(t, j)
		}
	}
}

func TestTruncatedEarlierSegmentIsDamage(t *testing.T) {
	w := writeCalls(t, memConfig(memfs.New[File]()), someCalls(300))
	for path := range w.fs.Now {
		if filepath.Ext(path) != segmentSuffix || path == w.last() {
			continue
		}
		b := w.fs.File(path)
		for n := 0; n < len(b); n += 3 * stride {
			if got, err := w.loadState(t, w.fs.With(path, b[:n:n]), fmt.Sprintf("%s cut at %d", path, n)); err == nil {
				t.Fatalf("%s cut at %d: it opens in state %d, want ErrDamaged", path, n, got)
			}
		}
	}
}

func TestEveryFlippedBitIsDamage(t *testing.T) {
	w := oneSegment(t, 40)
	path := w.last()
	b := w.fs.File(path)
	if len(b) < 4096 {
		t.Fatalf("the log has %d bytes, want 4096", len(b))
	}
	for bit := 0; bit < 8*len(b); bit += stride {
		c := slices.Clone(b)
		c[bit/8] ^= 1 << (bit % 8)
		if got, err := w.loadState(t, w.fs.With(path, c), fmt.Sprintf("bit %d of byte %d flipped", bit%8, bit/8)); err == nil {
			t.Fatalf("bit %d of byte %d of %d flipped: it opens in state %d, want ErrDamaged", bit%8, bit/8, len(b), got)
		}
	}
}

func TestZeroedSectorIsDamageOrATornEnd(t *testing.T) {
	w := oneSegment(t, 140) // some 200 records
	path := w.last()
	b, ends := w.fs.File(path), w.groupEnds(t)
	for at := 0; at < len(b); at += sector {
		c := slices.Clone(b)
		clear(c[at:min(at+sector, len(c))])
		got, err := w.loadState(t, w.fs.With(path, c), fmt.Sprintf("sector at %d zeroed", at))
		if inLast := at+sector > ends[len(ends)-2]; !inLast && err == nil {
			t.Fatalf("sector at %d zeroed: it opens in state %d, want ErrDamaged", at, got)
		} else if inLast && err == nil && ends[got] > at {
			t.Fatalf("sector at %d zeroed: it opens in state %d, which needs it", at, got)
		}
	}
}

func TestZerosBehindTheEndAreCutOff(t *testing.T) {
	w := oneSegment(t, 20)
	b := w.fs.File(w.last())
	for _, n := range []int{1, 7, groupHeader, 600, 5000} {
		got, err := w.loadState(t, w.fs.With(w.last(), append(slices.Clone(b), make([]byte, n)...)), fmt.Sprint(n, " zeros"))
		if err != nil || got != len(w.states)-1 {
			t.Errorf("%d zeros behind the end: state %d, %v; want the last", n, got, err)
		}
	}
}

func TestGarbageBehindTheEndIsDamage(t *testing.T) {
	w := oneSegment(t, 20)
	b := w.fs.File(w.last())
	for _, n := range []int{8, groupHeader, 600} {
		if _, err := w.loadState(t, w.fs.With(w.last(), append(slices.Clone(b), strings.Repeat("g", n)...)), fmt.Sprint(n, " bytes")); err == nil {
			t.Errorf("%d bytes of garbage behind the end: it opens, want ErrDamaged", n)
		}
	}
}

// TestValueThatLooksLikeAGroup: users choose values; one that has a group in it
// must not make a torn write look like damage.
func TestValueThatLooksLikeAGroup(t *testing.T) {
	forged := make([]byte, groupHeader)
	forged = appendRecord(forged, &entry{op: opPut, kind: 1, id: id(1), seq: 100, value: []byte("forged")})
	finishGroup(forged, newMark(), group{bytes: uint32(len(forged) - groupHeader), count: 1, first: 100})
	calls := append(someCalls(10), []Record{{1, id(1), append(forged, strings.Repeat("x", 300)...)}})
	cfg := memConfig(memfs.New[File]())
	w := writeCalls(t, cfg, calls)
	b := w.fs.File(w.last())
	got, err := w.loadState(t, w.fs.With(w.last(), b[:len(b)-10]), "cut")
	if err != nil || got != len(w.states)-2 {
		t.Errorf("state %d, %v; want that before the value", got, err)
	}
}

func TestSegmentsInTheWrongPlaceAreDamage(t *testing.T) {
	w := writeCalls(t, memConfig(memfs.New[File]()), someCalls(300))
	var paths []string
	for path := range w.fs.Now {
		if filepath.Ext(path) == segmentSuffix {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	if len(paths) < 4 {
		t.Fatalf("%d segments, want 4", len(paths))
	}
	check := func(what string, m *memfs.FS[File]) {
		t.Helper()
		if got, err := w.loadState(t, m, what); err == nil {
			t.Errorf("%s: it opens in state %d of %d, want ErrDamaged", what, got, len(w.states)-1)
		}
	}
	// An equal journal, written at another time.
	other := writeCalls(t, memConfig(memfs.New[File]()), someCalls(300)).fs
	all := w.fs
	for i, path := range paths {
		b := w.fs.File(path)
		check("removed: "+path, w.fs.With(path, nil))
		check("one of another time: "+path, w.fs.With(path, other.File(path)))
		check("emptied: "+path, w.fs.With(path, []byte{}))
		all = all.With(path, nil)
		for k, to := range paths {
			if k != i {
				check("copied: "+path+" to "+to, w.fs.With(to, b))
				check("swapped: "+path+" and "+to, w.fs.With(to, b).With(path, w.fs.File(to)))
			}
		}
		check("copied behind the end: "+path, w.fs.With(memDir+"/"+segmentName(uint32(len(paths)+1)), b))
	}
	check("all removed", all)
}

func TestNewerVersionIsRefused(t *testing.T) {
	w := oneSegment(t, 3)
	b := slices.Clone(w.fs.File(w.last()))
	b[11] = version + 1
	h := headerSum(b)
	b[12], b[13], b[14], b[15] = byte(h>>24), byte(h>>16), byte(h>>8), byte(h)
	_, err := load(w.fs.With(w.last(), b), memDir)
	if !errors.Is(err, ErrVersion) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "run the scagent that wrote it") {
		t.Errorf("Open of version %d = %v, want ErrVersion and what to do", version+1, err)
	}
}

func TestDamagedValueFileIsDamage(t *testing.T) {
	w := writeCalls(t, memConfig(memfs.New[File]()), append(someCalls(5), []Record{put(1, 99, strings.Repeat("large", 200))}))
	for path := range w.fs.Now {
		if filepath.Dir(path) != memDir+"/"+valuesDir {
			continue
		}
		b := slices.Clone(w.fs.File(path))
		b[17] ^= 4
		for what, b := range map[string][]byte{"missing": nil, "flipped": b, "cut": b[:len(b)-1]} {
			m := w.fs.With(path, b)
			if _, err := w.loadState(t, m, what); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("value file %s: Open = %v, want ErrDamaged that names it", what, err)
			}
		}
		return
	}
	t.Error("no value has a file")
}

func TestValueFilesThatNoRecordNamesAreRemoved(t *testing.T) {
	cfg := memConfig(memfs.New[File]())
	large := strings.Repeat("large", 200)
	w := writeCalls(t, cfg, [][]Record{{put(1, 1, large), put(2, 1, large)}, {del(1, 1)}})
	files := func(m *memfs.FS[File]) int {
		names, _ := m.ReadDir(memDir + "/" + valuesDir)
		return len(names)
	}
	if n := files(w.fs); n != 1 {
		t.Fatalf("%d files while one of two records is left, want 1", n)
	}
	m := w.fs.With(memDir+"/"+valuesDir+"/"+strings.Repeat("0", 64), []byte("left"))
	m = m.With(memDir+"/00000009.log"+tmpSuffix, []byte("left"))
	cfg.FS = m
	j := mustOpen(t, cfg)
	if n := files(m); n != 1 || m.Now[memDir+"/00000009.log"+tmpSuffix] != nil {
		t.Errorf("%d value files after Open, want 1, and nothing half-written", n)
	}
	for _, rs := range [][]Record{{del(2, 1)}, {put(2, 2, large), del(2, 2)}} {
		mustTry(t, j, rs...)
		if n := files(m); n != 0 {
			t.Errorf("%d value files when no record is left, want 0", n)
		}
	}
}
