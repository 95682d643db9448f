package js

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/dop251/goja"

	"github.com/scagent/scagent/tasks"
)

// MaxDepth is how deep lists and objects may nest in a result.
const MaxDepth = 1000

// maxShownDepth is how deep console shows them.
const maxShownDepth = 100

var proxyType = reflect.TypeFor[goja.Proxy]()

// encoder writes values as JSON.stringify does, whatever the script has made of
// that, within bounds. It runs script (getters, toJSON, proxies), which may
// throw: it panics with the exception then, as the engine wants it inside of a
// function that a script calls.
type encoder struct {
	rt   *goja.Runtime
	show *evaluation // not nil: for people to read, with what JSON does not have
	buf  []byte
	path []level // what is being written, the outermost first
	at   string  // after an error: which value of path it is about
}

type level struct {
	key string
	of  *goja.Object
}

// What a value cannot be.
var (
	errTooLarge = fmt.Errorf("takes more than %d bytes as JSON; return less", tasks.MaxValueBytes)
	errTooDeep  = fmt.Errorf("nests more than %d deep", MaxDepth)
	errCircular = errors.New("contains itself, which JSON cannot say")
	errBigInt   = errors.New("is a BigInt, which JSON does not have; make it a string or a number")
)

// encodeResult returns v as JSON.
func encodeResult(rt *goja.Runtime, v goja.Value) ([]byte, error) {
	e := &encoder{rt: rt}
	there, err := e.put("", v)
	switch {
	case err != nil && e.at != "":
		return nil, fmt.Errorf("%.200s in the result %w", e.at, err)
	case err != nil:
		return nil, fmt.Errorf("the result %w", err)
	case there:
		return e.buf, nil
	case v == nil || goja.IsUndefined(v):
		return []byte("null"), nil
	}
	return nil, fmt.Errorf("the result is %s, which JSON does not have", kindOf(v))
}

// show returns v as people read it, cut when it is too long. It panics with
// what a getter throws.
func show(e *evaluation, v goja.Value) []byte {
	enc := &encoder{rt: e.rt, show: e}
	if _, err := enc.put("", v); err != nil {
		enc.buf = append(enc.buf, "…"...)
	}
	return enc.buf
}

// put appends v. What JSON does not have is not there, unless it is shown.
func (e *encoder) put(key string, v goja.Value) (there bool, err error) {
	if len(e.buf) > tasks.MaxValueBytes {
		return false, errTooLarge
	}
	o, isObject := v.(*goja.Object)
	if isObject && e.show != nil && e.special(o) {
		return true, nil
	}
	if isObject || v != nil && goja.IsBigInt(v) {
		if f, ok := goja.AssertFunction(v.ToObject(e.rt).Get("toJSON")); ok {
			if v, err = f(v, e.rt.ToValue(key)); err != nil {
				panic(err)
			}
			o, isObject = v.(*goja.Object)
		}
	}
	if isObject {
		switch o.ClassName() {
		case "Number":
			v = o.ToNumber()
		case "String":
			v = o.ToString()
		case "Boolean", "BigInt":
			v = e.rt.ToValue(o.Export())
		case "RawJSON":
			e.buf = append(e.buf, o.Get("rawJSON").String()...)
			return true, e.bounded()
		default:
			return e.object(key, o)
		}
	}
	return e.primitive(key, v)
}

func (e *encoder) bounded() error {
	if len(e.buf) > tasks.MaxValueBytes {
		return errTooLarge
	}
	return nil
}

func (e *encoder) primitive(key string, v goja.Value) (there bool, err error) {
	switch {
	case goja.IsString(v):
		e.buf = appendQuoted(e.buf, v.String())
	case v == nil || goja.IsUndefined(v), isSymbol(v):
		if e.show == nil {
			return false, nil
		}
		e.buf = append(e.buf, primitive(v)...)
	case goja.IsBigInt(v) && e.show == nil:
		return false, e.unfit(key, errBigInt)
	case goja.IsNumber(v) && e.show == nil:
		if f := v.ToFloat(); math.IsNaN(f) || math.IsInf(f, 0) {
			e.buf = append(e.buf, "null"...)
			break
		}
		e.buf = append(e.buf, v.String()...)
	default:
		e.buf = append(e.buf, primitive(v)...)
	}
	return true, e.bounded()
}

// object appends what has members.
func (e *encoder) object(key string, o *goja.Object) (there bool, err error) {
	if _, ok := goja.AssertFunction(o); ok {
		return false, nil // what is shown does not come here
	}
	for i := range e.path {
		if e.path[i].of == o {
			if e.show == nil {
				return false, e.unfit(key, errCircular)
			}
			e.buf = append(e.buf, "[Circular]"...)
			return true, nil
		}
	}
	switch {
	case e.show == nil && len(e.path) == MaxDepth:
		return false, errTooDeep
	case e.show != nil && len(e.path) == maxShownDepth:
		e.buf = append(e.buf, "[...]"...)
		return true, nil
	}
	e.path = append(e.path, level{key, o})
	if isArray(o) {
		err = e.list(o)
	} else {
		err = e.members(o)
	}
	e.path = e.path[:len(e.path)-1]
	return true, err
}

func (e *encoder) list(o *goja.Object) error {
	e.buf = append(e.buf, '[')
	length := o.Get("length").ToInteger()
	for i := range length {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		key := strconv.FormatInt(i, 10)
		there, err := e.put(key, o.Get(key))
		if err != nil {
			return err
		}
		if !there {
			e.buf = append(e.buf, "null"...)
		}
	}
	e.buf = append(e.buf, ']')
	return e.bounded()
}

func (e *encoder) members(o *goja.Object) error {
	e.buf = append(e.buf, '{')
	first := true
	for _, key := range o.Keys() {
		before := len(e.buf)
		if !first {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(appendQuoted(e.buf, key), ':')
		there, err := e.put(key, o.Get(key))
		if err != nil {
			return err
		}
		if !there {
			e.buf = e.buf[:before]
			continue
		}
		first = false
	}
	e.buf = append(e.buf, '}')
	return e.bounded()
}

// special shows what is no plain object.
func (e *encoder) special(o *goja.Object) bool {
	if _, ok := goja.AssertFunction(o); ok {
		e.buf = append(e.buf, "[Function"...)
		if name, ok := o.Get("name").(goja.String); ok && name.Length() > 0 {
			e.buf = append(append(e.buf, ": "...), name.String()...)
		}
		e.buf = append(e.buf, ']')
		return true
	}
	switch {
	case isError(o):
		e.buf = append(e.buf, e.show.errorText(o)...)
		return true
	case o.ClassName() == "RegExp":
		e.buf = append(e.buf, o.String()...)
		return true
	}
	if tag, ok := o.GetSymbol(goja.SymToStringTag).(goja.String); ok {
		switch name := tag.String(); name {
		case "Map", "Set", "WeakMap", "WeakSet", "Promise": // JSON would say {}
			e.buf = append(append(append(e.buf, '['), name...), ']')
			return true
		}
	}
	return false
}

// unfit returns err, and keeps where the value is that it is about: its keys.
func (e *encoder) unfit(key string, err error) error {
	if len(e.path) == 0 {
		return err
	}
	keys := make([]string, 0, len(e.path))
	for _, l := range e.path[1:] {
		keys = append(keys, l.key)
	}
	e.at = strings.Join(append(keys, key), ".")
	return err
}

func isSymbol(v goja.Value) bool {
	_, ok := v.(*goja.Symbol)
	return ok
}

func isArray(o *goja.Object) bool {
	for o.ExportType() == proxyType {
		p := o.Export().(goja.Proxy)
		if o = p.Target(); o == nil {
			return false // revoked: reading it throws
		}
	}
	return o.ClassName() == "Array"
}

// kindOf names what v is, with an article.
func kindOf(v goja.Value) string {
	switch o, isObject := v.(*goja.Object); {
	case v == nil || goja.IsUndefined(v):
		return "undefined"
	case goja.IsNull(v):
		return "null"
	case goja.IsString(v):
		return "a string"
	case goja.IsNumber(v):
		return "a number"
	case goja.IsBigInt(v):
		return "a BigInt"
	case isSymbol(v):
		return "a symbol"
	case !isObject:
		return "a boolean"
	default:
		if _, ok := goja.AssertFunction(o); ok {
			return "a function"
		}
		return "an object"
	}
}

// primitive returns what is no object as Node shows it; strings as they are.
func primitive(v goja.Value) string {
	switch {
	case v == nil:
		return "undefined"
	case isSymbol(v):
		return "Symbol(" + v.String() + ")"
	case goja.IsBigInt(v):
		return v.String() + "n"
	case goja.IsNumber(v):
		if f := v.ToFloat(); f == 0 && math.Signbit(f) {
			return "-0"
		}
	}
	return v.String()
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends s as a JSON string. HTML characters stay as they are.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
