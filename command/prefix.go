package command

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/scagent/scagent/agent/api"
)

// maxLineBytes bounds what is kept of a line that has not ended yet. A longer
// one is broken.
const maxLineBytes = 1 << 20

// linePrinter prints the output of several tasks in whole lines, each after the
// name of its worker.
type linePrinter struct {
	s      *streams
	prefix bool
	color  bool
	tasks  map[int]*partials // by index; of those that have not ended
}

// partials are the beginnings of lines that have not ended yet.
type partials struct {
	label    string
	out, err []byte
}

func (p *linePrinter) event(label string, e *api.StreamEvent) {
	switch e.Type {
	case api.StreamOutput:
		p.output(label, e.Index, e.Stream, e.DataBase64)
	case api.StreamAgain:
		delete(p.tasks, e.Index) // half a line of an attempt that is void
	case api.StreamResult:
		if t := p.tasks[e.Index]; t != nil {
			p.rest(e.Index, t)
		}
		if v := value(e.Result); v != nil {
			p.line(label, e.Index, stdout, v, nil)
		}
	}
}

// end prints the lines of tasks that have not ended as far as they go.
func (p *linePrinter) end() {
	for _, i := range slices.Sorted(maps.Keys(p.tasks)) {
		p.rest(i, p.tasks[i])
	}
}

// rest prints what there is of a task's last lines.
func (p *linePrinter) rest(index int, t *partials) {
	p.line(t.label, index, stdout, t.out, nil)
	p.line(t.label, index, stderr, t.err, nil)
	delete(p.tasks, index)
}

func (p *linePrinter) output(label string, index int, stream string, data []byte) {
	t := p.tasks[index]
	if t == nil {
		t = &partials{}
		p.tasks[index] = t
	}
	t.label = label
	rest := &t.out
	if stream == stderr {
		rest = &t.err
	}
	for len(data) > 0 {
		n := bytes.IndexByte(data, '\n') + 1
		if n == 0 {
			room := maxLineBytes - len(*rest)
			if len(data) < room {
				*rest = append(*rest, data...)
				return
			}
			n = room
		}
		p.line(label, index, stream, *rest, data[:n])
		*rest, data = (*rest)[:0], data[n:]
	}
}

// line prints a line that is in two parts, and ends it if it has no end. It
// prints nothing if both are empty.
func (p *linePrinter) line(label string, index int, stream string, a, b []byte) {
	if len(a)+len(b) == 0 {
		return
	}
	w := p.s.to(stream)
	switch {
	case !p.prefix:
	case p.color && stream == stdout:
		fmt.Fprintf(w, "\x1b[%dm%s:\x1b[0m ", 31+index%6, label)
	default:
		w.WriteString(label)
		w.WriteString(": ")
	}
	w.Write(a)
	w.Write(b)
	last := a
	if len(b) > 0 {
		last = b
	}
	if last[len(last)-1] != '\n' {
		w.WriteByte('\n')
	}
}

// heldPrinter keeps back what a task writes until it ends, and then prints what
// its last attempt wrote.
type heldPrinter struct {
	lines  *linePrinter
	spools map[int]*spool // by index
}

func (p *heldPrinter) event(label string, e *api.StreamEvent) {
	sp := p.spools[e.Index]
	switch e.Type {
	case api.StreamOutput:
		if sp == nil {
			sp = &spool{}
			p.spools[e.Index] = sp
		}
		sp.add(e.Stream, e.DataBase64)
		return
	case api.StreamResult:
		if sp != nil {
			sp.replay(func(stream string, data []byte) { p.lines.output(label, e.Index, stream, data) })
		}
		p.lines.event(label, e)
	case api.StreamAgain:
	default:
		return
	}
	if sp != nil {
		sp.close()
		delete(p.spools, e.Index)
	}
}

func (p *heldPrinter) end() {
	for _, sp := range p.spools {
		sp.close()
	}
}
