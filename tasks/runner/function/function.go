package function

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// MaxTextBytes is the most of an error's text that goes into an Outcome.
const MaxTextBytes = 4 << 10

var goodName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}$`)

// Registry holds functions by name and runs them. It may be used by any number
// of goroutines; functions can be added at any time.
type Registry struct {
	mu    sync.Mutex                               // held to replace funcs
	funcs atomic.Pointer[map[string]tasks.Handler] // never changed, only replaced
}

// NewRegistry returns a Registry with the functions that every agent has.
func NewRegistry() *Registry {
	r := &Registry{}
	r.funcs.Store(&builtins)
	return r
}

// Register adds a function. Its name is 1 to 128 letters, digits and _ . / -,
// is not taken yet, and does not begin with "scagent.".
func (r *Registry) Register(f tasks.Registered) error {
	if f == nil {
		return errors.New("function: nil was given; make one with tasks.NewFunc")
	}
	name, h := f.FuncName(), f.Handler()
	switch {
	case name == "":
		return errors.New("function: the name is empty")
	case strings.HasPrefix(name, ownPrefix):
		return fmt.Errorf("function %.80q: names that begin with %q are the agent's own; choose another", name, ownPrefix)
	case !goodName.MatchString(name):
		return fmt.Errorf("function %.80q: want at most 128 letters, digits and _ . / -, the first a letter, a digit or _", name)
	case h == nil:
		return fmt.Errorf("function %q: there is no Go function behind the name; only nodes that call it may leave it out", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.funcs.Load()
	if old[name] != nil {
		return fmt.Errorf("function %q is registered already", name)
	}
	funcs := maps.Clone(old)
	funcs[name] = h
	r.funcs.Store(&funcs)
	return nil
}

// Names returns the names of all functions, sorted.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(*r.funcs.Load())) }

// Run calls the function that the task names and returns when it has returned.
func (r *Registry) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	out := tasks.Outcome{Started: time.Now()}
	r.run(ctx, a, &out)
	out.Finished = time.Now()
	return out
}

func (r *Registry) run(ctx context.Context, a *tasks.Attempt, out *tasks.Outcome) {
	t := a.Task
	h := (*r.funcs.Load())[t.Name]
	if h == nil {
		out.Code, out.Text = tasks.NoFunction, fmt.Sprintf("no function %.80q is registered on this worker", t.Name)
		return
	}
	if ctx.Err() != nil {
		out.Code, out.Text = stopped(ctx, nil)
		return
	}
	args, enc := t.Packed, tasks.Msgpack
	if args == nil {
		args, enc = list(t), tasks.JSON
	}
	value, err, panicked := call(ctx, a, h, args, enc)
	switch {
	case panicked:
		out.Code, out.Text = tasks.Panic, oneLine(err.Error())
	case ctx.Err() != nil:
		out.Code, out.Text = stopped(ctx, err)
	case err == nil && len(value) > tasks.MaxValueBytes:
		out.Code, out.Text = tasks.Failed, fmt.Sprintf("the result of %s takes %d bytes, at most %d; return less, or write a file",
			t.Name, len(value), tasks.MaxValueBytes)
	case err == nil:
		if len(value) > 0 {
			out.Value, out.Encoding = value, enc
		}
	default:
		out.Code, out.Text = failed(err)
	}
}

func failed(err error) (tasks.Code, string) {
	var bad *tasks.BadArgsError
	if errors.As(err, &bad) {
		return tasks.BadInput, oneLine(bad.Error())
	}
	return tasks.Failed, oneLine(err.Error())
}

// call calls h. A panic is an error; its stack goes to the attempt's standard
// error.
func call(ctx context.Context, a *tasks.Attempt, h tasks.Handler, args []byte, enc tasks.Encoding) (value []byte, err error, panicked bool) {
	defer func() {
		if p := recover(); p != nil {
			err, panicked = fmt.Errorf("panic: %v", p), true
			if a.Stderr != nil {
				fmt.Fprintf(a.Stderr, "%v\n\n%s", err, debug.Stack()) // an error: nobody reads it
			}
		}
	}()
	value, err = h(ctx, a, args, enc)
	return value, err, false
}

// list returns the arguments as one JSON list, nothing when there are none.
func list(t *tasks.Task) []byte {
	if len(t.Args) == 0 {
		return nil
	}
	n := 1 + len(t.Args)
	for _, arg := range t.Args {
		n += len(arg)
	}
	b := append(make([]byte, 0, n), '[')
	for i, arg := range t.Args {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, arg...)
	}
	return append(b, ']')
}

// stopped says why ctx ended, and what the function made of it.
func stopped(ctx context.Context, err error) (tasks.Code, string) {
	code, text := process.Stopped(ctx)
	if err != nil && !errors.Is(err, ctx.Err()) && !errors.Is(err, context.Cause(ctx)) {
		text += ": " + err.Error()
	}
	return code, oneLine(text)
}

// oneLine makes s a line of bounded length without control characters.
func oneLine(s string) string {
	if len(s) > MaxTextBytes {
		s = s[:MaxTextBytes] + "…"
	}
	s = strings.ToValidUTF8(strings.TrimSpace(s), "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
