package query

import (
	"cmp"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// kind is the type of a value, or what is known of a term's type when it is
// compiled. Of a term, integer says that it is a number of either kind.
type kind uint8

const (
	unknown kind = iota
	null
	boolean
	integer
	float
	text
	list
	object
	anything // of terms alone: known only when it is evaluated
)

var kindNames = [...]string{"unknown", "null", "a boolean", "a number", "a number", "a string", "a list", "an object", "anything"}

// String returns the kind with its article, as in "is a string".
func (k kind) String() string { return kindNames[k] }

// cause says why a value is unknown.
type cause uint8

const (
	missing    cause = iota // the field is not there
	notFetched              // the document is not there
	mismatch                // of the wrong kind
	divByZero
	outOfRange // arithmetic overflow, or not a finite number
	badPattern // of matches, computed
	notNumeric // int or float of a text that is none
	badItem    // min or max of a list that has more than numbers
	exhausted  // more work than maxSteps
)

// value is a JSON value, or unknown with its cause. It is passed by value and
// made without allocating.
type value struct {
	kind kind
	num  uint64 // boolean: 0 or 1; integer: an int64; float: its bits; unknown: cause | got<<8 | want<<16
	ref  any    // text: string or *string; list: []any or *[]string; object: fields or map[string]any; unknown: the ast.Node it is about
}

func truthOf(b bool) value {
	if b {
		return value{kind: boolean, num: 1}
	}
	return value{kind: boolean}
}

func integerOf(i int64) value  { return value{kind: integer, num: uint64(i)} }
func textOf(s string) value    { return value{kind: text, ref: s} }
func listOf(items []any) value { return value{kind: list, ref: items} }

// numberOf returns f, which is finite, as an integer if it is one that every
// float64 nearby can tell from its neighbours.
func numberOf(f float64) value {
	const exact = 1 << 53
	if f >= -exact && f <= exact {
		if i := int64(f); float64(i) == f {
			return integerOf(i)
		}
	}
	return value{kind: float, num: math.Float64bits(f)}
}

// because returns the unknown value of node.
func because(c cause, node any) value { return value{num: uint64(c), ref: node} }

// wrongKind returns the unknown value of node, which is got and not want.
func wrongKind(node any, got, want kind) value {
	return value{num: uint64(mismatch) | uint64(got)<<8 | uint64(want)<<16, ref: node}
}

func (v value) cause() cause   { return cause(v.num) }
func (v value) got() kind      { return kind(v.num >> 8) }
func (v value) want() kind     { return kind(v.num >> 16) }
func (v value) node() ast.Node { n, _ := v.ref.(ast.Node); return n }

// final reports whether v is unknown for a reason that no part of a query may
// take for an answer: more is to be learnt, or there was no time to.
func (v value) final() bool {
	return v.kind == unknown && (v.cause() == notFetched || v.cause() == exhausted)
}

func (v value) isTrue() bool    { return v.kind == boolean && v.num != 0 }
func (v value) isNumber() bool  { return v.kind == integer || v.kind == float }
func (v value) isOrdered() bool { return v.isNumber() || v.kind == text }
func (v value) int() int64      { return int64(v.num) }

func (v value) float() float64 {
	if v.kind == float {
		return math.Float64frombits(v.num)
	}
	return float64(int64(v.num))
}

// truth returns the answer that v, a boolean or unknown, is.
func (v value) truth() Truth {
	switch {
	case v.kind != boolean:
		return Unknown
	case v.num == 0:
		return False
	}
	return True
}

// fromJSON returns the value of x, or false if x is nothing that JSON has.
func fromJSON(x any) (value, bool) {
	switch y := x.(type) {
	case nil:
		return value{kind: null}, true
	case bool:
		return truthOf(y), true
	case string, *string:
		return value{kind: text, ref: x}, true
	case float64:
		return numberOf(y), y-y == 0 // finite
	case json.Number:
		return parseNumber(string(y))
	case []any, *[]string:
		return value{kind: list, ref: x}, true
	case fields, map[string]any:
		return value{kind: object, ref: x}, true
	case int:
		return integerOf(int64(y)), true
	case int64:
		return integerOf(y), true
	}
	return value{}, false
}

// parseNumber reads a JSON number; one that no float64 is near to is refused.
func parseNumber(s string) (value, bool) {
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return integerOf(i), true
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f-f != 0 {
		return value{}, false
	}
	return numberOf(f), true
}

// json returns v, which is not unknown, as fromJSON reads it.
func (v value) json() any {
	switch v.kind {
	case boolean:
		return v.num != 0
	case integer:
		return v.int()
	case float:
		return v.float()
	}
	return v.ref
}

// text returns the string of a text.
func (v value) text() string {
	if s, ok := v.ref.(string); ok {
		return s
	}
	return *v.ref.(*string)
}

// len returns the number of items of a list.
func (v value) len() int {
	if s, ok := v.ref.(*[]string); ok {
		return len(*s)
	}
	items, _ := v.ref.([]any)
	return len(items)
}

// at returns item i of a list.
func (v value) at(i int) any {
	if s, ok := v.ref.(*[]string); ok {
		return (*s)[i]
	}
	return v.ref.([]any)[i]
}

// compareNumbers compares exactly, whatever the kinds.
func compareNumbers(a, b value) int {
	switch {
	case a.kind == integer && b.kind == integer:
		return cmp.Compare(a.int(), b.int())
	case a.kind == float && b.kind == float:
		return cmp.Compare(a.float(), b.float())
	case a.kind == integer:
		return -compareNumbers(b, a)
	}
	f, i := a.float(), b.int()
	switch {
	case f >= 1<<63:
		return 1
	case f < -1<<63:
		return -1
	}
	whole := math.Trunc(f)
	if c := cmp.Compare(int64(whole), i); c != 0 {
		return c
	}
	return cmp.Compare(f, whole)
}

// compare orders two numbers or two texts.
func compare(a, b value) int {
	if a.kind == text {
		return strings.Compare(a.text(), b.text())
	}
	return compareNumbers(a, b)
}

// equal compares two values of any kind, lists and objects by their contents.
// The caller asks e whether it had to stop early.
func (e *env) equal(a, b value) bool {
	switch {
	case a.isNumber() && b.isNumber():
		return compareNumbers(a, b) == 0
	case a.kind != b.kind:
		return false
	}
	switch a.kind {
	case null:
		return true
	case boolean:
		return a.num == b.num
	case text:
		s, t := a.text(), b.text()
		return len(s) == len(t) && (len(s) < 256 || e.spend(len(s)/256)) && s == t
	case list:
		if a.len() != b.len() {
			return false
		}
		for i := range a.len() {
			if !e.equalJSON(a.at(i), b.at(i)) {
				return false
			}
		}
		return true
	}
	return count(a.ref) == count(b.ref) && each(a.ref, func(key string, v any) bool {
		w, ok := get(b.ref, key)
		return ok && e.equalJSON(v, w)
	})
}

func (e *env) equalJSON(x, y any) bool {
	a, ok := fromJSON(x)
	return ok && e.equalToJSON(a, y)
}

// equalToJSON takes a step, and fails when there are none left.
func (e *env) equalToJSON(v value, x any) bool {
	if !e.spend(1) {
		return false
	}
	w, ok := fromJSON(x)
	return ok && e.equal(v, w)
}
