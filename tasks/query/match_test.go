package query

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
)

// testNode is what the tables ask of.
func testNode(tb testing.TB) *Node {
	return &Node{
		Name: "n1", Role: []string{"worker", "master"}, Slots: 4, Free: 2, Known: true,
		Data: decode(tb, `{
			"gpu": "a100", "n": 3, "half": 0.5, "zero": 0, "ssd": true, "hdd": false, "none": null, "text": "42", "empty": "",
			"big": 9007199254740993, "max": 9223372036854775807, "min": -9223372036854775808, "one": 1.0, "exp": 1e2,
			"huge": 1e999, "over": 18446744073709551615,
			"list": [1, 2, 3], "names": ["a", "b"], "nothing": [], "mixed": [1, "a", null], "deep": [[1, {"x": [2]}]],
			"disks": [{"size": 10, "kind": "ssd"}, {"kind": "hdd"}, {"size": 200, "kind": "ssd"}],
			"object": {"a": {"b": 1}, "list": [1, 2]}, "my.key": 7, "": 8, "früh": 1, "in": 5, "pattern": "^n[0-9]$", "bad": "(", "index": 1, "wide": [1, 1e999]
		}`, true),
		Facts: decode(tb, `{"cpus": 8, "os": "linux", "n": 3, "big": 9007199254740993}`, false),
	}
}

// packed returns n with its documents from Decode.
func packed(tb testing.TB, n *Node) *Node {
	p := *n
	for _, doc := range []*any{&p.Data, &p.Facts} {
		b, err := json.Marshal(*doc)
		if err != nil {
			tb.Fatal(err)
		}
		*doc = Decode(b)
	}
	return &p
}

// An object of many fields is searched, one of few is looked through.
func TestManyFields(t *testing.T) {
	for _, count := range []int{0, 1, fewFields, fewFields + 1, 1000} {
		m := map[string]any{}
		for i := range count {
			m[fmt.Sprint("k", i)] = i
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		packed := Decode(b).(fields)
		for i := range count + 1 {
			v, ok := packed.get(fmt.Sprint("k", i))
			if ok != (i < count) || ok && v != int64(i) {
				t.Errorf("of %d fields, k%d = %v, %t", count, i, v, ok)
			}
		}
	}
}

func TestMatch(t *testing.T) {
	n := testNode(t)
	for _, c := range []struct {
		name, source string
		want         Truth
	}{
		// A node's own names.
		{"name", `name == "n1"`, True},
		{"name pattern", `name matches "^n"`, True},
		{"name pattern not", `name not matches "^n"`, False},
		{"role in", `"worker" in role`, True},
		{"role not in", `"tracker" not in role`, True},
		{"role index", `role[1] == "master"`, True},
		{"role equals list", `role == ["worker", "master"]`, True},
		{"role any", `any(role, # startsWith "mas")`, True},
		{"role out of range", `role[9] == "master"`, Unknown},
		{"free", `free > 0`, True},
		{"slots and free", `slots - free == 2`, True},
		{"always true", `true`, True},
		{"always false", `false`, False},

		// Fields.
		{"data", `data.gpu == "a100"`, True},
		{"facts", `facts.cpus >= 8`, True},
		{"quoted key", `data["gpu"] == 'a100'`, True},
		{"dot in key", `data["my.key"] == 7`, True},
		{"empty key", `data[""] == 8`, True},
		{"unicode key", `data.früh == 1`, True},
		{"operator as key", `data.in == 5`, True},
		{"nested", `data.object.a.b == 1`, True},
		{"index", `data.list[0] == 1`, True},
		{"index of the last", `data.list[-1] == 3`, True},
		{"computed index", `data.list[data.index] == 2`, True},
		{"computed key", `data["g" + "pu"] == "a100"`, True},
		{"optional chain", `data?.object?.a.b == 1`, True},
		{"bare true", `data.ssd`, True},
		{"bare false", `data.hdd`, False},
		{"bare negated", `not data.hdd`, True},

		// What is missing is unknown.
		{"missing", `data.x == 1`, Unknown},
		{"missing differs", `data.x != 1`, Unknown},
		{"missing ordered", `data.x > 1`, Unknown},
		{"missing in", `data.x in [1]`, Unknown},
		{"missing not in", `data.x not in [1]`, Unknown},
		{"in missing", `1 in data.x`, Unknown},
		{"missing contains", `data.x contains "a"`, Unknown},
		{"missing startsWith", `data.x startsWith "a"`, Unknown},
		{"missing endsWith", `data.x endsWith "a"`, Unknown},
		{"missing matches", `data.x matches "a"`, Unknown},
		{"missing is not nil", `data.x == nil`, Unknown},
		{"missing bare", `data.x`, Unknown},
		{"missing both", `data.x == data.y`, Unknown},
		{"missing in arithmetic", `data.x + 1 == 1`, Unknown},
		{"missing in a list", `1 in [1, data.x]`, Unknown},
		{"missing intermediate", `data.x.y.z == 1`, Unknown},
		{"field of a text", `data.gpu.x == 1`, Unknown},
		{"field of a number", `data.n.x.y == 1`, Unknown},
		{"field of null", `data.none.x == 1`, Unknown},
		{"field of a list", `data.list.x == 1`, Unknown},
		{"index of an object", `data.object[0] == 1`, Unknown},
		{"index of a text", `data.gpu[0] == "a"`, Unknown},
		{"out of range", `data.list[3] == 1`, Unknown},
		{"far out of range", `data.list[999999999] == 1`, Unknown},
		{"far below", `data.list[-4] == 1`, Unknown},
		{"index not whole", `data.list[data.half] == 1`, Unknown},
		{"missing index", `data.list[data.x] == 1`, Unknown},

		// has and ??.
		{"has", `has(data.gpu)`, True},
		{"has not", `has(data.x)`, False},
		{"not has", `not has(data.x)`, True},
		{"has nested", `has(data.object.a.b)`, True},
		{"has below a scalar", `has(data.n.x)`, False},
		{"has missing intermediate", `has(data.x.y)`, False},
		{"has null", `has(data.none)`, True},
		{"has quoted", `has(data["my.key"])`, True},
		{"has index", `has(data.list[2]) and not has(data.list[3])`, True},
		{"has computed index", `has(data.list[data.index]) and not has(data.list[data.x])`, True},
		{"has in items", `count(data.disks, has(.size)) == 2`, True},
		{"coalesce missing", `(data.x ?? 5) == 5`, True},
		{"coalesce null", `(data.none ?? 5) == 5`, True},
		{"coalesce present", `(data.n ?? 5) == 3`, True},
		{"coalesce twice", `(data.x ?? data.y ?? 5) == 5`, True},
		{"coalesce keeps other causes", `((data.gpu - 1) ?? 5) == 5`, Unknown},

		// null is a value.
		{"null", `data.none == nil`, True},
		{"null differs", `data.none != nil`, False},
		{"value is not null", `data.gpu != nil`, True},
		{"null is not zero", `data.none == 0`, False},
		{"null is not ordered", `data.none < 1`, Unknown},
		{"null is not boolean", `data.none`, Unknown},

		// Types.
		{"other types are not equal", `data.gpu == 3`, False},
		{"text is not its number", `data.text == 42`, False},
		{"ordering text and number", `data.gpu > 3`, Unknown},
		{"ordering number and text", `3 < data.gpu`, Unknown},
		{"ordering booleans", `data.ssd > data.hdd`, Unknown},
		{"text is not boolean", `data.gpu`, Unknown},
		{"not text", `not data.gpu`, Unknown},
		{"contains of a list", `data.names contains "a"`, Unknown},
		{"in a text", `"a" in data.gpu`, Unknown},
		{"text minus", `data.gpu - 1 == 0`, Unknown},
		{"text plus number", `data.gpu + 1 == 0`, Unknown},
		{"list plus number", `data.list + data.n == 0`, Unknown},
		{"text plus a field that is a number", `data.gpu + data.n == ""`, Unknown},
		{"text plus text", `data.gpu + "x" == "a100x"`, True},
		{"unknown plus unknown", `data.gpu + data.text == "a10042" and data.n + data.n == 6`, True},
		{"ordering texts", `data.gpu < "b"`, True},
		{"texts", `data.gpu contains "10" and data.gpu startsWith "a1" and data.gpu endsWith "00"`, True},
		{"not texts", `data.gpu not contains "x" and data.gpu not startsWith "x" and data.gpu not endsWith "x"`, True},

		// Numbers.
		{"1 is 1.0", `1 == 1.0`, True},
		{"field 1.0 is 1", `data.one == 1`, True},
		{"exponent", `data.exp == 100`, True},
		{"2^53+1", `data.big == 9007199254740993`, True},
		{"2^53+1 is not 2^53", `data.big == 9007199254740992`, False},
		{"2^53+1 beyond 2^53", `data.big > 9007199254740992.0`, True},
		{"2^53+1 decoded as float64", `facts.big == 9007199254740993`, False},
		{"integer and float64", `facts.big < data.big`, True},
		{"largest", `data.max == 9223372036854775807 and data.max > 9223372036854775806`, True},
		{"largest and a float above", `data.max < 9223372036854775808.0`, True},
		{"smallest and a float below", `data.min > -9223372036854775809e1`, True},
		{"beyond 64 bits is approximate", `data.over > data.max and data.over == 18446744073709551616.0`, True},
		{"fraction above", `2.5 > 2 and 2 < 2.5 and -2.5 < -2`, True},
		{"not a float64", `data.huge > 1`, Unknown},
		{"other bases", `0xff == 255 and 0b11 == 3 and 1_000 == 1000`, True},
		{"arithmetic", `data.n * 2 + 1 == 7 and data.n - 5 == -2 and data.n / 2 == 1.5 and data.n % 2 == 1 and data.n ** 2 == 9`, True},
		{"arithmetic of floats", `data.half + 1 == 1.5 and data.half * 2 == 1 and data.half - 1 == -0.5 and 2.5 % 1 == 0.5`, True},
		{"unary", `-data.n == -3 and +data.n == 3 and -data.half == -0.5`, True},
		{"division by zero", `data.n / data.zero > 1`, Unknown},
		{"division by literal zero", `1 / 0 == 1`, Unknown},
		{"remainder by zero", `data.n % data.zero == 1`, Unknown},
		{"remainder by float zero", `data.half % data.zero == 1`, Unknown},
		{"smallest remainder -1", `data.min % -1 == 0`, True},
		{"sum overflow", `data.max + 1 > 0`, Unknown},
		{"difference overflow", `data.min - 1 < 0`, Unknown},
		{"product overflow", `data.max * 2 > 0`, Unknown},
		{"product of the smallest", `data.min * -1 > 0`, Unknown},
		{"power overflow", `data.n ** 9999 > 0`, Unknown},
		{"negation overflow", `-data.min > 0`, Unknown},
		{"root of a negative", `(-1) ** 0.5 > 0`, Unknown},
		{"chain", `1 < data.n <= 3`, True},
		{"chain false", `1 < data.n < 3`, False},

		// Membership.
		{"in list", `data.gpu in ["a100", "h100"]`, True},
		{"in list of numbers", `data.one in [1, 2]`, True},
		{"in field", `"b" in data.names`, True},
		{"in mixed", `"a" in data.mixed and nil in data.mixed and 1 in data.mixed and 2 not in data.mixed`, True},
		{"in empty", `1 in data.nothing`, False},
		{"key in object", `"a" in data.object`, True},
		{"key not in object", `"z" in data.object`, False},
		{"number in object", `1 in data.object`, Unknown},
		{"computed list", `3 in [1, data.n]`, True},

		// Deep equality.
		{"list", `data.list == [1, 2, 3]`, True},
		{"list in list", `[1, 2] in [[1, 2], [3]]`, True},
		{"shorter list", `data.list == [1, 2]`, False},
		{"objects", `data.object == data.object and data.disks[0] != data.disks[1]`, True},
		{"deep list", `data.deep == data.deep`, True},

		// Patterns.
		{"computed pattern", `name matches data.pattern`, True},
		{"bad computed pattern", `name matches data.bad`, Unknown},
		{"pattern that is no text", `name matches data.n`, Unknown},
		{"exponential elsewhere", `"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab" matches "^(a+)+$"`, False},

		// Three values.
		{"false and unknown", `false and data.x == 1`, False},
		{"unknown and false", `data.x == 1 and false`, False},
		{"true and unknown", `true and data.x == 1`, Unknown},
		{"unknown and unknown", `data.x and data.y`, Unknown},
		{"true or unknown", `true or data.x == 1`, True},
		{"unknown or true", `data.x == 1 or true`, True},
		{"false or unknown", `false or data.x == 1`, Unknown},
		{"unknown or false", `data.x == 1 || false`, Unknown},
		{"not unknown", `not (data.x == 1)`, Unknown},
		{"nested false and unknown", `not (false && data.x == 1)`, True},
		{"nested true or unknown", `!(true || data.x == 1)`, False},
		{"comparing conditions", `(data.n == 3) == data.ssd`, True},
		{"comparing an unknown condition", `(data.x == 3) == data.ssd`, Unknown},

		// Conditionals.
		{"then", `data.ssd ? data.n == 3 : false`, True},
		{"else", `data.hdd ? false : true`, True},
		{"unknown condition", `data.x ? true : true`, Unknown},
		{"if", `if data.hdd { false } else if data.ssd { true } else { false }`, True},
		{"value", `(data.ssd ? data.n : "x") == 3`, True},
		{"missing in the other branch", `data.ssd ? true : data.x`, True},

		// Functions.
		{"len of a list", `len(data.list) == 3`, True},
		{"len of an object", `len(data.object) == 2`, True},
		{"len of a text counts characters", `len("früh") == 4`, True},
		{"len of a role", `len(role) == 2`, True},
		{"len of a number", `len(data.n) == 1`, Unknown},
		{"len of missing", `len(data.x) == 0`, Unknown},
		{"pipe", `data.list | len() == 3`, True},
		{"any", `any(data.disks, .size > 100)`, True},
		{"any with doubt", `any(data.disks, .size > 1000)`, Unknown},
		{"any with more doubt", `any(data.disks, .kind > 1)`, Unknown},
		{"one of missing", `one(data.x, # == 1)`, Unknown},
		{"any of none", `any(data.nothing, # > 1)`, False},
		{"any of missing", `any(data.x, # > 1)`, Unknown},
		{"any of a text", `any(data.gpu, # > 1)`, Unknown},
		{"all", `all(data.list, # > 0)`, True},
		{"all false with doubt", `all(data.disks, .size > 100)`, False},
		{"all with doubt", `all(data.disks, .size > 1)`, Unknown},
		{"all of none", `all(data.nothing, # > 1)`, True},
		{"none", `none(data.list, # > 3)`, True},
		{"none with doubt", `none(data.disks, .size > 1000)`, Unknown},
		{"none false", `none(data.disks, .size > 100)`, False},
		{"one", `one(data.list, # == 2)`, True},
		{"one of two", `one(data.list, # >= 2)`, False},
		{"one with doubt", `one(data.disks, .size > 100)`, Unknown},
		{"one of two with doubt", `one(data.disks, .size > 1)`, False},
		{"count leaves doubt out", `count(data.disks, .size > 1) == 2`, True},
		{"count of booleans", `count(map(data.list, # > 1)) == 2`, True},
		{"filter leaves doubt out", `len(filter(data.disks, .size > 1)) == 2`, True},
		{"filter and index", `filter(data.disks, .kind == "ssd")[1].size == 200`, True},
		{"map", `map(data.list, # * 2) == [2, 4, 6]`, True},
		{"map with doubt", `map(data.disks, .size) == [10]`, Unknown},
		{"map index", `map(data.names, #index) == [0, 1]`, True},
		{"sum", `sum(data.list) == 6`, True},
		{"sum of a term", `sum(filter(data.disks, has(.size)), .size) == 210`, True},
		{"sum with doubt", `sum(data.disks, .size) == 210`, Unknown},
		{"sum of mixed", `sum(data.mixed) == 1`, Unknown},
		{"sum of none", `sum(data.nothing) == 0`, True},
		{"nested loops", `any(data.list, any(data.names, # == "b") and # == 3)`, True},
		{"item after an inner loop", `all(data.list, len(filter(data.names, true)) == 2 and # <= 3 and #index < 3)`, True},
		{"min and max", `min(data.list) == 1 and max(data.list, 9) == 9 and max(data.n, data.half) == 3 and min(data.half, 1) == 0.5`, True},
		{"max of none", `max(data.nothing) > 0`, Unknown},
		{"max of mixed", `max(data.mixed) > 0`, Unknown},
		{"max of texts", `max(data.gpu) > 0`, Unknown},
		{"max of what is no float64", `max([1, 2]) == 2 and max(data.wide) > 1`, Unknown},
		{"abs", `abs(-3) == 3 and abs(data.n) == 3 and abs(-0.5) == data.half`, True},
		{"abs of the smallest", `abs(data.min) > 0`, Unknown},
		{"int of a text", `int(data.text) == 42`, True},
		{"int cuts off", `int(2.9) == 2 and int(-2.9) == -2`, True},
		{"int too large", `int(data.over) > 1`, Unknown},
		{"float of a text", `float("0.5") == data.half`, True},
		{"int of other text", `int(data.gpu) == 1`, Unknown},
		{"int of empty text", `int(data.empty) == 1`, Unknown},
		{"float of NaN", `float("NaN") > 1 or float("inf") > 1`, Unknown},
		{"int of a list", `int(data.list) == 1`, Unknown},
		{"texts of functions", `upper(data.gpu) == "A100" and lower("A") == "a" and trim(" a ") == "a"`, True},
		{"upper of a number", `upper(data.n) == "3"`, Unknown},
		{"comment", `data.n == 3 // and so on`, True},
		{"several lines", "data.n == 3\n\tand free > 0", True},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := Compile(c.source)
			if err != nil {
				t.Fatalf("Compile(%s): %v", c.source, err)
			}
			for _, n := range []*Node{n, packed(t, n)} {
				if got := q.Match(n); got != c.want {
					t.Errorf("%s = %v, want %v; %s", c.source, got, c.want, q.Why(n))
				}
				if got := q.Why(n); (got == "matches") != (c.want == True) {
					t.Errorf("Why of %s, which is %v, = %q", c.source, c.want, got)
				}
			}
		})
	}
}

func TestWithoutDocumentWhatTouchesItIsUnknown(t *testing.T) {
	n := &Node{Name: "n1", Role: []string{"worker"}, Slots: 1}
	for _, c := range []struct {
		source string
		want   Truth
	}{
		{`name == "n1"`, True},
		{`slots == 1`, True},
		{`data.x == 1`, Unknown},
		{`has(data.x)`, Unknown},
		{`not has(facts.x)`, Unknown},
		{`data == nil`, Unknown},
		{`(data.x ?? 1) == 1`, Unknown},
		{`name == "n2" and data.x == 1`, False},
		{`data.x == 1 and name == "n2"`, False},
		{`name == "n1" or data.x == 1`, True},
		{`count(role, # == data.x) == 0`, Unknown},
		{`len(filter(role, # == data.x)) == 0`, Unknown},
		{`none(role, # == data.x)`, Unknown},
		{`has(role[data.x])`, Unknown},
	} {
		q, err := Compile(c.source)
		if err != nil {
			t.Fatalf("Compile(%s): %v", c.source, err)
		}
		if got := q.Match(n); got != c.want {
			t.Errorf("%s of a node not fetched = %v, want %v", c.source, got, c.want)
		}
	}
}

func TestNodeWithoutData(t *testing.T) {
	for _, data := range []any{nil, "text", []any{}, map[string]any(nil)} {
		n := &Node{Known: true, Data: data}
		for source, want := range map[string]Truth{`data.x == 1`: Unknown, `has(data.x.y)`: False, `(data["x"] ?? 1) == 1`: True, `"a" in role`: False} {
			q, err := Compile(source)
			if err != nil {
				t.Fatalf("Compile(%s): %v", source, err)
			}
			if got := q.Match(n); got != want {
				t.Errorf("%s with data %#v = %v, want %v", source, data, got, want)
			}
		}
	}
}

func TestValuesThatJSONDoesNotMakeAreUnknown(t *testing.T) {
	n := &Node{Known: true, Data: map[string]any{"t": struct{}{}, "nan": math.NaN(), "i": 3, "l": int64(4)}}
	for source, want := range map[string]Truth{`data.t == 1`: Unknown, `data.nan == 1`: Unknown, `data.nan in [1]`: Unknown, `1 in [data.i, data.l, 1]`: True, `data.i + data.l == 7`: True} {
		q, err := Compile(source)
		if err != nil {
			t.Fatalf("Compile(%s): %v", source, err)
		}
		if got := q.Match(n); got != want {
			t.Errorf("%s = %v, want %v", source, got, want)
		}
	}
}

func TestScore(t *testing.T) {
	n := testNode(t)
	for _, c := range []struct {
		source string
		want   float64
	}{
		{`free`, 2},
		{`-data.n`, -3},
		{`data.half`, 0.5},
		{`data.ssd`, 1},
		{`data.hdd`, 0},
		{`data.x`, 0},
		{`data.gpu`, 0},
		{`data.gpu == "a100"`, 1},
		{`data.x == "a100"`, 0},
		{`data.n / data.zero`, 0},
		{`data.huge`, 0},
		{`data.gpu == "a100" ? 10 + free : free`, 12},
		{`len(data.list) * 2`, 6},
		{`data.n ** 9999`, 0},
	} {
		p, err := CompilePreference(c.source)
		if err != nil {
			t.Errorf("CompilePreference(%s): %v", c.source, err)
			continue
		}
		if got := p.Score(n); got != c.want {
			t.Errorf("Score of %s = %v, want %v", c.source, got, c.want)
		}
		if p.String() != c.source {
			t.Errorf("String() = %q, want %q", p.String(), c.source)
		}
	}
	for _, source := range []string{`name`, `role`, `nil`, `"x"`, `[1]`, ``, `gpu`} {
		if _, err := CompilePreference(source); err == nil || !strings.HasPrefix(err.Error(), "query: ") {
			t.Errorf("CompilePreference(%s) = %v, want an error", source, err)
		}
	}
}

func TestQueryIsSafeForConcurrentUse(t *testing.T) {
	const source = `any(data.disks, .size > 100) and name matches "^n" and data.gpu == "a100"`
	q, err := Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	n := testNode(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				if got := q.Match(n); got != True {
					t.Errorf("%s = %v, want true", source, got)
					return
				}
				q.Explain("worker", []Node{*n, {}})
			}
		})
	}
	wg.Wait()
}

func TestMatchDoesNotAllocate(t *testing.T) {
	q, err := Compile(`name != "x" and data.gpu == "a100" and facts.cpus >= 2 and "worker" in role and data.n in [1, 3]`)
	if err != nil {
		t.Fatal(err)
	}
	n := testNode(t)
	if q.Match(n) != True {
		t.Fatalf("%s: %s", q, q.Why(n))
	}
	if got := testing.AllocsPerRun(1000, func() { q.Match(n) }); got >= 1 {
		t.Errorf("Match allocates %v times", got)
	}
}

func TestTruthString(t *testing.T) {
	for truth, want := range map[Truth]string{Unknown: "unknown", False: "false", True: "true", 9: "Truth(9)"} {
		if got := truth.String(); got != want {
			t.Errorf("Truth(%d).String() = %q, want %q", uint8(truth), got, want)
		}
	}
}
