package function_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/function"
)

type pair struct{ A, B int }

func mustRegister(t *testing.T, fs ...tasks.Registered) *function.Registry {
	t.Helper()
	r := function.NewRegistry()
	for _, f := range fs {
		if err := r.Register(f); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func fn[In, Out any](name string, f func(context.Context, In) (Out, error)) tasks.Registered {
	return tasks.NewFunc(name, f)
}

func args(list ...string) (out []json.RawMessage) {
	for _, a := range list {
		out = append(out, json.RawMessage(a))
	}
	return out
}

func pack(t *testing.T, v any) []byte {
	t.Helper()
	b, err := tasks.Pack(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	sum = fn("sum", func(_ context.Context, p pair) (int, error) { return p.A + p.B, nil })

	failing   = fn("fail", func(context.Context, any) (any, error) { return nil, errors.New("no\nluck \x1b[2J") })
	panicking = fn("panic", func(_ context.Context, s string) (any, error) { panic("at the\ndisco " + s) })
	outside   = fn("outside", func(_ context.Context, list []int) (int, error) { return list[len(list)], nil })
	large     = fn("large", func(_ context.Context, n int) (string, error) { return strings.Repeat("x", n), nil })
)

func TestOutcomes(t *testing.T) {
	r := mustRegister(t, sum, failing, panicking, outside, large)
	for _, c := range []struct {
		name  string
		task  tasks.Task
		code  tasks.Code
		text  string // begins the text
		value string // as JSON
	}{
		{"JSON", tasks.Task{Name: "sum", Args: args(`{"A":1,"B":2}`)}, tasks.OK, "", "3"},
		{"no arguments", tasks.Task{Name: "sum"}, tasks.OK, "", "0"},
		{"msgpack", tasks.Task{Name: "sum", Packed: pack(t, pair{3, 4})}, tasks.OK, "", "7"},
		{"too many arguments", tasks.Task{Name: "sum", Args: args("1", "2")}, tasks.BadInput, "arguments of sum: 2 were given", "null"},
		{"wrong type", tasks.Task{Name: "sum", Args: args(`"x"`)}, tasks.BadInput, "arguments of sum: json:", "null"},
		{"broken JSON", tasks.Task{Name: "sum", Args: args(`{`)}, tasks.BadInput, "arguments of sum:", "null"},
		{"broken msgpack", tasks.Task{Name: "sum", Packed: []byte{0xc1, 0xff}}, tasks.BadInput, "arguments of sum:", "null"},
		{"unknown", tasks.Task{Name: "nope"}, tasks.NoFunction, `no function "nope" is registered`, "null"},
		{"error", tasks.Task{Name: "fail"}, tasks.Failed, "no luck  [2J", "null"},
		{"panic", tasks.Task{Name: "panic", Args: args(`"!"`)}, tasks.Panic, "panic: at the disco !", "null"},
		{"runtime panic", tasks.Task{Name: "outside"}, tasks.Panic, "panic: runtime error: index out of range", "null"},
		{"largest result", tasks.Task{Name: "large", Args: args("524286")}, tasks.OK, "", `"` + strings.Repeat("x", 524286) + `"`},
		{"larger result", tasks.Task{Name: "large", Args: args("524287")}, tasks.Failed, "the result of large takes 524289 bytes, at most 524288", "null"},
		{"noop", tasks.Task{Name: function.Noop}, tasks.OK, "", "null"},
		{"noop with anything", tasks.Task{Name: function.Noop, Args: args("{", "1")}, tasks.OK, "", "null"},
		{"echo nothing", tasks.Task{Name: function.Echo}, tasks.OK, "", "null"},
		{"echo one", tasks.Task{Name: function.Echo, Args: args(`{"a": [1, 1e400]}`)}, tasks.OK, "", `{"a": [1, 1e400]}`},
		{"echo several", tasks.Task{Name: function.Echo, Args: args(`1`, `"<"`, `null`)}, tasks.OK, "", `[1,"<",null]`},
		{"echo msgpack", tasks.Task{Name: function.Echo, Packed: pack(t, []int{1, 2})}, tasks.OK, "", `[1,2]`},
		{"echo broken", tasks.Task{Name: function.Echo, Args: args(`{`)}, tasks.BadInput, "invalid character", "null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stderr bytes.Buffer
			out := r.Run(t.Context(), &tasks.Attempt{Task: &c.task, Stderr: &stderr})
			if out.Code != c.code || !strings.HasPrefix(out.Text, c.text) || (c.text == "") != (out.Text == "") || strings.ContainsAny(out.Text, "\n\x1b") {
				t.Errorf("Run = %v %q, want %v %q", out.Code, out.Text, c.code, c.text)
			}
			res := tasks.Result{Outcome: out}
			if got, err := res.JSONValue(); err != nil || string(got) != c.value {
				t.Errorf("value %.80s, %v, want %.80s", got, err, c.value)
			}
			if c.task.Packed != nil && len(out.Value) > 0 && out.Encoding != tasks.Msgpack {
				t.Errorf("the value of a call in msgpack is in encoding %d", out.Encoding)
			}
			if panicked := strings.Contains(stderr.String(), "function_test.go"); panicked != (c.code == tasks.Panic) {
				t.Errorf("standard error: %q", stderr.String())
			}
			if out.Started.IsZero() || out.Finished.Before(out.Started) {
				t.Errorf("started %v, finished %v", out.Started, out.Finished)
			}
		})
	}
}

func TestPanicWithoutStandardError(t *testing.T) {
	r := mustRegister(t, panicking)
	if out := r.Run(t.Context(), &tasks.Attempt{Task: &tasks.Task{Name: "panic", Args: args(`""`)}}); out.Code != tasks.Panic {
		t.Errorf("Run = %+v", out)
	}
}

func TestLongErrorIsCut(t *testing.T) {
	r := mustRegister(t, fn("f", func(context.Context, any) (any, error) { return nil, errors.New(strings.Repeat("ü", 1<<20)) }))
	out := r.Run(t.Context(), &tasks.Attempt{Task: &tasks.Task{Name: "f"}})
	if n := len(out.Text); n < function.MaxTextBytes || n > function.MaxTextBytes+8 || !strings.HasSuffix(out.Text, "…") {
		t.Errorf("text of %d bytes", n)
	}
}

func TestStoppedFunctionIsOverWhenItReturns(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause error
		err   error
		code  tasks.Code
		text  string
	}{
		{"cancel", &tasks.StopError{Reason: tasks.StopCancel}, context.Canceled, tasks.Cancelled, "stopped: cancel"},
		{"cancel, own error", &tasks.StopError{Reason: tasks.StopCancel}, errors.New("half done"), tasks.Cancelled, "stopped: cancel: half done"},
		{"cancel, value", &tasks.StopError{Reason: tasks.StopCancel}, nil, tasks.Cancelled, "stopped: cancel"},
		{"timeout", &tasks.StopError{Reason: tasks.StopTimeout, After: time.Second}, context.Canceled, tasks.Timeout, "timed out after 1s"},
		{"plain deadline", context.DeadlineExceeded, nil, tasks.Timeout, "timed out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := mustRegister(t, fn("wait", func(ctx context.Context, _ any) (int, error) {
					<-ctx.Done()
					time.Sleep(time.Minute) // it takes its time
					return 1, c.err
				}))
				ctx, cancel := context.WithCancelCause(t.Context())
				begin := time.Now()
				time.AfterFunc(time.Second, func() { cancel(c.cause) })
				out := r.Run(ctx, &tasks.Attempt{Task: &tasks.Task{Name: "wait"}})
				if took := time.Since(begin); took != time.Minute+time.Second || out.Finished.Sub(out.Started) != took {
					t.Errorf("Run took %v", took)
				}
				if out.Code != c.code || out.Text != c.text || out.Value != nil {
					t.Errorf("Run = %v %q, want %v %q", out.Code, out.Text, c.code, c.text)
				}
			})
		})
	}
}

func TestEndedContextCallsNothing(t *testing.T) {
	r := mustRegister(t, fn("f", func(context.Context, any) (any, error) { t.Error("it was called"); return nil, nil }))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out := r.Run(ctx, &tasks.Attempt{Task: &tasks.Task{Name: "f"}}); out.Code != tasks.Cancelled {
		t.Errorf("Run = %+v", out)
	}
}

func TestRegister(t *testing.T) {
	r := mustRegister(t, sum, fn("a/b-c.D_9", func(context.Context, any) (any, error) { return nil, nil }))
	any := func(context.Context, any) (any, error) { return nil, nil }
	for name, c := range map[string]struct {
		f    tasks.Registered
		text string
	}{
		"nil":       {nil, "nil was given"},
		"empty":     {fn("", any), "the name is empty"},
		"twice":     {sum, `"sum" is registered already`},
		"own":       {fn("scagent.x", any), "the agent's own"},
		"space":     {fn("a b", any), "want at most 128"},
		"newline":   {fn("a\n", any), "want at most 128"},
		"dash":      {fn("-a", any), "want at most 128"},
		"long":      {fn(strings.Repeat("x", 129), any), "want at most 128"},
		"no handle": {tasks.NewFunc[int, int]("f", nil), "no Go function behind"},
	} {
		if err := r.Register(c.f); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: Register = %v, want %q", name, err, c.text)
		}
	}
	if got, want := r.Names(), []string{"a/b-c.D_9", function.Echo, function.Noop, "sum"}; !slices.Equal(got, want) {
		t.Errorf("Names = %q, want %q", got, want)
	}
	if got := function.NewRegistry().Names(); len(got) != 2 {
		t.Errorf("the functions of one registry are in another: %q", got)
	}
}

func TestNoopAllocatesNothing(t *testing.T) {
	r := function.NewRegistry()
	a := &tasks.Attempt{Task: &tasks.Task{Name: function.Noop, Packed: []byte{0xc0}}}
	if n := testing.AllocsPerRun(100, func() { r.Run(t.Context(), a) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNoop(b *testing.B) {
	r := function.NewRegistry()
	a := &tasks.Attempt{Task: &tasks.Task{Name: function.Noop, Packed: []byte{0xc0}}}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		r.Run(ctx, a)
	}
}
