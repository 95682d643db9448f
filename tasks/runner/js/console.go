package js

import (
	"errors"
	"io"
	"strings"

	"github.com/dop251/goja"
)

// defineConsole gives the script its console, made when it is first asked for:
// it costs more than the call of a small function.
func (e *evaluation) defineConsole() {
	global := e.rt.GlobalObject()
	access := e.rt.ToValue(func(call goja.FunctionCall) goja.Value {
		var v goja.Value
		if len(call.Arguments) > 0 { // the script sets one of its own
			v = call.Arguments[0]
		} else {
			v = e.newConsole()
		}
		// Refused when the script has frozen its globals: then each use makes one.
		_ = global.DefineDataProperty("console", v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
		return v
	})
	must(global.DefineAccessorProperty("console", access, access, goja.FLAG_TRUE, goja.FLAG_FALSE))
}

func (e *evaluation) newConsole() *goja.Object {
	c := e.rt.NewObject()
	method := func(f func(args []goja.Value), names ...string) {
		v := e.rt.ToValue(func(call goja.FunctionCall) goja.Value {
			f(call.Arguments)
			return goja.Undefined()
		}).(*goja.Object)
		must(v.DefineDataProperty("name", e.rt.ToValue(names[0]), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE))
		for _, name := range names {
			must(c.Set(name, v))
		}
	}
	method(func(args []goja.Value) { e.print(e.stdout, "", args) }, "log", "info", "debug")
	method(func(args []goja.Value) { e.print(e.stderr, "", args) }, "error", "warn")
	method(e.trace, "trace")
	method(e.assert, "assert")
	return c
}

// must ends the evaluation when the engine refuses what it cannot refuse.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (e *evaluation) trace(args []goja.Value) {
	head := "Trace"
	if len(args) > 0 {
		head += ": " + e.format(args)
	}
	stack := e.rt.CaptureCallStack(0, nil)
	io.WriteString(e.stderr, head+"\n"+e.frames(stack[min(1, len(stack)):])) // without trace itself
}

func (e *evaluation) assert(args []goja.Value) {
	switch {
	case len(args) > 0 && args[0].ToBoolean():
	case len(args) > 1:
		e.print(e.stderr, "Assertion failed: ", args[1:])
	default:
		io.WriteString(e.stderr, "Assertion failed\n")
	}
}

// print writes one line.
func (e *evaluation) print(w io.Writer, before string, args []goja.Value) {
	io.WriteString(w, before+e.format(args)+"\n") // an error: nobody reads it
}

// format returns the arguments as Node's console prints them: the directives of
// a first string filled in, the rest after it, separated by spaces.
func (e *evaluation) format(args []goja.Value) string {
	if len(args) == 0 {
		return ""
	}
	var b strings.Builder
	if len(args) > 1 && goja.IsString(args[0]) {
		args = e.directives(&b, args[0].String(), args[1:])
	} else {
		b.WriteString(e.text(args[0]))
		args = args[1:]
	}
	for _, v := range args {
		b.WriteByte(' ')
		b.WriteString(e.text(v))
	}
	return b.String()
}

// text returns v as it is printed: a string as it is.
func (e *evaluation) text(v goja.Value) string {
	if _, ok := v.(*goja.Object); ok {
		return string(show(e, v))
	}
	return primitive(v)
}

// directives writes the format with its directives filled in, and returns the
// arguments that are left.
func (e *evaluation) directives(b *strings.Builder, format string, args []goja.Value) []goja.Value {
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 || i+1 == len(format) {
			b.WriteString(format)
			return args
		}
		b.WriteString(format[:i])
		directive := format[i+1]
		switch {
		case directive == '%':
			b.WriteByte('%')
		case len(args) == 0 || strings.IndexByte("sdifjoOc", directive) < 0:
			b.WriteByte('%')
			format = format[i+1:]
			continue
		default:
			b.WriteString(e.directive(directive, args[0]))
			args = args[1:]
		}
		format = format[i+2:]
	}
}

func (e *evaluation) directive(d byte, v goja.Value) string {
	switch d {
	case 's':
		if o, ok := v.(*goja.Object); ok && e.hasText(o) {
			return o.String()
		}
		return e.text(v)
	case 'd', 'i', 'f':
		return e.number(d, v)
	case 'j':
		return e.strict(v)
	case 'c': // a style: there is none
		return ""
	}
	return string(show(e, v)) // o, O
}

// hasText reports whether o says itself how it is written: functions do, and
// objects with a toString of their own.
func (e *evaluation) hasText(o *goja.Object) bool {
	if _, ok := goja.AssertFunction(o); ok {
		return true
	}
	own, ok := o.Get("toString").(*goja.Object)
	return ok && o.ClassName() == "Object" && !own.SameAs(e.rt.NewObject().Get("toString"))
}

func (e *evaluation) number(d byte, v goja.Value) string {
	switch {
	case isSymbol(v):
		return "NaN"
	case goja.IsBigInt(v) && d != 'f':
		return primitive(v)
	case d == 'd':
		return primitive(v.ToNumber())
	}
	name := "parseFloat"
	if d == 'i' {
		name = "parseInt"
	}
	parse, ok := goja.AssertFunction(e.rt.Get(name))
	if !ok {
		return "NaN"
	}
	n, err := parse(goja.Undefined(), v)
	if err != nil {
		panic(err)
	}
	return primitive(n)
}

// strict returns v as JSON, for %j.
func (e *evaluation) strict(v goja.Value) string {
	enc := &encoder{rt: e.rt}
	there, err := enc.put("", v)
	switch {
	case errors.Is(err, errCircular):
		return "[Circular]"
	case errors.Is(err, errTooLarge):
		return string(enc.buf) + "…"
	case err != nil:
		panic(e.rt.NewTypeError("the value " + strings.ReplaceAll(err.Error(), "%", "%%")))
	case !there:
		return "undefined"
	}
	return string(enc.buf)
}
