package journal

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks/journal/memfs"
)

// onDisk writes what a memFS has to a directory.
func onDisk(t *testing.T, m *memfs.FS[File]) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/"+valuesDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, d := range m.Now {
		if err := os.WriteFile(dir+strings.TrimPrefix(path, memDir), d.Now, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tree returns the contents of all files.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// salvaged checks and salvages a journal, and returns what it then has.
func salvaged(t *testing.T, dir string) (Report, model) {
	t.Helper()
	before := tree(t, dir)
	found, err := Check(dir)
	if !errors.Is(err, ErrDamaged) || len(found.Damage) == 0 {
		t.Fatalf("Check of a damaged journal = %+v, %v; want ErrDamaged, and why", found, err)
	}
	if !maps.Equal(tree(t, dir), before) {
		t.Fatal("Check changed files")
	}
	r, err := Salvage(dir)
	if err != nil {
		t.Fatalf("Salvage: %v", err)
	}
	if r.Records != found.Records || r.Lost() != found.Lost() {
		t.Errorf("Salvage kept %d records of which %d are lost; Check said %d, %d", r.Records, r.Lost(), found.Records, found.Lost())
	}
	if kept := tree(t, r.Kept); !maps.Equal(kept, before) {
		t.Errorf("the damaged files that were kept are %v, want %v", slices.Sorted(maps.Keys(kept)), slices.Sorted(maps.Keys(before)))
	}
	cfg := smallConfig(dir)
	j := mustOpen(t, cfg)
	m, err := contents(j)
	if err != nil {
		t.Fatalf("read all after Salvage: %v", err)
	}
	mustTry(t, j, put(3, 5000, "goes on"))
	mustClose(t, j)
	again := mustOpen(t, cfg)
	if _, err := again.Get(3, id(5000)); err != nil {
		t.Errorf("Get of what was written after Salvage: %v", err)
	}
	mustClose(t, again)
	return r, m
}

// puts are calls each of one record that is never changed.
func puts(n int) (calls [][]Record) {
	for i := range n {
		calls = append(calls, []Record{put(1, i, strings.Repeat("value", 20))})
	}
	return calls
}

func TestSalvageKeepsAllButTheDamagedRecord(t *testing.T) {
	calls := puts(100)
	calls[40] = []Record{put(1, 40, "a"), put(1, 140, "b"), put(1, 240, "c")}
	cfg := memConfig(memfs.New[File]())
	cfg.SegmentBytes = 1 << 20
	w := writeCalls(t, cfg, calls)
	ends, path, all := w.groupEnds(t), w.last(), w.states[len(w.states)-1]
	second := ends[40] + groupHeader + recordHeader + 1 // the second record of group 40
	for name, c := range map[string]struct {
		at   int // byte that is flipped
		lost []int
	}{
		"a value":                      {second + recordHeader, []int{140}},
		"an id":                        {second + 20, []int{140}},
		"a length":                     {second + 4, []int{140, 240}}, // where the third is is not known
		"the header of a group":        {ends[40] + 20, nil},
		"the mark of a group":          {ends[40] + 3, nil},
		"the header of the segment":    {20, nil},
		"the mark of the segment":      {33, nil},
		"the first group's own header": {headerBytes + 13, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := slices.Clone(w.fs.File(path))
			b[c.at] ^= 0x40
			r, got := salvaged(t, onDisk(t, w.fs.With(path, b)))
			want := maps.Clone(all)
			for _, n := range c.lost {
				delete(want, key{1, id(n)})
			}
			if d := want.diff(got); d != "" {
				t.Errorf("after Salvage the journal %s", d)
			}
			if r.Lost() != uint64(len(c.lost)) {
				t.Errorf("%d lost in gaps %v, want %d", r.Lost(), r.Gaps, len(c.lost))
			}
		})
	}
}

func TestSalvageOfSegmentsInTheWrongPlace(t *testing.T) {
	w := writeCalls(t, memConfig(memfs.New[File]()), puts(300))
	all := w.states[len(w.states)-1]
	seg := func(n uint32) string { return memDir + "/" + segmentName(n) }
	for name, m := range map[string]*memfs.FS[File]{
		"swapped":    w.fs.With(seg(2), w.fs.File(seg(3))).With(seg(3), w.fs.File(seg(2))),
		"duplicated": w.fs.With(seg(20), w.fs.File(seg(2))),
	} {
		t.Run(name, func(t *testing.T) {
			r, got := salvaged(t, onDisk(t, m))
			if d := all.diff(got); d != "" || r.Lost() != 0 {
				t.Errorf("after Salvage the journal %s, %d lost; want all", d, r.Lost())
			}
		})
	}
	t.Run("removed", func(t *testing.T) {
		r, got := salvaged(t, onDisk(t, w.fs.With(seg(2), nil)))
		// The seal of the segment is lost too.
		if lost := len(all) - len(got); lost == 0 || r.Lost() != uint64(lost)+1 || len(r.Gaps) != 1 {
			t.Errorf("%d records are gone, Report says %d in %v", lost, r.Lost(), r.Gaps)
		}
	})
	t.Run("all removed", func(t *testing.T) {
		m := w.fs
		for path := range w.fs.Now {
			if filepath.Ext(path) == segmentSuffix {
				m = m.With(path, nil)
			}
		}
		if r, got := salvaged(t, onDisk(t, m)); r.Node != testNode || len(got) > 0 {
			t.Errorf("Salvage = %+v with %d records, want none", r, len(got))
		}
	})
}

func TestSalvageWithoutAValueFileKeepsTheRest(t *testing.T) {
	large := strings.Repeat("large", 200)
	w := writeCalls(t, memConfig(memfs.New[File]()), append(puts(5), []Record{put(2, 1, large)}, []Record{put(2, 2, large+"other")}))
	m := w.fs
	for path := range w.fs.Now {
		if b := w.fs.File(path); string(b) == large {
			m = m.With(path, b[1:])
		}
	}
	r, got := salvaged(t, onDisk(t, m))
	want := maps.Clone(w.states[len(w.states)-1])
	delete(want, key{2, id(1)})
	if d := want.diff(got); d != "" {
		t.Errorf("after Salvage the journal %s", d)
	}
	if !slices.ContainsFunc(r.Damage, func(s string) bool { return strings.Contains(s, id(1).String()) }) {
		t.Errorf("Damage is %q, want a line about the record", r.Damage)
	}
}

// TestCrashDuringSalvage: new segments count only once all is in them.
func TestCrashDuringSalvage(t *testing.T) {
	w := writeCalls(t, memConfig(memfs.New[File]()), puts(300))
	path := memDir + "/" + segmentName(2)
	b := slices.Clone(w.fs.File(path))
	b[500] ^= 1
	m := w.fs.With(path, b)
	s, err := rescue(m, memDir)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(8, 9))
	opened, refused := 0, 0
	check := func(m *memfs.FS[File]) {
		l, err := load(m, memDir)
		if errors.Is(err, ErrDamaged) {
			refused++
			again, err := rescue(m, memDir)
			if err != nil || len(again.live) != len(s.live) {
				t.Fatalf("salvaged again: %d records, %v; want %d", len(again.live), err, len(s.live))
			}
			return
		}
		if err != nil || l.report().Records != len(s.live) {
			t.Fatalf("Open = %d records, %v; want %d or ErrDamaged", l.report().Records, err, len(s.live))
		}
		opened++
	}
	m.Before = func(m *memfs.FS[File], op, name string) error {
		check(m.Left(nil, true))
		check(m.Left(nil, false))
		check(m.Left(r, false))
		return nil
	}
	if err := s.rewrite(memConfig(m)); err != nil {
		t.Fatal(err)
	}
	m.Before = nil
	check(m.Left(nil, true))
	if opened < 10 || refused < 100 {
		t.Errorf("it opened %d times and was refused %d times, want more", opened, refused)
	}
}

func TestCheckAndSalvageOfASoundJournal(t *testing.T) {
	w := writeCalls(t, memConfig(memfs.New[File]()), puts(30))
	b := w.fs.File(w.last())
	dir := onDisk(t, w.fs.With(w.last(), append(slices.Clone(b), 0, 0, 0)))
	before := tree(t, dir)
	for name, f := range map[string]func(string) (Report, error){"Check": Check, "Salvage": Salvage} {
		r, err := f(dir)
		if err != nil || r.Records != 30 || r.Node != testNode || r.Torn != 3 || r.Damage != nil || r.Kept != "" {
			t.Errorf("%s of a sound journal = %+v, %v", name, r, err)
		}
	}
	if !maps.Equal(tree(t, dir), before) {
		t.Error("Check or Salvage of a sound journal changed files")
	}
	if _, err := Check(t.TempDir()); err == nil {
		t.Error("Check of an empty directory says nothing")
	}
}
