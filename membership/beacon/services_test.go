package beacon

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/scagent/scagent/test/bounds"
)

func TestMapsAreOnTheLinkWithAnyTTL(t *testing.T) {
	for _, c := range []struct {
		from string
		ttl  int
		want Stats
	}{
		{"10.0.0.9", 1, Stats{Received: 1, Maps: 1}},
		{"10.0.0.9", 64, Stats{Received: 1, Maps: 1}},
		{"10.0.0.9", 0, Stats{Received: 1, Maps: 1}},
		{"::ffff:10.0.0.9", 1, Stats{Received: 1, Maps: 1}},
		{"192.0.2.1", 1, Stats{Received: 1, OffLink: 1}},
		{"192.0.2.1", 255, Stats{Received: 1, OffLink: 1}},
	} {
		l := newListener(t)
		got := l.hear(Packet{Data: []byte("{}"), From: netip.MustParseAddr(c.from), TTL: c.ttl})
		if (got == reader) != (c.want.Maps == 1) {
			t.Errorf("hear of a map from %s with TTL %d = %v", c.from, c.ttl, got)
		}
		l.expect(t, c.want)
	}
}

func TestBadMapsAreDropped(t *testing.T) {
	long := strings.Repeat("x", 257)
	for name, b := range map[string]string{
		"cut":               `{"a":{"id":"a","name":"w`,
		"two values":        `{}{}`,
		"not UTF-8":         "{\"a\":{\"name\":\"w\",\"data\":\"\xff\"}}",
		"null":              `{"a":null}`,
		"text":              `{"name":"worker","data":{},"available":true}`, // as sc-discovery 0.x
		"list":              `{"a":[]}`,
		"no name":           `{"a":{"id":"a","data":{},"available":true}}`,
		"empty id":          `{"":{"name":"w"}}`,
		"long id":           `{"` + long + `":{"name":"w"}}`,
		"long name":         `{"a":{"name":"` + long + `"}}`,
		"control in id":     `{"a\n":{"name":"w"}}`,
		"control in name":   `{"a":{"name":"\u001b[2J"}}`,
		"name a number":     `{"a":{"name":1}}`,
		"available a text":  `{"a":{"name":"w","available":"yes"}}`,
		"one of two bad":    `{"a":{"name":"w"},"b":{}}`,
		"more than maximum": `{"a":{"name":"w","data":"` + strings.Repeat("x", MaxMapBytes) + `"}}`,
		"deep":              `{"a":{"name":"w","data":` + strings.Repeat("[", 8000) + `}}`,
	} {
		l := newListener(t)
		if got := l.hear(Packet{Data: []byte(b), From: netip.MustParseAddr("10.0.0.9"), TTL: 1}); got != nothing {
			t.Errorf("%s: hear = %v, want nothing", name, got)
		}
		l.expect(t, Stats{Received: 1, Malformed: 1})
		if got := l.b.Externals(); len(got) != 0 {
			t.Errorf("%s: externals %+v, want none", name, got)
		}
	}
}

func TestDataThatDoesNotFitIsLeftOut(t *testing.T) {
	big := json.RawMessage(`"` + strings.Repeat("x", 800) + `"`)
	for name, services := range map[string][]Service{
		"one too large":      {{Name: "worker", Data: json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)}, {Name: "master"}},
		"together too large": {{Name: "worker", Data: big}, {Name: "master", Data: big}},
		"not JSON":           {{Name: "worker", Data: json.RawMessage(`{`)}, {Name: "master"}},
	} {
		b, err := encodeMap("n", services)
		if want := `{"master:n":{"id":"master:n","name":"master","data":{},"available":false,"scagent":"n"},` +
			`"worker:n":{"id":"worker:n","name":"worker","data":{},"available":false,"scagent":"n"}}`; err != nil || string(b) != want {
			t.Errorf("%s: %s, %v; want %s", name, b, err, want)
		}
	}
	if b, err := encodeMap("n", []Service{{Name: "worker", Data: big}}); err != nil || !strings.Contains(string(b), "xxx") {
		t.Errorf("encode of data that fits = %s, %v; want it there", b, err)
	}
	var many []Service
	for i := range 100 {
		many = append(many, Service{Name: fmt.Sprint("role", i)})
	}
	if _, err := encodeMap("n", many); err == nil {
		t.Error("encode of 100 services = nil, want an error")
	}
}

func TestOursAreToldFromOthersInOneMap(t *testing.T) {
	ours := `"x":{"id":"x","name":"worker","data":{},"available":true,"scagent":"n"}`
	theirs := `"y":{"id":"y","name":"web","data":{"port":70000},"available":true,"more":1}`
	for _, c := range []struct {
		b        string
		external bool
		want     []External
	}{
		{`{}`, true, nil},
		{`{` + ours + `}`, false, nil},
		{`{` + ours + `,` + theirs + `}`, true, []External{{ID: "y", Name: "web", Data: json.RawMessage(`{"port":70000}`), Available: true}}},
	} {
		got, external, err := decodeMap([]byte(c.b))
		if err != nil || external != c.external || !reflect.DeepEqual(got, c.want) {
			t.Errorf("decodeMap(%s) = %+v, %v, %v; want %+v, %v", c.b, got, external, err, c.want, c.external)
		}
	}
}

func TestThePortIsWhatDataSays(t *testing.T) {
	for data, want := range map[string]uint16{
		`{"port":3000}`: 3000, `{"port":0}`: 0, `{"port":-1}`: 0, `{"port":65536}`: 0, `{"port":1.5}`: 0, `{"port":"3000"}`: 0,
		`{}`: 0, `[]`: 0, `null`: 0, `1`: 0, `{"port":null}`: 0,
	} {
		if got := portOf(json.RawMessage(data)); got != want {
			t.Errorf("portOf(%s) = %d, want %d", data, got, want)
		}
	}
}

func FuzzMap(f *testing.F) {
	b, err := encodeMap("n", []Service{{Name: "worker", Data: json.RawMessage(`{"a":[1,"\u2028<"]}`), Available: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"a":{"id":"b","name":"worker","data":{"port":1},"available":true},"c":{"name":"x","scagent":"n"}}`))
	f.Add([]byte(`{"__proto__":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		all, external, err := decodeMap(b)
		if err != nil {
			if len(all) > 0 || external {
				t.Errorf("decodeMap(%q) = %+v, %v, %v", b, all, external, err)
			}
			return
		}
		if len(b) > MaxMapBytes {
			t.Errorf("a map of %d bytes was read", len(b))
		}
		for _, e := range all {
			if !isServiceText(e.ID) || !isServiceText(e.Name) || !json.Valid(e.Data) || len(e.Data) > MaxMapBytes {
				t.Errorf("decodeMap(%q) has %+v", b, e)
			}
			d, err := encodeMap("n", []Service{{Name: e.Name, Data: e.Data, Available: e.Available}})
			if err != nil && len(e.Name) < 200 {
				t.Errorf("encode of %+v: %v", e, err)
			} else if again, external, e2 := decodeMap(d); err == nil && (e2 != nil || external || len(again) > 0 || len(d) > maxSentMapBytes) {
				t.Errorf("decodeMap(%s) = %+v, %v, %v; want a map of ours", d, again, external, e2)
			}
		}
	})
}
