package history

import (
	"encoding/json"
	"strconv"

	"github.com/scagent/scagent/tasks"
)

// beginning is how every line begins.
const beginning = `{"mono":`

// Append appends the line of e, as a Log writes it: what encoding/json makes of it, in
// a tenth of the time, since an agent may write tens of thousands a second.
func Append(b []byte, e *Event) []byte {
	b = strconv.AppendInt(append(b, beginning...), e.Mono, 10)
	b = strconv.AppendInt(append(b, `,"wall":`...), e.Wall, 10)
	b = appendString(append(b, `,"node":`...), e.Node)
	b = appendString(append(b, `,"boot":`...), e.Boot)
	b = appendString(append(b, `,"ev":`...), string(e.Name))
	b = idField(b, "task", e.Task)
	b = idField(b, "run", e.Run)
	b = numberField(b, "n", uint64(e.N))
	b = textField(b, "worker", e.Worker)
	b = textField(b, "state", string(e.State))
	b = textField(b, "hash", e.Hash)
	b = textField(b, "spec", e.Spec)
	b = textField(b, "key", e.Key)
	b = textField(b, "what", string(e.What))
	b = textField(b, "why", e.Why)
	b = textField(b, "kind", string(e.Kind))
	b = trueField(b, "at_most_once", e.AtMostOnce)
	b = trueField(b, "ephemeral", e.Ephemeral)
	b = numberField(b, "slots", uint64(max(e.Slots, 0)))
	b = listField(b, "kinds", e.Kinds, func(b []byte, k tasks.Kind) []byte { return appendString(b, string(k)) })
	b = listField(b, "tasks", e.Tasks, appendID)
	b = listField(b, "workers", e.Workers, appendString)
	b = textField(b, "peer", e.Peer)
	b = textField(b, "to", e.To)
	b = textField(b, "host", e.Host)
	b = textField(b, "client", e.Client)
	b = numberField(b, "seq", e.Seq)
	return append(b, "}\n"...)
}

func field(b []byte, name string) []byte {
	return append(append(append(b, `,"`...), name...), `":`...)
}

func textField(b []byte, name, v string) []byte {
	if v == "" {
		return b
	}
	return appendString(field(b, name), v)
}

func numberField(b []byte, name string, v uint64) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendUint(field(b, name), v, 10)
}

func trueField(b []byte, name string, v bool) []byte {
	if !v {
		return b
	}
	return append(field(b, name), "true"...)
}

func idField(b []byte, name string, id tasks.ID) []byte {
	if id.IsZero() {
		return b
	}
	return appendID(field(b, name), id)
}

func listField[T any](b []byte, name string, l []T, add func([]byte, T) []byte) []byte {
	if len(l) == 0 {
		return b
	}
	b = append(field(b, name), '[')
	for i, v := range l {
		if i > 0 {
			b = append(b, ',')
		}
		b = add(b, v)
	}
	return append(b, ']')
}

func appendID(b []byte, id tasks.ID) []byte {
	return append(append(append(b, '"'), id.String()...), '"')
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain(s[i]) {
			quoted, _ := json.Marshal(s) // there is no string that it refuses
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// plain says that a byte stands for itself in a JSON string.
func plain(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }
