package query

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
)

// functions lists what can be called, for the error about what cannot.
const functions = "has, len, any, all, none, one, count, filter, map, sum, min, max, abs, int, float, lower, upper and trim"

// call compiles a call of a function that is not one of expr's own.
func (c *compiler) call(n *ast.CallNode) term {
	name := n.Callee.(*ast.IdentifierNode).Value // as checker made sure
	if name == "has" {
		return c.has(n)
	}
	return c.noFunction(n, name)
}

func (c *compiler) noFunction(n ast.Node, name string) term {
	c.fail(n, "there is no function %s here; there are %s", shorten(name, 40), functions)
	return constant(value{kind: null})
}

// builtin compiles a call of a function that expr has, if it is one of ours.
func (c *compiler) builtin(n *ast.BuiltinNode) term {
	switch n.Name {
	case "any", "all", "none", "one", "count", "filter", "map", "sum":
		return c.overItems(n)
	case "min", "max":
		return c.extreme(n)
	case "len", "abs", "int", "float", "lower", "upper", "trim":
		if len(n.Arguments) != 1 {
			c.fail(n, "%s wants one argument, not %d", n.Name, len(n.Arguments))
			return constant(value{kind: null})
		}
		return c.single(n, n.Arguments[0])
	}
	return c.noFunction(n, n.Name)
}

// single compiles a function of one value.
func (c *compiler) single(n *ast.BuiltinNode, argument ast.Node) term {
	var node, of any = n, argument
	kind, f := integer, func(*env, value) value { return value{} }
	var t term
	switch n.Name {
	case "lower", "upper", "trim":
		change := map[string]func(string) string{"lower": strings.ToLower, "upper": strings.ToUpper, "trim": strings.TrimSpace}[n.Name]
		t, kind = c.typed(argument, text), text
		f = func(e *env, v value) value {
			if !e.spend(len(v.text()) / 16) {
				return because(exhausted, node)
			}
			return textOf(change(v.text()))
		}
	case "abs":
		t = c.typed(argument, integer)
		f = func(_ *env, v value) value {
			if v.float() < 0 {
				return calculate("-", integerOf(0), v, node)
			}
			return v
		}
	case "int", "float":
		t = c.compile(argument)
		f = func(_ *env, v value) value { return toNumber(v, n.Name == "int", of) }
	case "len":
		t = c.compile(argument)
		f = func(e *env, v value) value {
			switch v.kind {
			case list:
				return integerOf(int64(v.len()))
			case object:
				return integerOf(int64(count(v.ref)))
			case text:
				if !e.spend(len(v.text()) / 64) {
					return because(exhausted, node)
				}
				return integerOf(int64(utf8.RuneCountInString(v.text())))
			}
			return wrongKind(of, v.kind, list)
		}
	}
	switch k := t.kind; {
	case n.Name == "len" && (k == integer || k == boolean || k == null):
		c.fail(n, "%s; len wants a list, a string or an object", isA(argument, k))
	case (n.Name == "int" || n.Name == "float") && (k == list || k == boolean || k == null):
		c.fail(n, "%s; %s wants a number or a string", isA(argument, k), n.Name)
	}
	return term{kind: kind, eval: func(e *env) value {
		v := t.eval(e)
		if v.kind == unknown {
			return v
		}
		return f(e, v)
	}}
}

// toNumber reads a number, or the text of one; whole cuts off its fraction.
func toNumber(v value, whole bool, node any) value {
	if v.kind == text {
		n, ok := parseNumber(strings.TrimSpace(v.text()))
		if !ok {
			return because(notNumeric, node)
		}
		v = n
	}
	switch {
	case !v.isNumber():
		return wrongKind(node, v.kind, integer)
	case whole && v.kind == float:
		if f := math.Trunc(v.float()); math.Abs(f) < 1<<63 {
			return integerOf(int64(f))
		}
		return because(outOfRange, node)
	}
	return v
}

// extreme compiles min and max, of numbers and lists of numbers.
func (c *compiler) extreme(n *ast.BuiltinNode) term {
	sign := 1
	if n.Name == "min" {
		sign = -1
	}
	terms := make([]term, len(n.Arguments))
	for i, a := range n.Arguments {
		if terms[i] = c.compile(a); terms[i].kind != list {
			terms[i].eval = c.numberOrList(a, terms[i])
		}
	}
	if len(terms) == 0 {
		c.fail(n, "%s wants numbers or a list of them", n.Name)
	}
	var node any = n
	return term{kind: integer, eval: func(e *env) value {
		best := because(missing, node) // of an empty list
		better := func(v value) {
			if best.kind == unknown || sign*compareNumbers(v, best) > 0 {
				best = v
			}
		}
		for i, t := range terms {
			v := t.eval(e)
			switch v.kind {
			case unknown:
				return v
			case list:
				for j := range v.len() {
					x, ok := number(e, v.at(j), n.Arguments[i])
					if !ok {
						return x
					}
					better(x)
				}
			default:
				better(v)
			}
		}
		return best
	}}
}

// numberOrList returns t, known to be neither only when it is evaluated.
func (c *compiler) numberOrList(n ast.Node, t term) eval {
	if t.kind != anything && t.kind != integer {
		c.fail(n, "%s, and a number or a list of them is needed here", isA(n, t.kind))
	}
	var node any = n
	return func(e *env) value {
		v := t.eval(e)
		if v.kind == unknown || v.isNumber() || v.kind == list {
			return v
		}
		return wrongKind(node, v.kind, integer)
	}
}

// number returns an item of a list that is to be a number, or unknown and false.
func number(e *env, x any, node any) (value, bool) {
	if !e.spend(1) {
		return because(exhausted, node), false
	}
	v, ok := fromJSON(x)
	switch {
	case !ok:
		return because(outOfRange, node), false
	case !v.isNumber():
		return because(badItem, node), false
	}
	return v, true
}
