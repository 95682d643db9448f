package query

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct {
		name, source, want string
	}{
		{"empty", "", `query: empty; write a condition such as data.gpu == "a100"`},
		{"blank", " \t\n", `query: empty; write a condition`},
		{"too long", strings.Repeat("x", MaxSourceBytes+1), `query: 4097 bytes long; at most 4096`},
		{"a megabyte", strings.Repeat("true and ", 1<<17), `query: 1179648 bytes long; at most 4096`},
		{"100,000 brackets", strings.Repeat("(", 1e5), `query: 100000 bytes long; at most 4096`},
		{"4,000 brackets", strings.Repeat("(", 4000), `query: column 4000: unexpected end`},
		{"4,000 square brackets", strings.Repeat("[", 4000), `query: column 4000: unexpected end`},
		{"4,000 signs", strings.Repeat("-", 4000) + "1", `query: column 101: nested more than 100 levels deep`},
		{"deep lists", strings.Repeat("[", 200) + strings.Repeat("]", 200), `nested more than 100 levels deep`},
		{"deep conditions", strings.Repeat("true?", 500) + "1" + strings.Repeat(":1", 500), `nested more than 100 levels deep`},
		{"many terms", strings.Repeat("1+", 1000) + "1", `too many terms (at most 1000)`},
		{"exponential tree", strings.Repeat("0<(true?0:", 40) + "0" + strings.Repeat(")<1", 40), `too many terms (at most 1000)`},
		{"invalid UTF-8", "data.a == \"\xff\"", `query: not valid UTF-8`},
		{"NUL", "\x00", `query: column 1: unrecognized character`},
		{"curly quotes", "name == “n1”", `query: column 9: unrecognized character: U+201C '“'; put texts in straight quotes`},

		{"no operand", "data.gpu ==", `query: column 11: unexpected end: a value or a closing bracket is missing`},
		{"no closing bracket", "(data.a == 1", `query: column 12: unexpected end: a value or a closing bracket is missing`},
		{"no opening bracket", "data.a == 1)", `query: column 12: unexpected ")"; it closes nothing`},
		{"no closing quote", `name == "n1`, `query: column 12: a text without its closing quote; add it`},
		{"one equals sign", "data.a = 1", `query: column 8: unexpected "="; write == to compare`},
		{"one ampersand", "data.a & 1", `query: column 8: unexpected "&"; write and, or &&`},
		{"no and", "data.a data.b", `query: column 8: unexpected "data"; join conditions with and or or`},
		{"no name after dot", "data.[1]", `query: column 7: a name is missing after the dot`},
		{"second line", "true or\n  gpu", `query: line 2, column 3: unknown name gpu`},
		{"long token", "1 " + strings.Repeat("5", 4000), `query: column 3: unexpected "` + strings.Repeat("5", 39) + `…"; join`},
		{"long pattern", `name matches "` + strings.Repeat("(", 900) + `"`, `query: column 14: not a pattern as package regexp has them`},
		{"not ASCII before", `"ü" == gpu`, `query: column 8: unknown name gpu`},
		{"coalesce beside comparison", "data.a ?? 0 > 1", `query: column 13: ?? beside another operator; put it in parentheses`},
		{"no condition", "any(data.l)", `a condition is missing; write any(data.disks, .size > 100)`},

		{"unknown name", "gpu == 1", `query: column 1: unknown name gpu; write data.gpu or facts.gpu, or "gpu" for a text`},
		{"text without quotes", "data.gpu == a100", `query: column 13: unknown name a100; write data.a100 or facts.a100, or "a100" for a text`},
		{"unknown name in a path", "gpu.model == 1", `query: column 1: unknown name gpu; write data.gpu`},
		{"unknown name in has", "has(gpu)", `query: column 5: unknown name gpu; write data.gpu`},
		{"plural", `"x" in roles`, `query: column 8: unknown name roles; write role`},
		{"capital", "Data.x", `query: column 1: unknown name Data; write data`},
		{"null", "data.x == null", `query: column 11: unknown name null; write nil`},
		{"environment", "$env.data.x", `query: column 1: unknown name $env`},
		{"accumulator", "any(role, #acc == 1)", `unknown name #acc; write # for the item, or #index`},
		{"item outside", "# == 1", `query: column 1: unexpected "#"`},

		{"text is no condition", "name", `query: column 1: name is a string, and a boolean is needed here; compare it`},
		{"number is no condition", "free and true", `query: column 1: free is a number, and a boolean is needed here`},
		{"text and number never equal", "name == 1", `query: column 6: name is a string and 1 is a number, so they are never equal`},
		{"text and number not ordered", "name > 3", `query: column 6: name is a string and 3 is a number; > compares two numbers or two strings`},
		{"lists not ordered", "role > 3", `query: column 6: role is a list; > compares numbers or strings`},
		{"null not ordered", "data.a > nil", `query: column 8: nil is null; > compares numbers or strings`},
		{"contains of a list", `role contains "x"`, `query: column 6: role is a list; contains compares strings, for lists write "x" in role`},
		{"in a text", `"x" in name`, `query: column 5: name is a string; in wants a list or an object, for strings write contains`},
		{"in a number", `1 in 2`, `query: column 3: 2 is a number; in wants a list or an object`},
		{"text and number added", "name + 1 == 2", `query: column 8: 1 is a number, and a string is needed here`},
		{"texts multiplied", `name * 2 == 2`, `query: column 1: name is a string, and a number is needed here`},
		{"field of a text", "name.x == 1", `query: column 6: name is a string and has no fields`},
		{"field of a list", "role.x == 1", `query: column 6: role is a list and has no fields`},
		{"not binds tighter", "not data.a == 1", `query: column 1: not binds tighter than ==; write not (data.a == 1)`},
		{"! binds tighter", `!data.a in [1]`, `query: column 1: ! binds tighter than in; write !(data.a in [1])`},
		{"has of a value", "has(1)", `query: column 1: has wants one field; write has(data.gpu)`},
		{"has of nothing", "has()", `query: column 1: has wants one field`},
		{"has of two", "has(data.a, data.b)", `query: column 1: has wants one field`},
		{"len of nothing", "len() > 1", `query: column 1: len wants one argument, not 0`},
		{"len of a number", "len(free) > 1", `query: column 1: free is a number; len wants a list, a string or an object`},
		{"int of a list", "int(role) > 1", `query: column 1: role is a list; int wants a number or a string`},
		{"max of nothing", "max() > 1", `query: column 1: max wants numbers or a list of them`},
		{"max of a text", "max(name) > 1", `query: column 5: name is a string, and a number or a list of them is needed here`},
		{"any of a text", `any(name, # == "x")`, `query: column 5: name is a string, and a list is needed here`},
		{"integer too large", "data.a == 99999999999999999999", `an integer beyond 64 bits; write it with a decimal point`},
		{"number too large", "data.a == 1e999", `a number out of range; the largest is about 1.8e308`},
		{"bad hexadecimal", "data.a == 0x", `not a number of at most 64 bits; write it in decimal`},

		{"repeat", `repeat(name, 1000000) == "x"`, `query: column 1: there is no function repeat here; there are has, len,`},
		{"clock", "now() == now()", `query: column 1: there is no function now here`},
		{"reduce", "reduce(data.l, # + #acc, 0) > 1", `there is no function reduce here`},
		{"own function", "exec(name)", `query: column 1: there is no function exec here`},
		{"method", `name.startsWith("n")`, `there are no methods; write an operator, as in name startsWith "a"`},
		{"range", "data.a in 1..1000000000", `query: column 12: ranges are not available; write data.n >= 1 and data.n <= 9`},
		{"slice", "data.l[1:2] == [1]", `query: column 7: slices are not available`},
		{"map", "data.a == {a: 1}", `query: column 11: only texts, numbers, true, false, nil and [lists]`},
		{"bytes", "data.a == b'x'", `query: column 11: only texts, numbers, true, false, nil and [lists]`},
		{"variable", "let x = 1; x > 0", `variables and ; are not available; write one condition`},
		{"sequence", "true; false", `query: column 1: variables and ; are not available`},

		{"bad pattern", `name matches "("`, "query: column 14: not a pattern as package regexp has them: missing closing ): `(`"},
		{"pattern of another dialect", `name matches "(?=a)"`, "query: column 14: not a pattern as package regexp has them: invalid or unsupported Perl syntax"},
		{"large pattern", `name matches "(?:abcdefghij){1000}"`, "query: column 14: the pattern is too large; repeat less"},
		{"huge repetition", `name matches "(a{500}){500}"`, "query: column 14: not a pattern as package regexp has them: invalid repeat count"},
		{"pattern with a line break", "name matches \"(\\n\"", "query: column 14: not a pattern"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			q, err := Compile(c.source)
			if err == nil {
				t.Fatalf("Compile(%.80s) = %v, want an error with %q", c.source, q, c.want)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("Compile(%.80s): %v\nwant %s", c.source, err, c.want)
			}
			checkErrorText(t, err)
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("Compile(%.80s) took %v", c.source, took)
			}
		})
	}
}

// checkErrorText sees that err is one short line.
func checkErrorText(tb testing.TB, err error) {
	tb.Helper()
	s := err.Error()
	if !strings.HasPrefix(s, "query: ") || utf8.RuneCountInString(s) > 400 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		tb.Errorf("error %q, want one line of at most 400 printable characters with its prefix", s)
	}
}

func TestLongChainsAreOneLevel(t *testing.T) {
	for _, source := range []string{
		strings.Repeat("data.a or ", 200) + "true",
		strings.Repeat(`name == "n1234" or `, 200) + "true",
		strings.Repeat("true and ", 400) + "true",
		strings.Repeat("1 + ", 300) + "1 == 301",
		`(data` + strings.Repeat(".a", 300) + ` ?? 1) == 1`,
		strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000),
	} {
		q, err := Compile(source)
		if err != nil {
			t.Errorf("Compile(%.40s…): %v", source, err)
			continue
		}
		if got := q.Match(&Node{Known: true}); got != True {
			t.Errorf("%.40s… = %v, want true", source, got)
		}
		if q.String() != source {
			t.Errorf("String() = %.40s…, want the source", q.String())
		}
	}
}
