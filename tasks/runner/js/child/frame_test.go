package child

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
)

func TestFramesComeThrough(t *testing.T) {
	setup := &Setup{MemoryBytes: 1 << 40, CachedPrograms: 3, CachedBytes: 1 << 33}
	if got, err := readSetup(newReader(bytes.NewReader(setup.frame()))); err != nil || *got != *setup {
		t.Errorf("readSetup = %+v, %v, want %+v", got, err, setup)
	}
	for _, s := range []*Script{
		{},
		{Source: "x=>x", Args: []json.RawMessage{[]byte("1"), {}, []byte(`{"a":"ü"}`)}, Seed: [2]uint64{1<<63 + 1, 2}},
		{Source: strings.Repeat("x", tasks.MaxSpecBytes)},
	} {
		b := appendCall(nil, 7, s)
		if len(b) != headerBytes+s.size() {
			t.Errorf("a call takes %d bytes, size says %d", len(b)-headerBytes, s.size())
		}
		number, got, err := parseCall(b[headerBytes:])
		if err != nil || number != 7 || !reflect.DeepEqual(got, s) {
			t.Errorf("parseCall = %d, %.100v, %v, want 7, %.100v", number, got, err, s)
		}
	}
	for _, out := range []tasks.Outcome{
		{Value: []byte(`{"a":[]}`), Encoding: tasks.JSON},
		{Value: []byte(`"` + strings.Repeat("x", tasks.MaxValueBytes-2) + `"`), Encoding: tasks.JSON},
		{Code: tasks.Failed, Text: "TypeError: ü"},
		{Code: tasks.Failed, Text: strings.Repeat("x", maxTextBytes)},
		{Code: tasks.BadInput}, {Code: tasks.Panic, Text: "panic"}, {Code: tasks.Cancelled, Text: "stopped"},
	} {
		a, err := readAnswer(newReader(bytes.NewReader(appendResult(nil, &out, 1<<40))))
		if err != nil || a.kind != frameResult || a.held != 1<<40 || !reflect.DeepEqual(a.outcome, out) {
			t.Errorf("readAnswer = %.200v, %v, want %.200v", a, err, out)
		}
	}
	for _, kind := range []byte{frameStdout, frameStderr} {
		p := bytes.Repeat([]byte{kind}, maxOutputBytes)
		if a, err := readAnswer(newReader(bytes.NewReader(appendOutput(nil, kind, p)))); err != nil || a.kind != kind || !bytes.Equal(a.output, p) {
			t.Errorf("readAnswer = %d, %d bytes, %v, want %d, %d bytes", a.kind, len(a.output), err, kind, len(p))
		}
	}
}

// bad are frames that no child may send, by what is wrong.
var bad = map[string][]byte{
	"a frame of type 0 with 0 bytes":                       {0, 0, 0, 0, 0},
	"a frame of type 8 with 4294967295 bytes":              {8, 255, 255, 255, 255},
	"a frame of type 2 with 0 bytes":                       {frameCall, 0, 0, 0, 0},
	"a frame of type 4 with 1 bytes":                       {frameReady, 0, 0, 0, 1, 0},
	"a frame of type 5 with 32769 bytes":                   {frameStdout, 0, 0, 0x80, 1},
	"a frame of type 7 with 4294967295 bytes":              {frameResult, 255, 255, 255, 255},
	"a frame of type 7 with 10 bytes":                      {frameResult, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	"a frame of type 7 with 532492 bytes":                  {frameResult, 0, 8, 0x20, 0x0c},
	"a result whose text has 1 bytes":                      {frameResult, 0, 0, 0, 11, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
	"a result whose text is no line":                       raw(tasks.Failed, "two\nlines", ""),
	"a result whose value is not JSON, or is too long":     raw(tasks.OK, "", "{"),
	"a result of code failed with a value":                 raw(tasks.Failed, "", "1"),
	"a result of code exit":                                raw(tasks.Exit, "", ""),
	"a result of code code_200":                            raw(200, "", ""),
	"a result whose text has 8193 bytes":                   raw(tasks.Failed, strings.Repeat("x", maxTextBytes+1), ""),
	"a result whose value is not JSON, or is too long\x00": raw(tasks.OK, "", `"`+strings.Repeat("x", tasks.MaxValueBytes-1)+`"`),
}

// raw is a result's frame without any check.
func raw(c tasks.Code, text, value string) []byte {
	b := append(beginFrame(nil, frameResult), byte(c), 0, 0, 0, 0, 0, 0, 0, 0, byte(len(text)>>8), byte(len(text)))
	return endFrame(append(append(b, text...), value...))
}

func TestBadAnswersAreRefused(t *testing.T) {
	for want, frame := range bad {
		_, err := readAnswer(newReader(bytes.NewReader(frame)))
		if !errors.As(err, new(violation)) || err.Error() != strings.TrimRight(want, "\x00") {
			t.Errorf("readAnswer(%.30q) = %v, want %q", frame, err, want)
		}
	}
	for _, frame := range [][]byte{{frameReady}, {frameStdout, 0, 0, 0, 1}, {frameResult, 0, 0, 0, 11, 0}} {
		if _, err := readAnswer(newReader(bytes.NewReader(frame))); err != io.ErrUnexpectedEOF {
			t.Errorf("readAnswer(%q) = %v, want %v", frame, err, io.ErrUnexpectedEOF)
		}
	}
	if _, err := readAnswer(newReader(bytes.NewReader(nil))); err != io.EOF {
		t.Errorf("readAnswer of nothing = %v, want %v", err, io.EOF)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, frame := range bad {
		if len(frame) < 1<<10 { // larger ones slow it down
			f.Add(frame)
		}
	}
	f.Add(endFrame(beginFrame(nil, frameReady)))
	f.Add(append(appendOutput(nil, frameStdout, []byte("out")), appendOutput(nil, frameStderr, []byte("err"))...))
	f.Add(appendResult(nil, &tasks.Outcome{Value: []byte("[1]"), Encoding: tasks.JSON}, 1))
	f.Add(appendResult(nil, &tasks.Outcome{Code: tasks.Failed, Text: "Error: no"}, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newReader(bytes.NewReader(b))
		for {
			a, err := readAnswer(r)
			if err != nil {
				return
			}
			o := &a.outcome
			switch {
			case a.kind != frameReady && a.kind != frameStdout && a.kind != frameStderr && a.kind != frameResult,
				len(a.output) > maxOutputBytes, len(o.Text) > maxTextBytes, len(o.Value) > tasks.MaxValueBytes,
				!isLine(o.Text),
				a.kind == frameResult && (o.Code == tasks.OK) != (o.Encoding == tasks.JSON),
				o.Encoding == tasks.JSON && !json.Valid(o.Value):
				t.Fatalf("readAnswer = %+v", a)
			}
		}
	})
}

func FuzzCall(f *testing.F) {
	f.Add(appendCall(nil, 1, &Script{Source: "x=>x", Args: []json.RawMessage{[]byte("1")}})[headerBytes:])
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		number, s, err := parseCall(b)
		if err == nil && !bytes.Equal(appendCall(nil, number, s)[headerBytes:], b) {
			t.Errorf("%q was read as %d, %+v", b, number, s)
		}
	})
}
