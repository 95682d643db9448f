package query

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"github.com/scagent/scagent/test/bounds"
)

// FuzzCompile sees that no source makes the compiler or a query panic, hang or
// contradict itself.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		``, `true`, `data.gpu == "a100" and facts.cpus >= 8`, `not has(data.x) or "a" in role`, `((((`, `data.a[999999999]`,
		`name matches "(a+)+$"`, `1 / 0 == 1`, `any(data.disks, .size > 100)`, `data["my.key"] ?? 1`, `1 < data.n < 5`, `data?.a?.[0]`,
		`sum(map(data.list, # * 2)) == 12`, `if data.ssd { free } else { -1 }`, `data.l | len() > 1`, `max(data.list, 3) ** 2 % 4`, `-data.n`,
		`int(data.text) + 1`, `filter(data.disks, has(.size))[-1].size`, `"\u202e" == name`, `/* */ free // x`, `let x = 1; x`, `data.a..b`, "`raw`", `b'x'`,
		`#index`, `::len(role)`, `{a: 1}`, `role[0:1]`, `not in`, `data.big == 9007199254740993`, `!data.ssd == true`, `name matches data.pattern`,
	} {
		f.Add(s)
	}
	nodes := []Node{*testNode(f), {Name: "n2"}, {Known: true}}
	f.Fuzz(func(t *testing.T, source string) {
		bounds.Input(t, source)
		defer bounds.Check(t)()
		if p, err := CompilePreference(source); err != nil {
			checkErrorText(t, err)
		} else {
			for i := range nodes {
				if got := p.Score(&nodes[i]); math.IsNaN(got) || math.IsInf(got, 0) {
					t.Errorf("Score of %q = %v", source, got)
				}
			}
		}
		q, err := Compile(source)
		if err != nil {
			checkErrorText(t, err)
			return
		}
		for i := range nodes {
			got, why := q.Match(&nodes[i]), q.Why(&nodes[i])
			if (got == True) != (why == "matches") {
				t.Errorf("%q of node %d = %v, but Why says %q", source, i, got, why)
			}
		}
		if s := q.Explain("worker", nodes); s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("Explain of %q = %q", source, s)
		}
	})
}

// FuzzMatch compares Match with what the generator of a query says it means.
func FuzzMatch(f *testing.F) {
	for i := range uint64(50) {
		f.Add(i, i*i)
	}
	f.Fuzz(checkGenerated)
}

func TestMatchAgreesWithNaiveEvaluator(t *testing.T) {
	for i := range uint64(5_000) {
		checkGenerated(t, i, 1)
		if t.Failed() {
			return
		}
	}
}

func checkGenerated(t *testing.T, seed1, seed2 uint64) {
	g := generator{rand.New(rand.NewPCG(seed1, seed2))}
	source, want := g.condition(4)
	q, err := Compile(source)
	if err != nil {
		t.Fatalf("Compile(%s): %v", source, err)
	}
	for range 4 {
		n := &Node{Role: []string{"worker"}, Known: g.IntN(8) > 0, Data: g.object(3), Facts: g.object(2)}
		want := want(n)
		for _, n := range []*Node{n, packed(t, n)} {
			if got := q.Match(n); got != want {
				t.Errorf("%s with data %v, facts %v, known %t = %v, want %v: %s", source, n.Data, n.Facts, n.Known, got, want, q.Why(n))
			}
		}
	}
}

// generator makes queries along with what they mean, written as plainly as can be.
type generator struct{ *rand.Rand }

type meaning func(*Node) Truth

func (g generator) pick(words ...string) string { return words[g.IntN(len(words))] }

// condition makes one at most depth levels deep.
func (g generator) condition(depth int) (string, meaning) {
	if depth == 0 {
		return g.leaf()
	}
	switch g.IntN(5) {
	case 0:
		s, a := g.condition(depth - 1)
		return g.pick("not ", "!") + "(" + s + ")", func(n *Node) Truth {
			return map[Truth]Truth{True: False, False: True, Unknown: Unknown}[a(n)]
		}
	case 1:
		s, a := g.condition(depth - 1)
		r, b := g.condition(depth - 1)
		return "(" + s + g.pick(" and ", " && ") + r + ")", func(n *Node) Truth {
			x, y := a(n), b(n)
			switch {
			case x == False || y == False:
				return False
			case x == True && y == True:
				return True
			}
			return Unknown
		}
	case 2:
		s, a := g.condition(depth - 1)
		r, b := g.condition(depth - 1)
		return "(" + s + g.pick(" or ", " || ") + r + ")", func(n *Node) Truth {
			x, y := a(n), b(n)
			switch {
			case x == True || y == True:
				return True
			case x == False && y == False:
				return False
			}
			return Unknown
		}
	case 3:
		s, a := g.condition(depth - 1)
		r, b := g.condition(depth - 1)
		u, c := g.condition(depth - 1)
		return "((" + s + ") ? (" + r + ") : (" + u + "))", func(n *Node) Truth {
			switch a(n) {
			case True:
				return b(n)
			case False:
				return c(n)
			}
			return Unknown
		}
	}
	return g.leaf()
}

// A place in a node: there says whether it is, and fetched whether that can be said.
type place func(*Node) (x any, there, fetched bool)

func (g generator) place() (string, place) {
	source, keys := "data", []string{}
	facts := g.IntN(3) == 0
	if facts {
		source = "facts"
	}
	for range 1 + g.IntN(3) {
		k := g.pick("a", "b", "c")
		keys = append(keys, k)
		source += g.pick("."+k, `["`+k+`"]`, "?."+k)
	}
	return source, func(n *Node) (any, bool, bool) {
		x := n.Data
		if facts {
			x = n.Facts
		}
		for _, k := range keys {
			m, ok := x.(map[string]any)
			if !ok {
				return nil, false, n.Known
			}
			if x, ok = m[k]; !ok {
				return nil, false, n.Known
			}
		}
		return x, n.Known, n.Known
	}
}

func (g generator) leaf() (string, meaning) {
	source, at := g.place()
	switch g.IntN(6) {
	case 0:
		return "has(" + source + ")", func(n *Node) Truth {
			_, there, fetched := at(n)
			if !fetched {
				return Unknown
			}
			return truthFor(there)
		}
	case 1:
		return source, func(n *Node) Truth {
			x, there, _ := at(n)
			if b, ok := x.(bool); ok && there {
				return truthFor(b)
			}
			return Unknown
		}
	case 2:
		op := g.pick("<", "<=", ">", ">=")
		other, y := "1", any(1.0)
		if g.IntN(2) == 0 {
			other, y = `"1"`, "1"
		}
		return source + " " + op + " " + other, func(n *Node) Truth {
			x, there, _ := at(n)
			if !there {
				return Unknown
			}
			if f, ok := x.(float64); ok && y == 1.0 {
				return truthFor(op == "<" && f < 1 || op == "<=" && f <= 1 || op == ">" && f > 1 || op == ">=" && f >= 1)
			}
			if s, ok := x.(string); ok && y == "1" {
				return truthFor(op == "<" && s < "1" || op == "<=" && s <= "1" || op == ">" && s > "1" || op == ">=" && s >= "1")
			}
			return Unknown
		}
	case 3:
		return source + ` in [0, "x", true, nil]`, func(n *Node) Truth {
			x, there, _ := at(n)
			if !there {
				return Unknown
			}
			return truthFor(x == nil || x == true || x == 0.0 || x == "x")
		}
	case 4:
		other, at2 := g.place()
		return source + " == " + other, func(n *Node) Truth {
			x, there, _ := at(n)
			y, there2, _ := at2(n)
			if !there || !there2 {
				return Unknown
			}
			return truthFor(same(x, y))
		}
	}
	op := g.pick("==", "!=")
	other, y := "", any(nil)
	switch g.IntN(4) {
	case 0:
		other = "nil"
	case 1:
		other, y = "1.5", 1.5
	case 2:
		other, y = "'x'", "x"
	case 3:
		other, y = "true", true
	}
	return source + " " + op + " " + other, func(n *Node) Truth {
		x, there, _ := at(n)
		if !there {
			return Unknown
		}
		return truthFor(same(x, y) == (op == "=="))
	}
}

func truthFor(b bool) Truth {
	if b {
		return True
	}
	return False
}

func same(x, y any) bool {
	m, ok := x.(map[string]any)
	k, ok2 := y.(map[string]any)
	if !ok || !ok2 {
		return !ok && !ok2 && x == y
	}
	for key := range m {
		if w, ok := k[key]; !ok || !same(m[key], w) {
			return false
		}
	}
	return len(m) == len(k)
}

// object makes a document of up to three fields, at most depth levels deep.
func (g generator) object(depth int) any {
	m := map[string]any{}
	for _, k := range []string{"a", "b", "c"} {
		switch g.IntN(9) {
		case 0:
			m[k] = nil
		case 1:
			m[k] = g.IntN(2) == 0
		case 2:
			m[k] = float64(g.IntN(4)) / 2
		case 3:
			m[k] = g.pick("", "1", "x")
		case 4, 5, 6:
			if depth > 0 {
				m[k] = g.object(depth - 1)
			}
		}
	}
	return m
}
