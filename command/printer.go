package command

import (
	"encoding/json"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// printer makes output of what happens to the tasks of a run. It is used by one
// goroutine.
type printer interface {
	// event takes one event of the task with the given label: its worker's name,
	// safe to print.
	event(label string, e *api.StreamEvent)
	// end is called after the last event.
	end()
}

// newPrinter returns the printer that the options ask for. The several of a run
// says whether its target can be several workers.
func newPrinter(o *submitOptions, several, color bool, s *streams) printer {
	lines := func() *linePrinter {
		return &linePrinter{s: s, prefix: !o.noPrefix, color: color, tasks: map[int]*partials{}}
	}
	switch {
	case o.jsonStream:
		return &eventPrinter{json.NewEncoder(s.out)}
	case o.json:
		return &resultPrinter{json.NewEncoder(s.out)}
	case !several:
		return &rawPrinter{s}
	case o.fold:
		return newFoldPrinter(s, !o.noPrefix)
	case o.options.Retry > 0:
		return &heldPrinter{lines: lines(), spools: map[int]*spool{}}
	}
	return lines()
}

// value returns what a function returned as a line, nil for other tasks.
func value(t *api.TaskStatus) []byte {
	if t.State != tasks.StateDone || t.Kind != tasks.JS && t.Kind != tasks.Function {
		return nil
	}
	if len(t.Result) == 0 {
		return []byte("null\n")
	}
	return append(append([]byte(nil), t.Result...), '\n')
}

// rawPrinter passes the output of one task on as it is.
type rawPrinter struct{ s *streams }

func (p *rawPrinter) event(_ string, e *api.StreamEvent) {
	switch e.Type {
	case api.StreamOutput:
		p.s.to(e.Stream).Write(e.DataBase64)
	case api.StreamResult:
		p.s.to(stdout).Write(value(e.Result))
	}
}

func (p *rawPrinter) end() {}

// resultPrinter prints a line of JSON per task.
type resultPrinter struct{ enc *json.Encoder }

func (p *resultPrinter) event(_ string, e *api.StreamEvent) {
	if e.Type == api.StreamResult {
		p.enc.Encode(withoutFiles(e.Result)) // an error of writing shows when the stream is flushed
	}
}

func (p *resultPrinter) end() {}

// eventPrinter prints a line of JSON per event.
type eventPrinter struct{ enc *json.Encoder }

func (p *eventPrinter) event(_ string, e *api.StreamEvent) {
	if e.Type == api.StreamResult {
		c := *e
		c.Result = withoutFiles(e.Result)
		e = &c
	}
	p.enc.Encode(e)
}

func (p *eventPrinter) end() {}

// withoutFiles leaves the contents of files out, which are written to -out-dir.
func withoutFiles(t *api.TaskStatus) *api.TaskStatus {
	if len(t.Outputs) == 0 {
		return t
	}
	c := *t
	c.Outputs = append([]api.OutputStatus(nil), t.Outputs...)
	for i := range c.Outputs {
		c.Outputs[i].ContentBase64 = nil
	}
	return &c
}
