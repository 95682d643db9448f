package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestIDNamesItsOwnerAndSortsByTime(t *testing.T) {
	const node = "abcdefgh234567abcdefgh2345"
	ids, err := NewIDs(node)
	if err != nil {
		t.Fatal(err)
	}
	last := ids.Next()
	for range 10_000 {
		id := ids.Next()
		if string(id[:]) <= string(last[:]) {
			t.Fatalf("%s comes after %s, want it larger", id, last)
		}
		last = id
	}
	if last.Owner() != node[:8] || !strings.HasPrefix(last.String(), node[:8]) {
		t.Errorf("owner of %s = %s, want %s", last, last.Owner(), node[:8])
	}
	back, err := ParseID(strings.ToUpper(last.String()))
	if back != last || err != nil {
		t.Errorf("ParseID(%s) = %s, %v", last, back, err)
	}
	for _, bad := range []string{"", "x", node, strings.Repeat("a", 27), strings.Repeat("1", 26)} {
		if _, err := ParseID(bad); !errors.Is(err, ErrBadID) && bad != node {
			t.Errorf("ParseID(%q) = %v, want ErrBadID", bad, err)
		}
	}
	if _, err := NewIDs("short"); err == nil {
		t.Error("NewIDs of a short id succeeded")
	}
}

func TestTaskThatNobodyCouldRunIsSaidSo(t *testing.T) {
	cmd := func(change func(*Task)) Task {
		task := Task{Kind: Command, Argv: []string{"x"}}
		change(&task)
		return task
	}
	for _, c := range []struct {
		name string
		task Task
		want string
	}{
		{"no kind", Task{}, "kind is missing"},
		{"unknown kind", Task{Kind: "wasm"}, `kind is "wasm"`},
		{"neither argv nor shell", Task{Kind: Command}, "argv or shell"},
		{"both", Task{Kind: Command, Argv: []string{"x"}, Shell: "x"}, "argv or shell"},
		{"empty program", Task{Kind: Command, Argv: []string{""}}, "argv[0] is empty"},
		{"NUL in an argument", Task{Kind: Command, Argv: []string{"x", "a\x00b"}}, "argv[1] has a NUL"},
		{"huge argument", Task{Kind: Command, Argv: []string{strings.Repeat("x", MaxArgvBytes)}}, "is 131072 bytes long"},
		{"no function", Task{Kind: Function}, "function's name"},
		{"bad name in env", cmd(func(t *Task) { t.Env = map[string]string{"A=B": ""} }), `the name "A=B"`},
		{"NUL in env", cmd(func(t *Task) { t.Env = map[string]string{"A": "\x00"} }), "env A has a NUL"},
		{"relative dir", cmd(func(t *Task) { t.Dir = "x" }), "want an absolute path"},
		{"input outside", cmd(func(t *Task) { t.Inputs = []Input{{Name: "../x"}} }), "leaves the work directory"},
		{"absolute input", cmd(func(t *Task) { t.Inputs = []Input{{Name: "/etc/x"}} }), "leaves the work directory"},
		{"input that climbs", cmd(func(t *Task) { t.Inputs = []Input{{Name: "a/../../x"}} }), "leaves the work directory"},
		{"input without name", cmd(func(t *Task) { t.Inputs = []Input{{Name: "."}} }), "file name is empty"},
		{"input with a control character", cmd(func(t *Task) { t.Inputs = []Input{{Name: "a\nb"}} }), "control characters"},
		{"input twice", cmd(func(t *Task) { t.Inputs = []Input{{Name: "a"}, {Name: "./a"}} }), "is there twice"},
		{"setuid input", cmd(func(t *Task) { t.Inputs = []Input{{Name: "a", Mode: 1 << 23}} }), "permission bits"},
		{"long name", cmd(func(t *Task) { t.Inputs = []Input{{Name: strings.Repeat("x", 256)}} }), "more than 255"},
		{"not a blob", cmd(func(t *Task) { t.Stdin = &Content{Blob: "xyz"} }), "64 hexadecimal digits"},
		{"output outside", cmd(func(t *Task) { t.Outputs = []string{"../*"} }), "leaves the work directory"},
		{"not a pattern", cmd(func(t *Task) { t.Outputs = []string{"[a"} }), "not a pattern"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.task.Validate()
			if !errors.Is(err, ErrBadTask) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Validate = %v, want one line with %q", err, c.want)
			}
		})
	}
	good := cmd(func(t *Task) {
		t.Inputs = []Input{{Name: "dir/a.txt", Mode: 0o755}, {Name: "b"}}
		t.Outputs = []string{"*.txt", "dir/**"}
		t.Env = map[string]string{"A": "ü"}
		t.Dir = "/tmp"
	})
	if err := good.Validate(); err != nil {
		t.Errorf("Validate of a good task = %v", err)
	}
}

func TestTargetThatContradictsItselfIsRefused(t *testing.T) {
	for _, bad := range []Target{
		{All: true, On: []string{"a"}}, {All: true, Where: "true"}, {On: []string{"a"}, N: 2}, {N: -1}, {Force: true}, {On: []string{""}},
	} {
		if err := bad.Validate(); !errors.Is(err, ErrBadTarget) {
			t.Errorf("Validate(%+v) = %v, want ErrBadTarget", bad, err)
		}
	}
}

func TestWordsOfTheTargetSayWhetherItIsSeveral(t *testing.T) {
	for _, c := range []struct {
		target Target
		want   bool
	}{
		{Any(), false}, {All(), true}, {On("a"), false}, {On("a", "b"), true}, {Where("true"), true},
		{Target{Where: "true", N: 1}, false}, {Target{Where: "true", N: 2}, true}, {Target{N: 1}, false}, {Target{All: true, N: 1}, false},
	} {
		if got := c.target.Several(); got != c.want {
			t.Errorf("%+v.Several() = %t, want %t", c.target, got, c.want)
		}
	}
}

func TestRunErrorKeepsThreeCasesApart(t *testing.T) {
	for code := OK + 1; code <= Poison; code++ {
		err := error(&RunError{Attempt: 1, Code: code})
		n := 0
		for _, is := range []error{ErrNeverStarted, ErrFailed, ErrOutcomeUnknown} {
			if errors.Is(err, is) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("code %s is %d of the three cases, want one", code, n)
		}
		var back Code
		if b, _ := code.MarshalText(); back.UnmarshalText(b) != nil || back != code {
			t.Errorf("code %s comes back as %s", code, back)
		}
	}
	if s := Code(200).String(); s != "code_200" {
		t.Errorf("an unknown code prints as %q", s)
	}
}

type shape struct {
	Name string
	Tags []string
	Size map[string]int
}

func TestFunctionTakesMsgpackAndJSON(t *testing.T) {
	grow := NewFunc("grow", func(_ context.Context, in shape) (shape, error) {
		in.Name += "!"
		return in, nil
	})
	in := shape{"a", []string{"x"}, map[string]int{"w": 1 << 40}}
	task, err := grow.Task(in)
	if err != nil || task.Kind != Function || task.Name != "grow" {
		t.Fatalf("Task = %+v, %v", task, err)
	}
	b, err := grow.Handler()(t.Context(), nil, task.Packed, Msgpack)
	if err != nil {
		t.Fatal(err)
	}
	out, err := grow.Result(&Result{State: StateDone, Outcome: Outcome{Value: b, Encoding: Msgpack}})
	if err != nil || out.Name != "a!" || out.Size["w"] != 1<<40 {
		t.Errorf("msgpack: %+v, %v", out, err)
	}
	b, err = grow.Handler()(t.Context(), nil, []byte(`[{"Name":"b"}]`), JSON)
	if err != nil || !json.Valid(b) || !strings.Contains(string(b), `"b!"`) {
		t.Errorf("JSON: %s, %v", b, err)
	}
	for _, bad := range []string{`[1]`, `[{},{}]`, `{`, `[{"Name":3}]`} {
		var ba *BadArgsError
		if _, err := grow.Handler()(t.Context(), nil, []byte(bad), JSON); !errors.As(err, &ba) {
			t.Errorf("arguments %s: %v, want BadArgsError", bad, err)
		}
	}
	if _, err := NewFunc[string, int]("s", nil).Task(strings.Repeat("x", MaxValueBytes+1)); !errors.Is(err, ErrBadTask) {
		t.Errorf("Task of too much = %v, want ErrBadTask", err)
	}
}

func TestMsgpackValueIsShownAsJSON(t *testing.T) {
	b, err := Pack(map[string]any{"a": []int{1, 2}, "b": "<x>", "c": nil})
	if err != nil {
		t.Fatal(err)
	}
	r := Result{Outcome: Outcome{Value: b, Encoding: Msgpack}}
	v, err := r.JSONValue()
	if want := `{"a":[1,2],"b":"<x>","c":null}`; err != nil || string(v) != want {
		t.Errorf("JSONValue = %s, %v, want %s", v, err, want)
	}
	none := Result{}
	if v, err := none.JSONValue(); err != nil || string(v) != "null" {
		t.Errorf("JSONValue of nothing = %s, %v, want null", v, err)
	}
}

func ExampleNewFunc() {
	double := NewFunc("double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	task, _ := double.Task(21)
	fmt.Println(task.Kind, task.Name)
	// Output: function double
}

func TestFollowIsTheNextID(t *testing.T) {
	ids, err := NewIDs("aaaaaaaa")
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for range 1000 {
		if a, b := ids.Next(), ids.Next(); a.Follow() == b {
			next++
		}
	}
	if next < 900 { // not when a millisecond has begun in between
		t.Errorf("Follow gave the next ID %d times of 1000", next)
	}
	for _, c := range []struct{ of, want ID }{
		{ID{10: 7, 15: 0xff}, ID{10: 7, 14: 1}},
		{ID{10: 7, 11: 0xff, 12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff}, ID{10: 7}}, // the milliseconds stay
	} {
		if got := c.of.Follow(); got != c.want {
			t.Errorf("Follow of %x = %x, want %x", c.of, got, c.want)
		}
	}
}
