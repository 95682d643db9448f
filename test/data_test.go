//go:build linux

package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestDataSetAtRunTimeIsUsedByQueriesElsewhere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hosts := l.hosts(2)
	a, b := hosts[0].agent("-name", "a"), hosts[1].agent("-name", "b", "-data", "rack=7", "-data", `zone="x"`)
	assemble(t, patience, a, b)
	a.call("submit", "-where", `data.rack == 7 and data.zone == "x"`, "--", "echo", "hi").want(t, 0, "b: hi\n")

	l.run(t, "100 KiB", func(t *testing.T) {
		doc := fmt.Sprintf(`{"filler":%q,"deep":{"list":[1,{"flag":true}]}}`, strings.Repeat("x", 100<<10))
		path := l.file("data.json", doc)
		begin := time.Now()
		b.call("data", "@"+path).want(t, 0, "")
		a.call("submit", "-where", "data.deep.list[1].flag", "-one", "--", "echo", "hi").want(t, 0, "hi\n")
		t.Logf("a query uses 100 KiB of data set elsewhere after %s", time.Since(begin).Round(time.Millisecond))
		var want, got any
		json.Unmarshal([]byte(doc), &want)
		json.Unmarshal(a.member("b").Data, &got)
		if fmt.Sprint(want) != fmt.Sprint(got) {
			t.Errorf("a sees %.100q as b's data, want the document", a.member("b").Data)
		}
		a.call("submit", "-where", "data.rack == 7", "-wait-workers", "100ms", "true").complains(t, 125, "2 have no data.rack")
	})
	l.run(t, "1 MiB is refused", func(t *testing.T) {
		before := b.call("data").ok(t)
		path := l.file("big.json", `{"filler":"`+strings.Repeat("x", 1<<20-100)+`"}`) // below the limit of the command itself
		b.call("data", "@"+path).complains(t, 1, "262144")
		path = l.file("bigger.json", `{"filler":"`+strings.Repeat("x", 1<<20)+`"}`)
		r := b.call("data", "@"+path)
		r.complains(t, r.status, path)
		if r.status == 0 || b.call("data").ok(t) != before {
			t.Errorf("%s\nwant a failure, and the data unchanged", r)
		}
	})
	l.run(t, "keys", func(t *testing.T) {
		b.call("data", `{"a":1}`).want(t, 0, "")
		b.call("data", "b=two", `c=[3]`).want(t, 0, "")
		b.call("data").want(t, 0, `{"a":1,"b":"two","c":[3]}`+"\n")
		b.call("data", "nonsense").complains(t, 2, "nonsense")
		b.call("data", "@/nowhere/at/all").complains(t, 2, "/nowhere/at/all")
		b.call("data").want(t, 0, `{"a":1,"b":"two","c":[3]}`+"\n")
	})
	l.run(t, "any JSON is data", func(t *testing.T) {
		for _, v := range []string{`"text"`, `3`, `[1,2]`, `true`, `9007199254740993`, `null`} {
			b.call("data", v).want(t, 0, "")
			b.call("data").want(t, 0, v+"\n")
		}
	})
}
