package history

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

// full has every field set, so that none is forgotten by one of the two.
func full(t testing.TB) Event {
	e := Event{
		Mono: 1, Wall: 2, Node: "n", Boot: "b", Name: Offered, Task: tasks.ID{1}, Run: tasks.ID{2}, N: 1<<32 - 1, Worker: "w",
		State: tasks.StateDone, Hash: "h", Spec: "s", Key: "k", What: TheEnd, Why: "because", Kind: tasks.Command, AtMostOnce: true,
		Ephemeral: true, Slots: 3, Kinds: []tasks.Kind{tasks.Command, tasks.Git}, Tasks: []tasks.ID{{3}, {4}},
		Workers: []string{"w1", "w2"}, Peer: "p", To: "t", Host: "m", Client: "c", Seq: 1<<64 - 1,
	}
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("field %s is not set: set it here, and see that it is written and read", v.Type().Field(i).Name)
		}
	}
	return e
}

func TestLinesAreAsEncodingJSONWouldHaveThem(t *testing.T) {
	odd := full(t)
	odd.Why, odd.Worker, odd.Key = "two\nlines \"quoted\" <&> \\", "ü\u2028", "\x00\x7f"
	for name, e := range map[string]Event{"full": full(t), "least": {Node: "n", Name: Started}, "odd": odd} {
		t.Run(name, func(t *testing.T) {
			line := Append(nil, &e)
			var std, own Event
			if err := json.Unmarshal(line, &std); err != nil || !reflect.DeepEqual(std, e) {
				t.Errorf("encoding/json reads %s\nas %+v, %v\nwant %+v", line, std, err, e)
			}
			var d decoder
			if err := d.event(bytes.TrimSpace(line), &own); err != nil || !reflect.DeepEqual(own, e) {
				t.Errorf("%s\nwas read as %+v, %v\nwant %+v", line, own, err, e)
			}
			if d.odd != (name == "odd") {
				t.Errorf("odd is %v", d.odd)
			}
		})
	}
}

// FuzzRead feeds a Reader anything. What its own decoder takes, encoding/json reads
// the same, and it is written again as it was.
func FuzzRead(f *testing.F) {
	e := full(f)
	line := Append(nil, &e)
	f.Add(line)
	f.Add(append(bytes.Replace(line, []byte("because"), []byte(`a\u0041`), 1), line[:40]...))
	f.Add([]byte(`{"mono":01,"wall":-1,"node":"n","boot":"","ev":"ended","tasks":[]}`))
	f.Add([]byte(`{"ev":"booted","node":"a","node":"b","kinds":["x",]}` + "\n{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		bounds.Input(t, in)
		defer bounds.Check(t)()
		if _, torn, _ := readAll(bytes.NewReader(in)); torn > bytes.Count(in, []byte("\n"))+1 {
			t.Errorf("%d lines are torn, more than there are", torn)
		}
		for line := range bytes.Lines(in) {
			line = bytes.TrimSpace(line)
			var own, std Event
			var d decoder
			if d.event(line, &own) != nil || d.odd {
				continue
			}
			if err := json.Unmarshal(line, &std); err != nil || !reflect.DeepEqual(own, std) {
				t.Errorf("%q\nwas read as %+v\nencoding/json has %+v, %v", line, own, std, err)
			}
			var again Event
			if err := d.event(bytes.TrimSpace(Append(nil, &own)), &again); err != nil || !reflect.DeepEqual(own, again) {
				t.Errorf("%+v\nwas read again as %+v, %v", own, again, err)
			}
		}
	})
}
