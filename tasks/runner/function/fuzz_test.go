package function_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/function"
	"github.com/scagent/scagent/test/bounds"
)

type arguments struct {
	W, H int
	Tags []string
	More map[string]any
}

// FuzzRun calls functions by any name with any arguments, in msgpack and as a
// list of JSON (parted by line ends). A function that cannot fail gives a value
// in the encoding of its arguments, or the arguments are the task's fault.
func FuzzRun(f *testing.F) {
	r := function.NewRegistry()
	for _, fn := range []tasks.Registered{
		tasks.NewFunc("resize", func(_ context.Context, in arguments) (arguments, error) { return in, nil }),
		tasks.NewFunc("any", func(_ context.Context, in any) (any, error) { return in, nil }),
	} {
		if err := r.Register(fn); err != nil {
			f.Fatal(err)
		}
	}
	packed, err := tasks.Pack(arguments{W: 1, Tags: []string{"x"}, More: map[string]any{"a": 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("resize", packed, true)
	f.Add("any", bytes.Repeat([]byte{0x91}, 20_000), true)
	f.Add("any", []byte{0x81, 0x91, 1, 2}, true)
	f.Add("any", []byte{0xd6, 0xff, 0xff, 0xff, 0xff, 0xff}, true)
	f.Add("any", []byte("\xca\xff\xff00"), true) // not a number
	f.Add("any", []byte("\xc7\x0000"), true)     // an empty extension
	f.Add("any", []byte{0xdd, 0xff, 0xff, 0xff, 0xff}, true)
	for _, s := range []string{`{"W":1,"H":2,"Tags":["a"]}`, "1\n2", "", "null", `{"W":1e99}`, `{"w":1,"W":2}`, "1,2", "]", `"\ud800"`, strings.Repeat("[", 20_000)} {
		f.Add("resize", []byte(s), false)
		f.Add("any", []byte(s), false)
		f.Add("scagent.echo", []byte(s), false)
	}
	f.Add("scagent.noop", []byte{0xc1}, true)
	f.Add("no\x1bsuch", []byte{}, true)
	f.Fuzz(func(t *testing.T, name string, b []byte, isPacked bool) {
		bounds.Input(t, b)
		task := tasks.Task{Kind: tasks.Function, Name: name, Packed: b}
		if !isPacked {
			task.Packed = nil
			for a := range bytes.SplitSeq(b, []byte("\n")) {
				task.Args = append(task.Args, json.RawMessage(a))
			}
		}
		defer bounds.Check(t)()
		o := r.Run(t.Context(), &tasks.Attempt{Task: &task})
		if strings.ContainsAny(o.Text, "\n\x00\x1b") || len(o.Text) > function.MaxTextBytes+10 {
			t.Errorf("the text is no line: %q", o.Text)
		}
		switch o.Code {
		case tasks.OK:
			own := strings.HasPrefix(name, "scagent.") // these hand on what they are given
			// An error is right for NaN and for extensions of msgpack, which Go callers can return.
			if v, err := (&tasks.Result{Outcome: o}).JSONValue(); !own && err == nil && !json.Valid(v) {
				t.Errorf("%s(%q) = %q, as JSON %s, %v", name, b, o.Value, v, err)
			}
		case tasks.BadInput, tasks.NoFunction, tasks.Failed:
		default:
			t.Errorf("%s(%q) ended as %v %q", name, b, o.Code, o.Text)
		}
	})
}
