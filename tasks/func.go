package tasks

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// MaxValueBytes is the most that a function's arguments or its result may
// encode to. Larger values go as files.
const MaxValueBytes = 512 << 10

// Handler runs a function for packed arguments: what a worker calls. Arguments
// are in enc; the value goes back in the same encoding.
type Handler func(ctx context.Context, a *Attempt, args []byte, enc Encoding) (value []byte, err error)

// Registered is a function under its name, for Agent.Handle. It is made by
// NewFunc.
type Registered interface {
	FuncName() string
	Handler() Handler
}

// Func is a Go function that can be called on other nodes. In and Out are
// anything that go-msgpack (calls from Go) and encoding/json (calls from the
// command line and the API) can carry.
type Func[In, Out any] struct {
	name string
	fn   func(context.Context, In) (Out, error)
}

// NewFunc names a function. Nodes that are to run it pass it to Agent.Handle
// before they start; nodes that only call it need not, and may pass a nil fn.
// Names with the prefix "scagent." are the agent's own.
func NewFunc[In, Out any](name string, fn func(context.Context, In) (Out, error)) Func[In, Out] {
	return Func[In, Out]{name: name, fn: fn}
}

// FuncName returns the name.
func (f Func[In, Out]) FuncName() string { return f.name }

// Caller submits a task to one worker and waits for its result; *agent.Agent is
// one.
type Caller interface {
	Call(ctx context.Context, t Task, target Target) (Result, error)
}

// Call runs the function on one worker that the target allows, and returns what
// it returned. The error of a call that failed is a *RunError, which tells
// whether the function can have run. Cancelling ctx stops the function.
func (f Func[In, Out]) Call(ctx context.Context, c Caller, target Target, in In) (Out, error) {
	var zero Out
	t, err := f.Task(in)
	if err != nil {
		return zero, err
	}
	if target.Several() {
		return zero, fmt.Errorf("%w: Call is for one worker; submit f.Task(in) to reach several", ErrBadTarget)
	}
	res, err := c.Call(ctx, t, target)
	if err != nil {
		return zero, err
	}
	return f.Result(&res)
}

// Task returns the task that calls the function with in, to be submitted to
// any target.
func (f Func[In, Out]) Task(in In) (Task, error) {
	b, err := Pack(in)
	if err != nil {
		return Task{}, fmt.Errorf("%w: arguments of %s: %w", ErrBadTask, f.name, err)
	}
	if len(b) > MaxValueBytes {
		return Task{}, fmt.Errorf("%w: arguments of %s take %d bytes, at most %d; send them as an input file",
			ErrBadTask, f.name, len(b), MaxValueBytes)
	}
	return Task{Kind: Function, Name: f.name, Packed: b}, nil
}

// Result returns what the function returned in the task that ended with r.
func (f Func[In, Out]) Result(r *Result) (Out, error) {
	var out Out
	if err := r.Err(); err != nil {
		return out, err
	}
	if err := decodeValue(r.Value, r.Encoding, &out); err != nil {
		return out, fmt.Errorf("result of %s: %w", f.name, err)
	}
	return out, nil
}

// Handler returns what runs the function on a worker.
func (f Func[In, Out]) Handler() Handler {
	if f.fn == nil {
		return nil
	}
	return func(ctx context.Context, _ *Attempt, args []byte, enc Encoding) ([]byte, error) {
		var in In
		if err := decodeArgs(args, enc, &in); err != nil {
			return nil, &BadArgsError{Err: fmt.Errorf("arguments of %s: %w", f.name, err)}
		}
		out, err := f.fn(ctx, in)
		if err != nil {
			return nil, err
		}
		if enc == JSON {
			return json.Marshal(out)
		}
		return Pack(out)
	}
}

// BadArgsError says that a function was called with arguments that it cannot
// take; it did not run.
type BadArgsError struct{ Err error }

func (e *BadArgsError) Error() string { return e.Err.Error() }
func (e *BadArgsError) Unwrap() error { return e.Err }

// msgpackHandle is constant; codec handles may be shared.
var msgpackHandle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.RawToString = true
	h.MapType = reflect.TypeFor[map[string]any]()
	return h
}()

// packer is an encoder with a buffer to encode into. Making either costs more
// than encoding a small value.
type packer struct {
	e   *codec.Encoder
	buf []byte
}

// maxPackerBytes is the largest buffer that is kept.
const maxPackerBytes = 64 << 10

var (
	packers = sync.Pool{New: func() any {
		return &packer{e: codec.NewEncoderBytes(new([]byte), msgpackHandle), buf: make([]byte, 0, 256)}
	}}
	unpackers = sync.Pool{New: func() any { return codec.NewDecoderBytes([]byte{}, msgpackHandle) }}
)

// Pack encodes v as msgpack. A panic of the encoder (a channel, a cycle) is an error.
func Pack(v any) (b []byte, err error) {
	p := packers.Get().(*packer)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("encode %T: %v", v, r)
			return // with p, which nobody knows the state of
		}
		if cap(p.buf) <= maxPackerBytes {
			packers.Put(p)
		}
	}()
	p.buf = p.buf[:0]
	p.e.ResetBytes(&p.buf)
	if err := p.e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.Clone(p.buf), nil
}

// Unpack decodes msgpack into v.
func Unpack(b []byte, v any) (err error) {
	d := unpackers.Get().(*codec.Decoder)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode into %T: %v", v, r)
			return
		}
		d.ResetBytes([]byte{}) // it holds on to nothing of b
		unpackers.Put(d)
	}()
	if b == nil {
		b = []byte{} // nil would leave what it had last
	}
	d.ResetBytes(b)
	return d.Decode(v)
}

// decodeArgs fills in from msgpack, or from a JSON list of arguments: one
// argument fills in, none leaves it zero.
func decodeArgs(b []byte, enc Encoding, in any) error {
	if enc != JSON {
		return Unpack(b, in)
	}
	var args []json.RawMessage
	if len(b) > 0 {
		if err := json.Unmarshal(b, &args); err != nil {
			return err
		}
	}
	switch len(args) {
	case 0:
		return nil
	case 1:
		return json.Unmarshal(args[0], in)
	}
	return fmt.Errorf("%d were given; want one, make it a list or an object", len(args))
}

func decodeValue(b []byte, enc Encoding, out any) error {
	switch enc {
	case NoValue:
		return nil
	case JSON:
		return json.Unmarshal(b, out)
	}
	return Unpack(b, out)
}

func valueJSON(b []byte, enc Encoding) (json.RawMessage, error) {
	switch enc {
	case NoValue:
		return json.RawMessage("null"), nil
	case JSON:
		return b, nil
	}
	var v any
	if err := Unpack(b, &v); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}
