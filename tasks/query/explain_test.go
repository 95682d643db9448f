package query

import (
	"fmt"
	"strings"
	"testing"
)

// pool returns known nodes with the documents given, and unfetched for "".
func pool(tb testing.TB, data ...string) []Node {
	nodes := make([]Node, len(data))
	for i, d := range data {
		nodes[i] = Node{Name: fmt.Sprintf("n%d", i+1), Role: []string{"worker"}, Slots: 2, Free: i}
		if d != "" {
			nodes[i].Known, nodes[i].Data, nodes[i].Facts = true, decode(tb, d, true), map[string]any{"cpus": 1.0}
		}
	}
	return nodes
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name, source string
		data         []string
		want         string
	}{
		{"no workers", `true`, nil, `there are no workers`},
		{"all", `true`, []string{`{}`, `{}`}, `2 of 2 workers match`},
		{"the one", `true`, []string{`{}`}, `1 of 1 worker matches`},
		{"one of one", `data.gpu`, []string{`{}`}, `0 of 1 worker matches: 1 has no data.gpu`},
		{"all miss", `data.gpu == "a100"`, strings.Split(strings.Repeat(`{} `, 11)+`{}`, " "), `0 of 12 workers match: 12 have no data.gpu`},
		{"false and missing", `data.gpu == "a100"`, []string{`{}`, `{"gpu":"b"}`, `{"gpu":"c"}`}, `0 of 3 workers match: 2 have data.gpu == "a100" false, 1 has no data.gpu`},
		{"some match", `data.gpu == "a100"`, []string{`{}`, `{"gpu":"a100"}`}, `1 of 2 workers match: 1 has no data.gpu`},
		{"not fetched", `data.gpu == "a100"`, []string{``, `{}`, `{}`}, `0 of 3 workers match: 2 have no data.gpu, 1 document not fetched yet`},
		{"not fetched, several clauses", `data.a and facts.cpus == 2`, []string{``, ``}, `0 of 2 workers match: 2 documents not fetched yet`},
		{"not fetched but decided before", `name == "x" and data.a`, []string{``}, `0 of 1 worker matches: 1 has name == "x" false`},
		{"first clause that is not true", `free < 2 and data.a == 1 and data.b == 2`, []string{`{"a":1}`, `{"a":2}`, `{}`}, `0 of 3 workers match: 1 has no data.b, 1 has data.a == 1 false, 1 has free < 2 false`},
		{"nested and", `free < 9 and (data.a == 1 and data.b == 2)`, []string{`{"a":1}`}, `0 of 1 worker matches: 1 has no data.b`},
		{"type", `data.gpu > 3`, []string{`{"gpu":"a"}`, `{"gpu":"b"}`, `{"gpu":null}`}, `0 of 3 workers match: 2 have data.gpu as a string, not a number, 1 has data.gpu as null, not a number`},
		{"division", `1 / data.n > 3`, []string{`{"n":0}`}, `0 of 1 worker matches: 1 has 1 / data.n > 3 unknown (1 / data.n divides by zero)`},
		{"or", `data.a == 1 or data.b == 1`, []string{`{"a":2}`, `{}`}, `0 of 2 workers match: 1 has data.a == 1 or data.b == 1 unknown (data.b is missing), 1 has data.a == 1 or data.b == 1 unknown (data.a is missing)`},
		{"items", `any(data.l, .x > 1)`, []string{`{"l":[{}]}`}, `0 of 1 worker matches: 1 has any(data.l, .x > 1) unknown (.x is missing)`},
		{"many reasons", `data.a == 1 and data.b == 1 and data.c == 1 and data.d == 1 and data.e == 1 and data.f == 1`,
			[]string{`{}`, `{}`, `{"a":1}`, `{"a":1,"b":1}`, `{"a":1,"b":1,"c":1}`, `{"a":1,"b":1,"c":1,"d":1}`, `{"a":1,"b":1,"c":1,"d":1,"e":1}`},
			`0 of 7 workers match: 2 have no data.a, 1 has no data.b, 1 has no data.c, 1 has no data.d, 2 for other reasons`},
		{"hostile key", `data["a\u202e\n"] == 1`, []string{`{}`}, `0 of 1 worker matches: 1 has no data["a\u202e\n"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := Compile(c.source)
			if err != nil {
				t.Fatalf("Compile(%s): %v", c.source, err)
			}
			if got := q.Explain("worker", pool(t, c.data...)); got != c.want {
				t.Errorf("Explain of %s =\n  %s\nwant\n  %s", c.source, got, c.want)
			}
		})
	}
}

func TestWhy(t *testing.T) {
	known := testNode(t)
	for _, c := range []struct {
		source string
		node   *Node
		want   string
	}{
		{`name == "n1"`, known, `matches`},
		{`data.x == 1`, known, `data.x is missing`},
		{`name == "n1" and data.x.y == 1`, known, `data.x.y is missing`},
		{`facts.cpus >= 9`, known, `facts.cpus >= 9 is false (facts.cpus is 8)`},
		{`data.n == data.half`, known, `data.n == data.half is false (data.n is 3, data.half is 0.5)`},
		{`data.gpu == "h100"`, known, `data.gpu == "h100" is false (data.gpu is "a100")`},
		{`data.ssd == false`, known, `data.ssd == false is false (data.ssd is true)`},
		{`data.none != nil`, known, `data.none != nil is false (data.none is nil)`},
		{`"tracker" in role`, known, `"tracker" in role is false (role is ["worker","master"])`},
		{`not has(data.gpu)`, known, `not has(data.gpu) is false (data.gpu is "a100")`},
		{`has(data.x)`, known, `has(data.x) is false`},
		{`data.n + data.n + data.half + data.one + data.exp == 0`, known, `data.n + data.n + data.half + data.one + data.exp == 0 is false (data.n is 3, data.half is 0.5, data.one is 1)`},
		{`data.gpu > 3`, known, `data.gpu is a string, not a number`},
		{`3 > data.gpu`, known, `data.gpu is a string, not a number`},
		{`data.gpu`, known, `data.gpu is a string, not a boolean`},
		{`data.n / data.zero > 1`, known, `data.n / data.zero divides by zero`},
		{`data.max + 1 > 1`, known, `data.max + 1 is out of range`},
		{`name matches data.bad`, known, `data.bad is not a valid pattern`},
		{`int(data.gpu) > 1`, known, `data.gpu is not the text of a number`},
		{`max(data.mixed) > 1`, known, `data.mixed has an item that is not a number`},
		{`data.disks[data.index].size > 1`, known, `data.disks[data.index].size is missing`},
		{`data.hdd or data.x == 1`, known, `data.hdd or data.x == 1 is unknown: data.x is missing`},
		{`all(data.disks, .size > 1)`, known, `all(data.disks, .size > 1) is unknown: .size is missing`},
		{`any(data.list, # > data.exp)`, known, `any(data.list, # > data.exp) is false (data.list is [1,2,3])`},
		{`data.n == 3 and name == "` + strings.Repeat("x", 200) + `"`, known, `name == "` + strings.Repeat("x", 70) + `… is false (name is "n1")`},
		{`data.x == 1`, &Node{}, `its document is not fetched yet`},
		{`data.x == 1 or data.y == 1`, &Node{}, `its document is not fetched yet`},
		{`name == "x"`, &Node{Name: "a\n\x1b[31m" + strings.Repeat("b", 50)}, `name == "x" is false (name is "a\n\x1b[31m` + strings.Repeat("b", 32) + `…")`},
		{`1 == 2`, known, `1 == 2 is false`},
	} {
		q, err := Compile(c.source)
		if err != nil {
			t.Errorf("Compile(%s): %v", c.source, err)
			continue
		}
		if got := q.Why(c.node); got != c.want {
			t.Errorf("Why of %s =\n  %s\nwant\n  %s", c.source, got, c.want)
		}
	}
}
