package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/test/bounds"

	"github.com/scagent/scagent/tasks/journal/memfs"
)

// repair makes checksums and marks of a segment right, as far as its lengths
// make sense, so that a fuzz test gets behind them.
func repair(b []byte, number uint32) {
	if len(b) < headerBytes {
		return
	}
	copy(b, magic[:])
	binary.BigEndian.PutUint32(b[8:], version)
	binary.BigEndian.PutUint32(b[16:], number)
	binary.BigEndian.PutUint32(b[12:], headerSum(b))
	for at := headerBytes; at+groupHeader <= len(b); {
		copy(b[at:], b[32:40])
		end := at + groupHeader + int(binary.BigEndian.Uint32(b[at+12:]))
		binary.BigEndian.PutUint32(b[at+8:], groupSum(b[at:]))
		for at += groupHeader; at+recordHeader <= min(end, len(b)); {
			n := recordHeader + int(binary.BigEndian.Uint32(b[at+4:]))
			if at+n > len(b) {
				return
			}
			binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:at+n], castagnoli))
			at += n
		}
		at = max(at, end)
	}
}

// FuzzOpen opens a journal of two segments of any contents, as they are or with
// their checksums made right. It opens and works, as Check and Salvage also say,
// or it is refused as damaged and changed by nothing but Salvage.
func FuzzOpen(f *testing.F) {
	m := memfs.New[File]()
	cfg := faultConfig(m)
	w := writeCalls(f, cfg, append(someCalls(20), []Record{put(1, 1, strings.Repeat("large", 200))}, []Record{del(1, 3)}))
	one := w.fs.File(w.last())
	m = memfs.New[File]()
	cfg.FS = m
	writeCalls(f, cfg, someCalls(45))
	two := [2][]byte{m.File(memDir + "/" + segmentName(1)), m.File(memDir + "/" + segmentName(2))}
	f.Add(one, []byte(nil), false)
	f.Add(one[:len(one)-20], []byte(nil), false)
	f.Add(append(slices.Clone(one), make([]byte, 100)...), []byte(nil), true)
	f.Add(two[0], two[1], false)
	f.Add(two[0], two[1][:headerBytes], true)
	f.Add(two[0][:len(two[0])-sealBytes], two[1][:headerBytes], true)
	f.Add(two[1], two[0], true)
	f.Add([]byte(nil), two[1], false)
	lengths := slices.Clone(one)
	binary.BigEndian.PutUint32(lengths[headerBytes+12:], 1<<32-1)
	f.Add(lengths, []byte(nil), true)
	based := append((&header{number: 1, base: 1, first: 1, node: testNode}).marshal(), make([]byte, groupHeader)...)
	based = appendRecord(based, &entry{op: opBase, seq: 1, value: []byte{0, 0, 0, 9}})
	finishGroup(based[headerBytes:], [8]byte{}, group{bytes: recordHeader + 4, count: 1, first: 1})
	f.Add(based, []byte(nil), true)
	f.Fuzz(func(t *testing.T, a, b []byte, repaired bool) {
		bounds.Input(t, a, b)
		defer bounds.Check(t)()
		a, b = slices.Clone(a), slices.Clone(b)
		if repaired {
			repair(a, 1)
			repair(b, 2)
		}
		m := memfs.New[File]().With(memDir+"/"+aboutFile, []byte(fmt.Sprintf(aboutForm, testNode)))
		m = m.With(memDir+"/"+segmentName(1), a)
		if len(b) > 0 {
			m = m.With(memDir+"/"+segmentName(2), b)
		}
		cfg := faultConfig(m)
		before := m.Left(nil, true)
		saved, rerr := rescue(m, memDir)
		j, err := Open(cfg)
		if err != nil {
			for path, d := range before.Now {
				if string(m.File(path)) != string(d.Now) {
					t.Errorf("Open = %v, and changed %s", err, path)
				}
			}
			if !errors.Is(err, ErrDamaged) || rerr != nil {
				return
			}
			cfg.Node = saved.node
			if saved.next > 1<<63 || saved.node == "" {
				return // no more numbers, or it is nobody's
			}
			if err := saved.rewrite(cfg); err != nil {
				t.Fatalf("Salvage after %v: %v", err, err)
			}
			l, err := load(m, memDir)
			if err != nil || l.report().Records != len(saved.live) {
				t.Fatalf("after Salvage: Open = %v, want %d records", err, len(saved.live))
			}
			return
		}
		defer j.Close()
		got, err := contents(j)
		if err != nil {
			t.Fatalf("read all: %v", err)
		}
		want := model{}
		for k, e := range saved.live {
			want[k] = string(e.value)
		}
		for k := range want { // contents reads some kinds only
			if k.kind > 3 || k.id.IsZero() {
				return
			}
		}
		if d := want.diff(got); rerr != nil || d != "" && len(j.index.refs) == 0 {
			t.Errorf("the journal %s; Salvage says %v", d, rerr)
		}
		mustTry(t, j, put(3, 1<<40, "more"), del(1, 1))
		got.apply(put(3, 1<<40, "more"), del(1, 1))
		mustClose(t, j)
		wantContents(t, mustOpen(t, cfg), got)
	})
}
