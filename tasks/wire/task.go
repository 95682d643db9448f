package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/scagent/scagent/tasks"
)

// ErrBadSpec is returned for bytes that AppendTask of this or an older version
// cannot have written.
var ErrBadSpec = errors.New("not a task")

// specVersion is the first byte of a spec. The fields follow, those that are
// not empty, in the order of their numbers: number u8, length uvarint, value.
const specVersion = 1

// The fields of a spec: appended, never reused. A worker that does not know a
// field refuses the task, since running it without would be running another.
const (
	fieldKind        = 1
	fieldName        = 2
	fieldPacked      = 3
	fieldArgv        = 4
	fieldShell       = 5
	fieldArgs        = 6
	fieldContent     = 7
	fieldInterpreter = 8
	fieldURL         = 9
	fieldRef         = 10
	fieldPre         = 11
	fieldPost        = 12
	fieldSource      = 13
	fieldEnv         = 14
	fieldDir         = 15
	fieldStdin       = 16
	fieldInputs      = 17
	fieldOutputs     = 18
)

// The least that these take in a body: empty lengths and a zero size or mode.
const (
	minContentBytes = 3
	minFileBytes    = 2 + minContentBytes
	minStepBytes    = 4
)

// AppendTask appends the spec of t to b: the form in which a task travels and
// is kept. Equal tasks give equal bytes. It checks nothing; a spec longer than
// tasks.MaxSpecBytes is refused by DecodeTask.
func AppendTask(b []byte, t *tasks.Task) []byte {
	b = append(b, specVersion)
	b = textField(b, fieldKind, string(t.Kind))
	b = textField(b, fieldName, t.Name)
	if len(t.Packed) > 0 {
		b = appendBytes(append(b, fieldPacked), t.Packed)
	}
	b = listField(b, fieldArgv, t.Argv, appendText)
	b = textField(b, fieldShell, t.Shell)
	b = listField(b, fieldArgs, t.Args, func(b []byte, m json.RawMessage) []byte { return appendBytes(b, m) })
	b = contentField(b, fieldContent, t.Content)
	b = textField(b, fieldInterpreter, t.Interpreter)
	b = textField(b, fieldURL, t.URL)
	b = textField(b, fieldRef, t.Ref)
	b = listField(b, fieldPre, t.Pre, appendTexts)
	b = listField(b, fieldPost, t.Post, appendTexts)
	b = textField(b, fieldSource, t.Source)
	if len(t.Env) > 0 {
		b = listField(b, fieldEnv, slices.Sorted(maps.Keys(t.Env)), func(b []byte, k string) []byte {
			return appendText(appendText(b, k), t.Env[k])
		})
	}
	b = textField(b, fieldDir, t.Dir)
	b = contentField(b, fieldStdin, t.Stdin)
	b = listField(b, fieldInputs, t.Inputs, func(b []byte, in tasks.Input) []byte {
		b = binary.AppendUvarint(appendText(b, in.Name), uint64(in.Mode))
		return appendContent(b, &in.Content)
	})
	return listField(b, fieldOutputs, t.Outputs, appendText)
}

// DecodeTask reads what AppendTask wrote. The task is a copy: it keeps nothing
// of b. Empty lists and byte slices come back as nil. Only the form is checked;
// whether the task can be run is what Task.Validate says. Errors wrap
// ErrBadSpec.
func DecodeTask(b []byte) (tasks.Task, error) {
	if len(b) > tasks.MaxSpecBytes {
		return tasks.Task{}, fmt.Errorf("%w: %d bytes, at most %d; send large contents by hash", ErrBadSpec, len(b), tasks.MaxSpecBytes)
	}
	d := decoder{b: b}
	if v := d.u8(); d.bad || v != specVersion {
		return tasks.Task{}, fmt.Errorf("%w: version %d, want %d; the submitter runs another scagent", ErrBadSpec, v, specVersion)
	}
	var t tasks.Task
	for last := byte(0); len(d.b) > 0; {
		field := d.u8()
		f := decoder{b: d.bytes()}
		switch {
		case d.bad || field <= last:
			return tasks.Task{}, fmt.Errorf("%w: field %d is cut off or out of order", ErrBadSpec, field)
		case !f.taskField(&t, field):
			return tasks.Task{}, fmt.Errorf("%w: field %d is not known; the submitter runs a newer scagent", ErrBadSpec, field)
		case !f.done():
			return tasks.Task{}, fmt.Errorf("%w: field %d is damaged", ErrBadSpec, field)
		}
		last = field
	}
	return t, nil
}

// taskField decodes one field, which is all of d, into t, and reports whether
// it knows the field.
func (d *decoder) taskField(t *tasks.Task, field byte) bool {
	switch field {
	case fieldKind:
		t.Kind = d.kind()
	case fieldName:
		t.Name = d.rest()
	case fieldPacked:
		t.Packed = d.restBytes()
	case fieldArgv:
		t.Argv = d.texts()
	case fieldShell:
		t.Shell = d.rest()
	case fieldArgs:
		t.Args = list(d, 1, func() json.RawMessage { return slices.Clone(d.bytes()) })
	case fieldContent:
		t.Content = d.ownContent()
	case fieldInterpreter:
		t.Interpreter = d.rest()
	case fieldURL:
		t.URL = d.rest()
	case fieldRef:
		t.Ref = d.rest()
	case fieldPre:
		t.Pre = list(d, 1, d.texts)
	case fieldPost:
		t.Post = list(d, 1, d.texts)
	case fieldSource:
		t.Source = d.rest()
	case fieldEnv:
		t.Env = d.env()
	case fieldDir:
		t.Dir = d.rest()
	case fieldStdin:
		t.Stdin = d.ownContent()
	case fieldInputs:
		t.Inputs = list(d, minFileBytes, func() tasks.Input {
			return tasks.Input{Name: d.text(), Mode: d.mode(), Content: *d.ownContent()}
		})
	case fieldOutputs:
		t.Outputs = d.texts()
	default:
		return false
	}
	return true
}

func textField(b []byte, field byte, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(append(b, field), s)
}

// listField appends a field that is a count and the elements, unless there are
// none. The length before it is known only afterwards.
func listField[T any](b []byte, field byte, l []T, add func([]byte, T) []byte) []byte {
	if len(l) == 0 {
		return b
	}
	var v []byte
	v = binary.AppendUvarint(v, uint64(len(l)))
	for _, e := range l {
		v = add(v, e)
	}
	return appendBytes(append(b, field), v)
}

func contentField(b []byte, field byte, c *tasks.Content) []byte {
	if c == nil {
		return b
	}
	return appendBytes(append(b, field), appendContent(nil, c))
}

func appendTexts(b []byte, l []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(l)))
	for _, s := range l {
		b = appendText(b, s)
	}
	return b
}

func appendContent(b []byte, c *tasks.Content) []byte {
	return appendPositive(appendText(appendBytes(b, c.Inline), c.Blob), c.Size)
}

// content takes a content whose bytes alias the body.
func (d *decoder) content() tasks.Content {
	return tasks.Content{Inline: d.bytes(), Blob: d.text(), Size: d.positive()}
}

func (d *decoder) ownContent() *tasks.Content {
	c := d.content()
	c.Inline = slices.Clone(c.Inline)
	return &c
}

func (d *decoder) mode() uint32 { return uint32(d.uvarint(math.MaxUint32)) }

// rest takes all that is left.
func (d *decoder) rest() string { return string(d.take(len(d.b))) }

func (d *decoder) restBytes() []byte { return slices.Clone(d.take(len(d.b))) }

// kind takes all that is left, without allocating for the kinds there are.
func (d *decoder) kind() tasks.Kind {
	b := d.take(len(d.b))
	for _, k := range [...]tasks.Kind{tasks.Function, tasks.Command, tasks.File, tasks.Git, tasks.JS} {
		if string(b) == string(k) {
			return k
		}
	}
	return tasks.Kind(b)
}

func (d *decoder) texts() []string { return list(d, 1, d.text) }

// env takes pairs whose names grow, so that none is there twice.
func (d *decoder) env() map[string]string {
	n := d.count(2)
	env := make(map[string]string, n)
	for last, i := "", 0; i < n; i++ {
		k := d.text()
		if i > 0 && k <= last {
			d.fail()
		}
		env[k], last = d.text(), k
	}
	return env
}

// list takes a count and as many elements, each at least size bytes long.
func list[T any](d *decoder, size int, elem func() T) []T {
	n := d.count(size)
	if n == 0 {
		return nil
	}
	l := make([]T, n)
	for i := range l {
		l[i] = elem()
		if d.bad {
			return nil
		}
	}
	return l
}
