package js

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// MaxCalls is how deep a script's calls may nest. To end calls that pass through
// the engine (map, replace, getters) takes time with the square of their depth:
// some tenths of a second for this many.
const MaxCalls = 2048

// Call is one evaluation of a program: everything that goes into it.
type Call struct {
	Program *Program
	Args    []json.RawMessage // any JSON
	Seed    [2]uint64         // of Math.random

	Stdout, Stderr io.Writer // nil: nobody reads it; errors of a Write are not noticed
}

// Eval evaluates c until it is done or ctx has ended. Of the Outcome it fills
// in Code, Text, Value and Encoding: OK with the result, Failed, BadInput, Panic
// for a defect of the engine, and for a context that has ended Timeout or
// Cancelled, whatever the script has come to.
func Eval(ctx context.Context, c *Call) (out tasks.Outcome) {
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	e := newEvaluation(c)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		e.rt.Interrupt(context.Cause(ctx))
	})
	defer func() {
		if p := recover(); p != nil { // a defect of the engine, or of a writer
			out = panicked(p, e.stderr)
		}
		if !stop() {
			<-interrupted
		}
	}()
	value, err := e.run(c)
	switch {
	case ctx.Err() != nil:
		return stopped(ctx)
	case err != nil:
		return e.failure(err)
	}
	return tasks.Outcome{Value: value, Encoding: tasks.JSON}
}

// tooLong are the panics of Go for lengths that no address space has, which the
// engine does not check.
var tooLong = []string{"strings.Builder.Grow: negative count", "runtime error: makeslice: len out of range"}

// panicked is the outcome of an evaluation that ended with the panic p. The stack
// goes to standard error, unless it is the script's doing.
func panicked(p any, stderr io.Writer) tasks.Outcome {
	text := fmt.Sprint(p)
	if slices.Contains(tooLong, text) {
		return tasks.Outcome{Code: tasks.Failed, Text: "RangeError: a string or a list is too long"}
	}
	out := tasks.Outcome{Code: tasks.Panic, Text: oneLine("panic: " + text)}
	if stderr != nil {
		fmt.Fprintf(stderr, "%s\n\n%s", out.Text, debug.Stack())
	}
	return out
}

// stopped is the outcome of an evaluation whose context has ended.
func stopped(ctx context.Context) (out tasks.Outcome) {
	out.Code, out.Text = process.Stopped(ctx)
	return out
}

// evaluation is a runtime and what belongs to it, all of the goroutine that
// called Eval.
type evaluation struct {
	rt             *goja.Runtime
	shift          int // see Program
	stdout, stderr io.Writer

	rejected   map[*goja.Promise]int // and not handled, each with its number
	rejections int                   // so far: the last number
}

func newEvaluation(c *Call) *evaluation {
	e := &evaluation{rt: goja.New(), shift: c.Program.shift, stdout: c.Stdout, stderr: c.Stderr}
	if e.stdout == nil {
		e.stdout = io.Discard
	}
	if e.stderr == nil {
		e.stderr = io.Discard
	}
	e.rt.SetMaxCallStackSize(MaxCalls)
	e.rt.SetParserOptions(parser.WithDisableSourceMaps)
	e.rt.SetRandSource(rand.New(rand.NewPCG(c.Seed[0], c.Seed[1])).Float64)
	e.rt.SetPromiseRejectionTracker(e.track)
	e.defineConsole()
	return e
}

// run returns the result as JSON.
func (e *evaluation) run(c *Call) ([]byte, error) {
	args, err := e.arguments(c.Args)
	if err != nil {
		return nil, err
	}
	v, err := e.rt.RunProgram(c.Program.code)
	if err != nil {
		return nil, err
	}
	if f, ok := goja.AssertFunction(v); ok {
		if v, err = f(goja.Undefined(), args...); err != nil {
			return nil, err
		}
	} else if len(args) > 0 {
		return nil, badInput(fmt.Sprintf("the source is %s and not a function: it takes no arguments", kindOf(v)))
	}
	if v, err = e.await(v); err != nil {
		return nil, err
	}
	if err := e.unhandled(); err != nil {
		return nil, err
	}
	var value []byte
	err = e.try(func() (err error) {
		value, err = encodeResult(e.rt, v)
		return err
	})
	return value, err
}

// arguments makes values of JSON. That is done before the script can change
// JSON.parse.
func (e *evaluation) arguments(list []json.RawMessage) ([]goja.Value, error) {
	var parse goja.Callable // JSON.parse, once it is needed
	args := make([]goja.Value, len(list))
	for i, text := range list {
		if !json.Valid(text) {
			return nil, badInput(fmt.Sprintf("argument %d of %d is not JSON", i+1, len(list)))
		}
		if v, ok := e.simple(text); ok {
			args[i] = v
			continue
		}
		if parse == nil {
			parse, _ = goja.AssertFunction(e.rt.Get("JSON").ToObject(e.rt).Get("parse"))
		}
		v, err := parse(goja.Undefined(), e.rt.ToValue(string(text)))
		if err != nil {
			return nil, badInput(fmt.Sprintf("argument %d of %d: %v", i+1, len(list), err))
		}
		args[i] = v
	}
	return args, nil
}

// simple decodes what is no list and no object, which is most arguments, at less cost.
func (e *evaluation) simple(text json.RawMessage) (goja.Value, bool) {
	var v any
	switch text[0] {
	case '[', '{', ' ', '\t', '\r', '\n':
		return nil, false
	}
	if json.Unmarshal(text, &v) != nil { // a number out of range
		return nil, false
	}
	return e.rt.ToValue(v), true
}

var promiseType = reflect.TypeFor[*goja.Promise]()

// await returns what a promise has come to, and anything else as it is. All
// jobs have run by now.
func (e *evaluation) await(v goja.Value) (goja.Value, error) {
	o, ok := v.(*goja.Object)
	if !ok || o.ExportType() != promiseType {
		return v, nil
	}
	p := o.Export().(*goja.Promise)
	switch p.State() {
	case goja.PromiseStateFulfilled:
		return p.Result(), nil
	case goja.PromiseStateRejected:
		return nil, &rejection{reason: p.Result()}
	}
	return nil, errors.New("the Promise that was returned never settles: nothing is left to run")
}

// track keeps rejected promises that nobody handles.
func (e *evaluation) track(p *goja.Promise, op goja.PromiseRejectionOperation) {
	if op == goja.PromiseRejectionHandle {
		delete(e.rejected, p)
		return
	}
	if e.rejected == nil {
		e.rejected = make(map[*goja.Promise]int)
	}
	e.rejections++
	e.rejected[p] = e.rejections
}

// unhandled returns the first rejection that nobody handles, if there is one.
func (e *evaluation) unhandled() error {
	var first *goja.Promise
	for p, n := range e.rejected {
		if first == nil || n < e.rejected[first] {
			first = p
		}
	}
	if first == nil {
		return nil
	}
	return &rejection{reason: first.Result(), unhandled: true}
}

// try runs f, which may run script outside of any other script.
func (e *evaluation) try(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *goja.InterruptedError:
			err = p
		case *goja.StackOverflowError:
			err = p
		default:
			panic(p)
		}
	}()
	if ex := e.rt.Try(func() { err = f() }); ex != nil {
		return ex
	}
	return err
}

// badInput is an error of code BadInput.
type badInput string

func (e badInput) Error() string { return string(e) }

// failure is the outcome of an evaluation that ended with err.
func (e *evaluation) failure(err error) tasks.Outcome {
	if bad, ok := err.(badInput); ok {
		return tasks.Outcome{Code: tasks.BadInput, Text: oneLine(string(bad))}
	}
	line, stack := e.describe(err)
	if stack != "" {
		io.WriteString(e.stderr, stack)
	}
	return tasks.Outcome{Code: tasks.Failed, Text: line}
}
