package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/test/bounds"
)

// sane checks what a report must always be.
func (r *Report) sane(t *testing.T) {
	t.Helper()
	if text := r.text(t); r.OK() != strings.Contains(text, "violations=0\n") {
		t.Errorf("OK is %v\n%s", r.OK(), text)
	}
	for i := range r.Violations {
		if v := &r.Violations[i]; v.Invariant < 1 || v.Invariant > Invariants || v.Text == "" {
			t.Errorf("violation %+v", v)
		}
	}
}

// FuzzCheck feeds the checker the bytes of two histories and of what tasks wrote.
func FuzzCheck(f *testing.F) {
	histories, truth := generate(1).sources()
	var b [3][]byte
	for i, s := range []Source{histories[0], histories[2], truth[0]} {
		r, _ := s.Open()
		all, _ := io.ReadAll(r)
		b[i] = bytes.Join(bytes.SplitAfter(all, []byte("\n"))[:12], nil)
	}
	f.Add(b[0], b[1], b[2])
	f.Add(b[1], b[1], b[2][:50])
	f.Fuzz(func(t *testing.T, a, b, truth []byte) {
		bounds.Input(t, a, b, truth)
		defer bounds.Check(t)()
		r, err := Check(config(), []Source{source("a", a), source("b", b)}, []Source{source("t", truth)})
		switch {
		case err == nil:
			r.sane(t)
		case !errors.Is(err, history.ErrDamaged) && !errors.Is(err, ErrBadTruth):
			t.Errorf("Check = %v", err)
		}
	})
}

// FuzzEdits has good histories with a few events changed, which get further into the
// checker than bytes do: each four bytes are one change.
func FuzzEdits(f *testing.F) {
	good := brief(2)
	var names []history.Name
	for i := range good.events {
		if n := good.events[i].Name; !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	f.Add([]byte{0, 0, 100, 0, 1, 1, 0, 0, 2, 0, 200, 9, 3, 2, 2, 2, 4, 3, 3, 3, 5, 4, 4, 4, 6, 5, 5, 5, 7, 6, 6, 6})
	f.Fuzz(func(t *testing.T, edits []byte) {
		if len(edits) > 64 {
			t.Skip("the histories would be others")
		}
		defer bounds.Check(t)()
		m := *good
		m.events, m.truth = slices.Clone(m.events), slices.Clone(m.truth)
		for ; len(edits) >= 4; edits = edits[4:] {
			i := int(binary.BigEndian.Uint16(edits[1:])) % len(m.events)
			e := &m.events[i]
			switch v := edits[3]; edits[0] % 8 {
			case 0:
				m.events = slices.Delete(m.events, i, i+1)
			case 1:
				m.events = slices.Insert(m.events, i, *e)
			case 2: // in place of another, with its stamp
				o := &m.events[(i+int(v))%len(m.events)]
				e.Mono, e.Wall, e.Node, e.Boot, o.Mono, o.Wall, o.Node, o.Boot = o.Mono, o.Wall, o.Node, o.Boot, e.Mono, e.Wall, e.Node, e.Boot
				m.sort()
			case 3:
				e.N = uint32(v)
			case 4:
				e.Task, e.Tasks = m.events[(i+int(v))%len(m.events)].Task, nil
			case 5:
				e.Name = names[int(v)%len(names)]
			case 6:
				e.State = []tasks.State{"", tasks.StateQueued, tasks.StateDone, tasks.StateLost, "odd"}[v%5]
				e.Worker, e.Hash, e.Peer = e.Hash, e.Worker, e.Worker
			case 7:
				l := &m.truth[i%len(m.truth)]
				l.at += int64(int8(v)) * second / 4
				l.n += uint32(v % 2)
			}
		}
		histories, truth := m.sources()
		r, err := Check(config(), histories, truth)
		switch {
		case err == nil:
			r.sane(t)
		case !errors.Is(err, history.ErrDamaged):
			t.Errorf("Check = %v", err)
		}
	})
}
