package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/api"
)

// newMapPrinter returns the printer that the options ask for, and the same if it
// keeps order.
func newMapPrinter(o *mapOptions, s *streams) (printer, *wholePrinter) {
	switch {
	case o.jsonStream:
		return &eventPrinter{json.NewEncoder(s.out)}, nil
	case o.lines:
		return &linePrinter{s: s, tasks: map[int]*partials{}}, nil
	}
	p := &wholePrinter{inner: &rawPrinter{s}, keep: o.keep, tasks: map[int]*wholeTask{}}
	if o.json {
		p.inner = &resultPrinter{json.NewEncoder(s.out)}
	}
	return p, p
}

// wholePrinter keeps back what a task writes until it ends, and then passes on what
// its last attempt wrote. With keep it does so in the order of the events' indexes,
// of which none may be missing; the first is 0.
type wholePrinter struct {
	inner printer
	keep  bool
	tasks map[int]*wholeTask // of those that were not passed on
	next  int                // the index whose turn it is
}

// wholeTask is a task that was not passed on.
type wholeTask struct {
	spool  spool
	label  string
	result *api.StreamEvent // nil: it has not ended
}

func (p *wholePrinter) event(label string, e *api.StreamEvent) {
	t := p.tasks[e.Index]
	if t == nil {
		t = &wholeTask{}
		p.tasks[e.Index] = t
	}
	switch e.Type {
	case api.StreamOutput:
		t.spool.add(e.Stream, e.DataBase64)
	case api.StreamAgain:
		t.spool.close()
	case api.StreamResult:
		t.label, t.result = label, e
		if !p.keep {
			p.pass(e.Index, t)
			return
		}
		for t := p.tasks[p.next]; t != nil && t.result != nil; t = p.tasks[p.next] {
			p.pass(p.next, t)
			p.next++
		}
	}
}

// pass passes a task on.
func (p *wholePrinter) pass(index int, t *wholeTask) {
	e := *t.result
	e.Type = api.StreamOutput
	t.spool.replay(func(stream string, data []byte) {
		e.Stream, e.DataBase64 = stream, data
		p.inner.event(t.label, &e)
	})
	p.inner.event(t.label, t.result)
	t.spool.close()
	delete(p.tasks, index)
}

// end passes on what has ended, though something before it has not.
func (p *wholePrinter) end() {
	for n := len(p.tasks); n > 0; p.next++ {
		if t := p.tasks[p.next]; t != nil {
			if n--; t.result != nil {
				p.pass(p.next, t)
			} else {
				t.spool.close()
			}
		}
	}
	p.inner.end()
}

// barEvery is how often the bar is drawn.
const barEvery = 200 * time.Millisecond

// bar is a line on a terminal that says how far a map is. A nil bar is none.
type bar struct {
	w     io.Writer
	begin time.Time
	drawn bool
}

func newBar(e *Env, o *mapOptions) *bar {
	if o.barSet && !o.bar || !o.barSet && (!e.ErrTerminal || o.quiet || e.Getenv("TERM") == "dumb") {
		return nil
	}
	return &bar{w: e.Stderr, begin: time.Now()}
}

// clear makes room for other output.
func (b *bar) clear() {
	if b != nil && b.drawn {
		io.WriteString(b.w, "\r\x1b[K")
		b.drawn = false
	}
}

func (b *bar) draw(ended, failed, total int, known bool) {
	if b == nil {
		return
	}
	io.WriteString(b.w, "\r\x1b[K"+barLine(ended, failed, total, known, time.Since(b.begin)))
	b.drawn = true
}

// barWidth is how many characters the bar itself has.
const barWidth = 30

// barLine is what the bar shows. Where the total is not known, it is at least that.
func barLine(ended, failed, total int, known bool, since time.Duration) string {
	var b strings.Builder
	if known {
		done := barWidth
		if total > 0 {
			done = barWidth * ended / total
		}
		fmt.Fprintf(&b, "[%s%s] %d/%d", strings.Repeat("#", done), strings.Repeat(".", barWidth-done), ended, total)
	} else {
		fmt.Fprintf(&b, "%d/%d+", ended, total)
	}
	if failed > 0 {
		fmt.Fprintf(&b, ", %d failed", failed)
	}
	if ended > 0 && since > 0 {
		rate := float64(ended) / since.Seconds()
		fmt.Fprintf(&b, ", %.4g/s", rate)
		if known && ended < total {
			left := time.Duration(float64(total-ended) / rate * float64(time.Second))
			fmt.Fprintf(&b, ", %s left", shortDuration(left.Round(time.Second)))
		}
	}
	return b.String()
}
