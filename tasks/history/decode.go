package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/scagent/scagent/tasks"
)

// decoder reads lines. It hands out one string for all that are equal, as names of
// nodes and of events are.
type decoder struct {
	seen map[string]string
	b    []byte // what is left of the line
	odd  bool   // the line is not as Append writes them
}

// maxSeen bounds how many strings are kept, for histories that name ever new ones.
const maxSeen = 1 << 14

// event reads a line into e.
func (d *decoder) event(line []byte, e *Event) error {
	*e = Event{}
	d.b, d.odd = line, false
	d.object(e)
	if d.odd { // a line that something else has written
		*e = Event{}
		if err := json.Unmarshal(line, e); err != nil {
			return err
		}
	}
	if !names[e.Name] {
		return fmt.Errorf("the event is %.40q, which is not known", e.Name)
	}
	if e.Node == "" {
		return errors.New("no node says so")
	}
	return nil
}

func (d *decoder) object(e *Event) {
	for sep := byte('{'); !d.odd; sep = ',' {
		if len(d.b) == 1 && d.b[0] == '}' && sep == ',' {
			return
		}
		d.skip(sep)
		name := d.plain()
		d.skip(':')
		d.value(e, name)
	}
}

func (d *decoder) value(e *Event, name []byte) {
	switch string(name) {
	case "mono":
		e.Mono = int64(d.number(63))
	case "wall":
		e.Wall = int64(d.number(63))
	case "node":
		e.Node = d.text()
	case "boot":
		e.Boot = d.text()
	case "ev":
		e.Name = Name(d.text())
	case "task":
		e.Task = d.id()
	case "run":
		e.Run = d.id()
	case "n":
		e.N = uint32(d.number(32))
	case "worker":
		e.Worker = d.text()
	case "state":
		e.State = tasks.State(d.text())
	case "hash":
		e.Hash = string(d.plain())
	case "spec":
		e.Spec = d.text()
	case "key":
		e.Key = string(d.plain())
	case "what":
		e.What = What(d.text())
	case "why":
		e.Why = d.text()
	case "kind":
		e.Kind = tasks.Kind(d.text())
	case "at_most_once":
		e.AtMostOnce = d.yes()
	case "ephemeral":
		e.Ephemeral = d.yes()
	case "slots":
		e.Slots = int(d.number(31))
	case "kinds":
		e.Kinds = list(d, func() tasks.Kind { return tasks.Kind(d.text()) })
	case "tasks":
		e.Tasks = list(d, d.id)
	case "workers":
		e.Workers = list(d, d.text)
	case "peer":
		e.Peer = d.text()
	case "to":
		e.To = d.text()
	case "host":
		e.Host = d.text()
	case "client":
		e.Client = d.text()
	case "seq":
		e.Seq = d.number(64)
	default:
		d.odd = true
	}
}

func (d *decoder) skip(c byte) {
	if len(d.b) == 0 || d.b[0] != c {
		d.odd = true
		return
	}
	d.b = d.b[1:]
}

// plain takes a string in which nothing is escaped; it aliases the line.
func (d *decoder) plain() []byte {
	d.skip('"')
	n := bytes.IndexByte(d.b, '"')
	if n < 0 {
		d.odd = true
		return nil
	}
	s := d.b[:n]
	for _, c := range s {
		if !plain(c) {
			d.odd = true
			return nil
		}
	}
	d.b = d.b[n+1:]
	return s
}

func (d *decoder) text() string {
	b := d.plain()
	if s, ok := d.seen[string(b)]; ok {
		return s
	}
	s := string(b)
	if d.seen == nil || len(d.seen) >= maxSeen {
		d.seen = map[string]string{}
	}
	d.seen[s] = s
	return s
}

func (d *decoder) id() tasks.ID {
	id, err := tasks.ParseID(string(d.plain()))
	if err != nil {
		d.odd = true
	}
	return id
}

func (d *decoder) yes() bool {
	rest, ok := bytes.CutPrefix(d.b, []byte("true"))
	if !ok {
		d.odd = true
	}
	d.b = rest
	return ok
}

func (d *decoder) number(bits int) uint64 {
	n := 0
	for n < len(d.b) && d.b[n] >= '0' && d.b[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(d.b[:n]), 10, bits)
	if err != nil || n > 1 && d.b[0] == '0' {
		d.odd = true
	}
	d.b = d.b[n:]
	return v
}

func list[T any](d *decoder, elem func() T) []T {
	var l []T
	for sep := byte('['); !d.odd; sep = ',' {
		if len(d.b) > 0 && d.b[0] == ']' && sep == ',' {
			d.b = d.b[1:]
			return l
		}
		d.skip(sep)
		l = append(l, elem())
	}
	return nil
}
