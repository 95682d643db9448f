package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

var update = flag.Bool("update", false, "write the golden files")

var testOffer = Offer{
	Key: Key{Task: tasks.ID{0: 1, 15: 7}, N: 2}, Run: tasks.ID{0: 3, 15: 4}, Index: 5, Slots: 6, Priority: -7,
	Timeout: 8 * time.Second, AtMostOnce: true, Durable: true, Spec: []byte("spec"),
}

var testOutcome = tasks.Outcome{
	Code: tasks.Signalled, Exit: -3, Signal: "SIGKILL", Text: "killed", Value: []byte("value"), Encoding: tasks.JSON,
	Outputs: []tasks.OutputFile{
		{Name: "a/b", Mode: 0o640, Content: tasks.Content{Inline: []byte("inline")}},
		{Name: "c", Mode: 0o755, Content: tasks.Content{Blob: strings.Repeat("0a", 32), Size: 1 << 40}},
	},
	Steps:   []tasks.Step{{Stage: "pre", Command: "make all", Exit: 2}, {Stage: "cmd", Command: "x", Exit: -1, Signal: "SIGTERM"}},
	Started: time.Unix(1_700_000_000, 1), Finished: time.Unix(1_700_000_001, 2),
	User: 3 * time.Millisecond, System: 4 * time.Millisecond, MaxRSS: 5 << 20, StdoutBytes: 6, StderrBytes: 7,
}

var testTask = tasks.Task{
	Kind: tasks.Git, Argv: []string{"make", "", "all"}, Shell: "echo $HOME", Name: "name",
	Args: []json.RawMessage{json.RawMessage(`1`), json.RawMessage(`{"a":null}`)}, Packed: []byte{0xc0},
	Content: &tasks.Content{Inline: []byte("#!/bin/sh")}, Interpreter: "sh", URL: "https://example.org/r.git", Ref: "main",
	Pre: [][]string{{"a", "b"}, {"c"}}, Post: [][]string{{"d"}}, Source: "() => 1",
	Env: map[string]string{"B": "2", "A": "1", "C": ""}, Dir: "/tmp", Stdin: &tasks.Content{},
	Inputs: []tasks.Input{
		{Name: "in", Mode: 0o600, Content: tasks.Content{Inline: []byte("x")}},
		{Name: "big", Content: tasks.Content{Blob: strings.Repeat("f", 64), Size: 9}},
	},
	Outputs: []string{"*.log"},
}

// everyFieldSet fails when v has a field that a test value leaves empty, which
// a new field is until the codec has it.
func everyFieldSet(t *testing.T, v any) {
	t.Helper()
	rv := reflect.ValueOf(v)
	for i := range rv.NumField() {
		if rv.Field(i).IsZero() {
			t.Errorf("%T.%s is not covered: put it into the codec and into this test", v, rv.Type().Field(i).Name)
		}
	}
}

func TestTaskComesBackAsItWas(t *testing.T) {
	everyFieldSet(t, testTask)
	for name, task := range map[string]tasks.Task{
		"every field": testTask,
		"empty":       {},
		"function":    {Kind: tasks.Function, Name: "f", Packed: []byte{1, 2, 3}},
		"other kind":  {Kind: "fax", Name: "f"},
		"no env":      {Kind: tasks.Command, Argv: []string{"true"}},
	} {
		b := AppendTask([]byte("before"), &task)
		got, err := DecodeTask(b[len("before"):])
		if err != nil || !reflect.DeepEqual(got, task) {
			t.Errorf("%s: DecodeTask(AppendTask(t)) =\n%+v, %v, want\n%+v", name, got, err, task)
		}
	}
}

func TestDecodedTaskKeepsNothingOfTheSpec(t *testing.T) {
	b := AppendTask(nil, &testTask)
	got, err := DecodeTask(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = 0xff
	}
	if !reflect.DeepEqual(got, testTask) {
		t.Errorf("the task changed with the bytes it came from: %+v", got)
	}
}

func TestFunctionTaskDecodesWithTwoAllocations(t *testing.T) {
	b := AppendTask(nil, &tasks.Task{Kind: tasks.Function, Name: "scagent.noop", Packed: []byte{0xc0}})
	if n := testing.AllocsPerRun(100, func() {
		if _, err := DecodeTask(b); err != nil {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("DecodeTask of a function task allocates %v times, want at most 2", n)
	}
}

func TestDamagedSpecsAreErrors(t *testing.T) {
	good := AppendTask(nil, &testTask)
	for n := range good {
		got, err := DecodeTask(good[:n])
		if err != nil && !errors.Is(err, ErrBadSpec) {
			t.Errorf("%d of %d bytes: %v, want ErrBadSpec", n, len(good), err)
		}
		if err == nil && reflect.DeepEqual(got, testTask) {
			t.Errorf("%d of %d bytes are the whole task", n, len(good))
		}
	}
	for name, b := range map[string][]byte{
		"nothing":             {},
		"version 0":           {0},
		"version 2":           {2},
		"field 0":             {1, 0, 0},
		"unknown field":       {1, 200, 0},
		"fields out of order": {1, 5, 1, 'x', 2, 1, 'x'},
		"field twice":         {1, 2, 1, 'x', 2, 1, 'x'},
		"length past the end": {1, 2, 9, 'x'},
		"length of 2^64-1":    {1, 2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1},
		"count past the end":  {1, 4, 2, 200, 1},
		"bytes after a list":  {1, 4, 4, 1, 1, 'x', 'y'},
		"env name twice":      {1, 14, 9, 2, 1, 'A', 1, '1', 1, 'A', 1, '2'},
		"mode above 32 bits":  {1, 17, 11, 1, 1, 'n', 255, 255, 255, 255, 31, 0, 0, 0},
		"negative size":       {1, 16, 12, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1},
		"too long":            append([]byte{1, 2}, make([]byte, tasks.MaxSpecBytes)...),
	} {
		if got, err := DecodeTask(b); !errors.Is(err, ErrBadSpec) {
			t.Errorf("%s: DecodeTask = %+v, %v, want ErrBadSpec", name, got, err)
		}
	}
}

func TestOutcomeComesBackAsItWas(t *testing.T) {
	everyFieldSet(t, testOutcome)
	for name, o := range map[string]tasks.Outcome{"every field": testOutcome, "empty": {}, "value": {Value: []byte("v"), Encoding: tasks.Msgpack}} {
		b := appendResult(nil, testKey(9), &o)
		var k Key
		got := testOutcome // what a former frame left behind
		if !decodeResult(b[headerBytes:], &k, &got) || k != testKey(9) || !reflect.DeepEqual(got, o) {
			t.Errorf("%s: came back as %v\n%+v, want\n%+v", name, k, got, o)
		}
		for n := range b[headerBytes:] {
			if decodeResult(b[headerBytes:headerBytes+n], &k, &got) {
				t.Errorf("%s: %d of %d bytes are accepted", name, n, len(b)-headerBytes)
			}
		}
	}
}

// goldenFrames has a frame of every type.
func goldenFrames() (names []string, frames [][]byte) {
	k, ks := testOffer.Key, []Key{testKey(1), testKey(2)}
	for _, f := range []struct {
		name string
		b    []byte
	}{
		{"hello", appendHello(nil, &hello{Hello: Hello{"cluster", "node", "boot", "name"}, min: 1, max: 2, serial: 3})},
		{"close", appendClose(nil, ErrOtherCluster)},
		{"ping", appendPing(nil, &ping{stamp: 1, echo: 2, hold: 3, want: true, load: Load{4, 5, 6, true}})},
		{"offer", appendOffer(nil, &testOffer)},
		{"grant", appendKeyFrame(nil, typeGrant, k)},
		{"window", appendWindow(nil, k, 65536)},
		{"ack", appendKeys(nil, typeAck, []Key{k, testKey(2)})},
		{"recall", appendKeys(nil, typeRecall, ks)},
		{"cancel", appendKeyByte(nil, typeCancel, k, byte(tasks.StopInterrupt))},
		{"reattach", appendHeld(nil, []Held{{ks[0], 1 << 20, 1 << 19}, {Key: ks[1]}})},
		{"accept", appendKeyByte(nil, typeAccept, k, 1)},
		{"reject", appendReject(nil, k, tasks.Draining, "draining")},
		{"started", appendKeyFrame(nil, typeStarted, k)},
		{"output", appendOutput(nil, k, Stderr, []byte("output"))},
		{"result", appendResult(nil, k, &testOutcome)},
		{"given back", appendKeys(nil, typeGivenBack, ks)},
		{"state", appendStates(nil, []AttemptState{{ks[0], Running, 1 << 40}, {ks[1], Finished, 0}})},
		{"spec", AppendTask(nil, &testTask)},
	} {
		names, frames = append(names, f.name), append(frames, f.b)
	}
	return names, frames
}

func TestGoldenFrames(t *testing.T) {
	const file = "testdata/frames.golden"
	names, frames := goldenFrames()
	if *update {
		var out bytes.Buffer
		for i := range names {
			fmt.Fprintf(&out, "%s: %x\n", names[i], frames[i])
		}
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		name, text, _ := strings.Cut(s.Text(), ": ")
		golden[name] = text
	}
	for i, name := range names {
		if got := hex.EncodeToString(frames[i]); got != golden[name] {
			t.Errorf("%s is\n%s, want\n%s", name, got, golden[name])
		}
	}
	if len(golden) != len(names) {
		t.Errorf("%s has %d entries, want %d", file, len(golden), len(names))
	}
}

func TestMalformedBodiesAreErrors(t *testing.T) {
	names, frames := goldenFrames()
	rec := &recorder{}
	for i, f := range frames[:len(frames)-1] {
		l := looseLink(t, rec)
		b := f[headerBytes:]
		err := l.handle(frameType(f[4]), b)
		switch names[i] {
		case "hello": // not after the handshake
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("a second hello: %v, want ErrMalformed", err)
			}
			continue
		case "close":
			if !errors.Is(err, ErrOtherCluster) {
				t.Errorf("close: %v, want ErrOtherCluster", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", names[i], err)
		}
		if rec.take() == nil && names[i] != "ping" {
			t.Errorf("%s reached no handler", names[i])
		}
		// Cut in the middle of a key, where every type must notice.
		if err := l.handle(frameType(f[4]), b[:15]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s cut to 15 bytes: %v, want ErrMalformed", names[i], err)
		}
		if err := l.handle(frameType(f[4]), nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s without a body: %v, want ErrMalformed", names[i], err)
		}
		switch names[i] {
		case "offer", "reject", "output":
			continue // the rest is theirs
		}
		if err := l.handle(frameType(f[4]), append(bytes.Clone(b), 1)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a byte too many: %v, want ErrMalformed", names[i], err)
		}
	}
	for name, f := range map[string][]byte{
		"negative timeout":        appendPatched(appendOffer(nil, &testOffer), headerBytes+47, 0x80),
		"unknown flags":           appendPatched(appendOffer(nil, &testOffer), headerBytes+46, 4),
		"stream 3":                appendPatched(appendOutput(nil, testKey(1), Stdout, nil), headerBytes+20, 3),
		"list ended by another":   append(appendPatched(appendKeys(nil, typeRecall, nil), headerBytes, 1), appendKeyFrame(nil, typeGrant, testKey(1))...),
		"reject with a long text": appendReject2(MaxTextBytes + 1),
	} {
		if _, err := looseLink(t, rec).handleAll(f); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

func appendPatched(b []byte, at int, v byte) []byte {
	b[at] = v
	return b
}

func appendReject2(n int) []byte {
	b, at := begin(nil, typeReject)
	b = append(appendKey(b, testKey(1)), 1)
	return end(append(b, make([]byte, n)...), at)
}

// looseLink is a link without a connection, for handing it frames.
func looseLink(tb testing.TB, rec *recorder) *Link {
	tb.Helper()
	h, err := NewHub(Config{Self: Hello{"c", "n", "1", ""}, Worker: rec, Master: rec, Events: rec})
	if err != nil {
		tb.Fatal(err)
	}
	return newLink(h, nil, testHello("p"), true)
}

func FuzzDecodeTask(f *testing.F) {
	f.Add(AppendTask(nil, &testTask))
	f.Add(AppendTask(nil, &tasks.Task{Kind: tasks.Function, Name: "f", Packed: []byte{1}}))
	f.Add([]byte{1, 14, 9, 2, 1, 'A', 1, '1', 1, 'A', 1, '2'})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		task, err := DecodeTask(b)
		if err != nil {
			if !errors.Is(err, ErrBadSpec) || err.Error() != clean(err.Error()) {
				t.Errorf("error %q, want one line that is ErrBadSpec", err)
			}
			return
		}
		if err := task.Validate(); err != nil && (!errors.Is(err, tasks.ErrBadTask) || err.Error() != clean(err.Error())) {
			t.Errorf("Validate = %q, want one line that is ErrBadTask", err)
		}
		again, err := DecodeTask(AppendTask(nil, &task))
		if err != nil {
			t.Fatalf("what was decoded cannot be decoded again: %v", err)
		}
		if a, b := AppendTask(nil, &task), AppendTask(nil, &again); !bytes.Equal(a, b) {
			t.Errorf("encodes as\n%x, then as\n%x", a, b)
		}
	})
}

// FuzzFrames feeds bytes to a link at once and in pieces: the handlers must be
// told the same.
func FuzzFrames(f *testing.F) {
	_, frames := goldenFrames()
	f.Add(bytes.Join(frames[2:len(frames)-1], nil), uint8(7))
	f.Add(appendPatched(appendKeys(nil, typeState, nil), headerBytes, 1), uint8(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 16}, uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		whole, pieces := &recorder{}, &recorder{}
		_, err := looseLink(t, whole).handleAll(b)
		l := looseLink(t, pieces)
		var perr error
		for w, end := 0, 0; perr == nil && end < len(b); {
			end = min(end+int(piece)+1, len(b))
			var n int
			n, perr = l.handleAll(b[w:end])
			w += n
		}
		if fmt.Sprint(err) != fmt.Sprint(perr) {
			t.Errorf("at once: %v, in pieces: %v", err, perr)
		}
		if a, b := whole.take(), pieces.take(); !reflect.DeepEqual(a, b) {
			t.Errorf("at once: %q, in pieces: %q", a, b)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add(appendHello(nil, testHello("n")))
	f.Add(appendClose(nil, ErrCollision))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		h, err := readHello(bytes.NewReader(b))
		if err != nil {
			if s := err.Error(); s != clean(s) {
				t.Errorf("the error has control characters: %q", s)
			}
			return
		}
		again, err := readHello(bytes.NewReader(appendHello(nil, h)))
		if err != nil || *again != *h {
			t.Errorf("%+v came back as %+v, %v", h, again, err)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	function := tasks.Task{Kind: tasks.Function, Name: "scagent.noop", Packed: []byte{0xc0}}
	command := tasks.Task{Kind: tasks.Command, Argv: []string{"echo", "hello", "world"}, Env: map[string]string{"A": "1"}}
	for name, t := range map[string]*tasks.Task{"function": &function, "command": &command} {
		spec := AppendTask(nil, t)
		b.Run("AppendTask/kind="+name, func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf = AppendTask(buf[:0], t)
			}
		})
		b.Run("DecodeTask/kind="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeTask(spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	o := Offer{Spec: AppendTask(nil, &function)}
	b.Run("offer", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		var got Offer
		for b.Loop() {
			buf = appendOffer(buf[:0], &o)
			decodeOffer(buf[headerBytes:], &got)
		}
	})
	out := tasks.Outcome{Value: []byte{0xc0}, Encoding: tasks.Msgpack, Started: time.Now(), Finished: time.Now()}
	b.Run("result", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		var got tasks.Outcome
		var k Key
		for b.Loop() {
			buf = appendResult(buf[:0], k, &out)
			decodeResult(buf[headerBytes:], &k, &got)
		}
	})
}
