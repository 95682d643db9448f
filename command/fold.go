package command

import (
	"crypto/sha256"
	"hash"
	"slices"
	"strings"

	"github.com/scagent/scagent/agent/api"
)

// foldPrinter prints equal outputs once, under the names that gave them. It
// prints at the end: standard output and standard error are folded apart.
type foldPrinter struct {
	lines  *linePrinter
	names  bool
	tasks  map[int]*[2]folded // by index; of those that have not ended
	groups [2][]*group        // of stdout and of stderr
	known  [2]map[[sha256.Size]byte]*group
}

// folded is one stream of one task.
type folded struct {
	spool spool
	sum   hash.Hash // nil: nothing was written
}

// group is an output and who gave it.
type group struct {
	names []string
	spool spool
}

func newFoldPrinter(s *streams, names bool) *foldPrinter {
	p := &foldPrinter{lines: &linePrinter{s: s, tasks: map[int]*partials{}}, names: names, tasks: map[int]*[2]folded{}}
	for i := range p.known {
		p.known[i] = map[[sha256.Size]byte]*group{}
	}
	return p
}

func (p *foldPrinter) event(label string, e *api.StreamEvent) {
	t := p.tasks[e.Index]
	if t == nil {
		t = &[2]folded{}
		p.tasks[e.Index] = t
	}
	switch e.Type {
	case api.StreamOutput:
		i := 0
		if e.Stream == stderr {
			i = 1
		}
		t[i].add(e.Stream, e.DataBase64)
	case api.StreamAgain:
		p.drop(e.Index)
	case api.StreamResult:
		if v := value(e.Result); v != nil {
			t[0].add(stdout, v)
		}
		for i := range t {
			p.file(i, label, &t[i])
		}
		delete(p.tasks, e.Index)
	}
}

func (f *folded) add(stream string, data []byte) {
	if f.sum == nil {
		f.sum = sha256.New()
	}
	f.sum.Write(data)
	f.spool.add(stream, data)
}

// file puts one stream of an ended task with those that are equal to it.
func (p *foldPrinter) file(i int, label string, f *folded) {
	if f.sum == nil {
		return
	}
	sum := [sha256.Size]byte(f.sum.Sum(nil))
	g := p.known[i][sum]
	if g == nil {
		g = &group{spool: f.spool}
		p.known[i][sum] = g
		p.groups[i] = append(p.groups[i], g)
	} else {
		f.spool.close()
	}
	g.names = append(g.names, label)
}

func (p *foldPrinter) drop(index int) {
	if t := p.tasks[index]; t != nil {
		t[0].spool.close()
		t[1].spool.close()
		delete(p.tasks, index)
	}
}

func (p *foldPrinter) end() {
	for index := range p.tasks {
		p.drop(index) // of tasks that did not end
	}
	for i, stream := range []string{stdout, stderr} {
		for _, g := range p.groups[i] {
			slices.Sort(g.names)
		}
		slices.SortFunc(p.groups[i], func(a, b *group) int { return slices.Compare(a.names, b.names) })
		for _, g := range p.groups[i] {
			if p.names {
				p.lines.line("", 0, stream, []byte(strings.Join(g.names, ",")+":\n"), nil)
			}
			g.spool.replay(func(stream string, data []byte) { p.lines.output("", 0, stream, data) })
			p.lines.event("", &api.StreamEvent{Type: api.StreamResult, Result: &api.TaskStatus{}})
			g.spool.close()
		}
	}
}
