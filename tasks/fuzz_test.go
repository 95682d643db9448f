package tasks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/scagent/scagent/test/bounds"
)

// FuzzParseID: what is accepted is an id as String writes it, in any case.
func FuzzParseID(f *testing.F) {
	id := ID{1, 2, 3, 15: 255}
	f.Add(id.String())
	f.Add(strings.ToUpper(id.String()))
	f.Add(id.String()[:25] + "b") // bits that mean nothing
	f.Add(id.String() + "======")
	f.Add(id.String()[:13] + "\n" + id.String()[13:])
	f.Add("ſaaaaaaaaaaaaaaaaaaaaaaaaa") // lower case of which is another letter
	f.Fuzz(func(t *testing.T, s string) {
		bounds.Input(t, s)
		got, err := ParseID(s)
		if err != nil {
			if !errors.Is(err, ErrBadID) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("ParseID(%q) = %q, want one line that is ErrBadID", s, err)
			}
			return
		}
		if got.String() != strings.ToLower(s) {
			t.Errorf("ParseID(%q) is %s", s, got)
		}
	})
}

// FuzzCheckName: what is accepted is a name of one file below a directory.
func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a/b", "../x", "/etc/x", "a/../../x", "a\x00b", ".", "", "CON", strings.Repeat("x", 256), strings.Repeat("a/", MaxNameParts) + "a", strings.Repeat("a/", MaxNameParts-1) + "a",
		"a//b", "a/./b", "a/..", "..", "...", "a\\..\\..\\b", "\xff", "a\x1b[2J", "~", "a/", "-rf", "ä"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bounds.Input(t, s)
		err := CheckName(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00\x1b") || len(err.Error()) > 5*MaxNameBytes {
				t.Errorf("CheckName(%q): %q", s, err)
			}
			return
		}
		at := filepath.Join("/base/of/all", filepath.FromSlash(s))
		if !strings.HasPrefix(at, "/base/of/all/") || strings.ContainsRune(at, 0) || len(s) > MaxNameBytes || strings.Count(s, "/") >= MaxNameParts {
			t.Errorf("CheckName(%q) = nil, it is %q", s, at)
		}
	})
}

// mixture is what a function may take or return: something of everything.
type mixture struct {
	I   int
	U   uint8
	F   float64
	S   string
	B   []byte
	L   []mixture
	M   map[string]*mixture
	Any any
	J   json.RawMessage
	P   *int
	A   [3]int
	Bo  bool
	Fn  func()   `codec:"-" json:"-"`
	Ign chan int `codec:"-" json:"-"`
}

// FuzzValue decodes msgpack and JSON as arguments and as results of functions,
// and shows results as JSON.
func FuzzValue(f *testing.F) {
	n := 1
	packed, err := Pack(mixture{I: -1, U: 2, F: 1.5, S: "s", B: []byte{0}, L: []mixture{{}}, M: map[string]*mixture{"k": {}}, Any: []any{1, "x", nil}, P: &n})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed, uint8(Msgpack))
	f.Add([]byte(`[{"I":1,"L":[{}],"M":{"a":null},"Any":[1e999]}]`), uint8(JSON))
	f.Add([]byte(`[1,2]`), uint8(JSON))
	f.Add(bytes.Repeat([]byte{0x91}, 20_000), uint8(Msgpack))                         // lists in lists
	f.Add(append(bytes.Repeat([]byte{0x81, 0xa1, 'L'}, 5_000), 0xc0), uint8(Msgpack)) // maps in maps
	f.Add(bytes.Repeat([]byte{'['}, 20_000), uint8(JSON))
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, uint8(Msgpack))       // a list of 2^32-1
	f.Add([]byte{0xdf, 0x7f, 0xff, 0xff, 0xff, 0xa1}, uint8(Msgpack)) // a map of 2^31-1
	f.Add([]byte{0xc6, 0x7f, 0xff, 0xff, 0xff, 0}, uint8(Msgpack))    // 2 GiB of bytes
	f.Add([]byte{0xc9, 0x00, 0x00, 0x00, 0xff, 1}, uint8(Msgpack))    // an extension
	f.Add([]byte{0xd6, 0xff, 0xff, 0xff, 0xff, 0xff}, uint8(Msgpack)) // a time
	f.Add([]byte{0x81, 0x91, 1, 2}, uint8(Msgpack))                   // a map whose key is a list
	f.Add([]byte{0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 1}, uint8(Msgpack)) // NaN
	f.Add([]byte{0x82, 0xa1, 'I', 1, 0xa1, 'I', 2}, uint8(Msgpack))
	f.Add([]byte("x"), uint8(7))
	f.Fuzz(func(t *testing.T, b []byte, enc uint8) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		checkValue(t, b, Encoding(enc%4))
	})
}

func checkValue(t *testing.T, b []byte, enc Encoding) {
	line := func(what string, err error) {
		if err != nil && strings.ContainsAny(err.Error(), "\x00\x1b") {
			t.Errorf("%s: %q", what, err)
		}
	}
	var s mixture
	line("arguments", decodeArgs(b, enc, &s))
	var anything any
	line("arguments of any type", decodeArgs(b, enc, &anything))
	var out mixture
	err := decodeValue(b, enc, &out)
	line("value", err)
	if err == nil && enc == Msgpack {
		again, err := Pack(out)
		var back mixture
		if err == nil {
			err = Unpack(again, &back)
		}
		if err != nil {
			t.Errorf("%+v cannot be sent on: %v", out, err)
		}
	}
	r := Result{State: StateDone, Outcome: Outcome{Value: b, Encoding: enc}}
	j, err := r.JSONValue()
	line("as JSON", err)
	if err == nil && enc != JSON && !json.Valid(j) {
		t.Errorf("the JSON of %x is %s", b, j)
	}
	h := NewFunc("f", func(_ context.Context, in []string) ([]string, error) { return in, nil }).Handler()
	value, err := h(t.Context(), nil, b, enc)
	var bad *BadArgsError
	if err != nil && !errors.As(err, &bad) {
		t.Errorf("a function that cannot fail failed: %v", err)
	}
	if err == nil && enc == Msgpack {
		var in, out []string
		if Unpack(b, &in); Unpack(value, &out) != nil || len(in)+len(out) > 0 && !reflect.DeepEqual(in, out) {
			t.Errorf("%q came back as %q", in, out)
		}
	}
}
