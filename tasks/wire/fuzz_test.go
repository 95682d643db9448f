package wire

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

// FuzzOutcome decodes the body of a result frame. What is accepted says what it
// says once: encoded again, it decodes to the same.
func FuzzOutcome(f *testing.F) {
	for _, o := range []tasks.Outcome{{}, testOutcome, {Value: []byte("v"), Encoding: tasks.Msgpack}, {Started: time.Unix(0, -1), Exit: -1 << 31}} {
		f.Add(appendResult(nil, testKey(1), &o)[headerBytes:])
	}
	head := appendResult(nil, testKey(1), &tasks.Outcome{})[headerBytes:]
	f.Add(append(head[:len(head)-2:len(head)-2], 0xff, 0xff, 0x3f, 0))                                        // a million files
	f.Add(append(head[:len(head)-1:len(head)-1], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01)) // 2^64-1 steps
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		var k, k2 Key
		var o, o2 tasks.Outcome
		if !decodeResult(b, &k, &o) {
			return
		}
		if len(o.Outputs)*minFileBytes+len(o.Steps)*minStepBytes+len(o.Value) > len(b) {
			t.Errorf("%d bytes hold %d files, %d steps and %d bytes of value", len(b), len(o.Outputs), len(o.Steps), len(o.Value))
		}
		if o.User < 0 || o.System < 0 || o.MaxRSS < 0 || o.StdoutBytes < 0 || o.StderrBytes < 0 {
			t.Errorf("less than nothing was used: %+v", o)
		}
		for _, file := range o.Outputs {
			if file.Size < 0 {
				t.Errorf("file %q has %d bytes", file.Name, file.Size)
			}
		}
		again := appendResult(nil, k, &o)[headerBytes:]
		if !decodeResult(again, &k2, &o2) || k != k2 || !reflect.DeepEqual(o, o2) {
			t.Errorf("%v %+v came back as %v %+v", k, o, k2, o2)
		}
	})
}

// FuzzConnection writes bytes to a listening hub, as they are or behind a good
// hello. Whatever they are, the hub closes with nothing left behind (the bubble
// would say), hands on only frames that were there, and serves the next node.
func FuzzConnection(f *testing.F) {
	names, frames := goldenFrames()
	for i, b := range frames[:len(frames)-1] {
		f.Add(b, names[i] != "hello", false)
	}
	f.Add(bytes.Join(frames[2:len(frames)-1], nil), true, true)
	f.Add(appendHello([]byte(Preamble), testHello("n9")), false, false)
	f.Add(slices.Concat(appendHello([]byte(Preamble), testHello("n9")), frames[3], frames[4]), false, true)
	f.Add(appendHello([]byte(Preamble), testHello("n1")), false, false)
	f.Add(append([]byte(Preamble), 0, 0, 0x10, 1, 1), false, false)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), false, false)
	f.Fuzz(func(t *testing.T, b []byte, greeted, stay bool) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		inBed(t, func(t *testing.T, bed *bed) {
			bed.add("n1", nil)
			var conn interface {
				Write([]byte) (int, error)
				Close() error
			}
			if greeted {
				conn = bed.rawLink("n1", testHello("n9"))
			} else {
				conn = bed.raw("n1")
			}
			conn.Write(b) // an error: the hub has hung up already
			synctest.Wait()
			if !stay {
				conn.Close()
			}
			time.Sleep(time.Minute) // all patience has ended
			for _, o := range bed.recs["n1"].offers {
				if !bytes.Contains(b, appendOffer(nil, &o)[headerBytes:]) {
					t.Errorf("an offer arrived that was not sent: %+v", o)
				}
			}
			conn.Close()
			if _, err := bed.add("n2", nil).Connect(t.Context(), "n1"); err != nil {
				t.Errorf("the next node gets no link: %v", err)
			}
		})
	})
}
