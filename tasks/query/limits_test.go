package query

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWorkIsBounded(t *testing.T) {
	items := make([]any, 60_000)
	for i := range items {
		items[i] = float64(i)
	}
	texts := make([]any, 60_000)
	long := strings.Repeat("a", 128<<10)
	for i := range texts {
		texts[i] = long
	}
	n := &Node{Name: "n1", Known: true, Data: map[string]any{
		"l": items, "texts": texts, "s": long, "t": strings.Repeat("a", 128<<10), "p": strings.Repeat(`\pL`, 85), "big": strings.Repeat("x", maxComputed+1), "rep": "(?:abcdefghij){1000}",
	}}
	for _, source := range []string{
		`any(data.l, any(data.l, any(data.l, # < 0)))`,
		`all(data.l, len(filter(data.l, # >= 0)) > 0)`,
		`len(map(data.l, map(data.l, # + 1))) == 1`,
		`any(data.l, # in data.l and # < 0)`,
		`any(data.texts, # != data.t)`,
		`any(data.texts, # < data.t)`,
		`any(data.texts, # contains "b")`,
		`any(data.texts, # + # == "b")`,
		`any(data.texts, lower(#) == "b")`,
		`any(data.texts, len(#) == 1)`,
		`any(data.texts, trim(#) == "b")`,
		`any(data.texts, # matches "a$b")`,
		`data.s matches "(a?){500}b"`,
		`any(data.l, name matches data.p)`,
		`any(data.l, data.l != data.l)`,
		`sum(data.l, max(data.l)) < 0`,
		`any(data.l, [data.l, # + 1, 2, 3][0] != data.l)`,
		`(count(data.l, sum(data.l) == 0) ?? 0) == 0`,
	} {
		q, err := Compile(source)
		if err != nil {
			t.Errorf("Compile(%s): %v", source, err)
			continue
		}
		start := time.Now()
		_, v := q.obstacle(n)
		// It is within about 100 ms; more with the race detector on a busy machine.
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s took %v", source, took)
		} else {
			t.Logf("%-50s %v", source, took)
		}
		if v.kind != unknown || v.cause() != exhausted {
			t.Errorf("%s = %+v, want unknown because it is too much work", source, v)
		}
	}
	q, err := Compile(`any(data.l, any(data.l, any(data.l, # < 0)))`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := q.Why(n), source(q.clauses[0].node)+" is too much work"; got != want {
		t.Errorf("Why = %q, want %q", got, want)
	}
	for _, source := range []string{`name matches data.big`, `name matches data.rep`} {
		q, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Match(n); got != Unknown {
			t.Errorf("%s = %v, want unknown", source, got)
		}
	}
}

func TestLargeListsAreWithinTheLimit(t *testing.T) {
	items := make([]any, 100_000)
	for i := range items {
		items[i] = fmt.Sprint(i)
	}
	n := &Node{Known: true, Data: map[string]any{"l": items}}
	for _, source := range []string{`any(data.l, # == "99999")`, `"99999" in data.l`, `len(filter(data.l, # endsWith "9")) == 10000`, `count(data.l, int(#) >= 50000) == 50000`} {
		q, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Match(n); got != True {
			t.Errorf("%s = %v, want true: %s", source, got, q.Why(n))
		}
	}
}

func TestExhaustionIsNotTakenForAnAnswer(t *testing.T) {
	e := &env{n: &Node{}}
	if got := e.result(e.equalToJSON(integerOf(1), 1.0), nil); got.kind != unknown || got.cause() != exhausted {
		t.Errorf("equality without steps left = %+v, want unknown because exhausted", got)
	}
}
