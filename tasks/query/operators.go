package query

import (
	"math"
	"math/bits"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// unary compiles not, - and +.
func (c *compiler) unary(n *ast.UnaryNode) term {
	if n.Operator == "not" || n.Operator == "!" {
		f := c.condition(n.Node)
		return term{kind: boolean, eval: func(e *env) value { return not(f(e)) }}
	}
	t := c.typed(n.Node, integer)
	if n.Operator == "+" {
		return t
	}
	negate := term{kind: integer, eval: arithmetic("-", n, constant(integerOf(0)), t)}
	if t.constant { // so that -1 is a constant too
		return constant(negate.eval(&env{}))
	}
	return negate
}

// not turns a boolean around.
func not(v value) value {
	if v.kind == boolean {
		v.num ^= 1
	}
	return v
}

// binary compiles an operator with two operands.
func (c *compiler) binary(n *ast.BinaryNode) term {
	switch op := n.Operator; op {
	case "and", "&&":
		return c.junction(operands(n, isAnd), false)
	case "or", "||":
		c.complex = true
		return c.junction(operands(n, isOr), true)
	case "==", "!=":
		c.refuseNot(n)
		return c.equality(n)
	case "<", "<=", ">", ">=":
		c.refuseNot(n)
		return c.order(n)
	case "in":
		c.refuseNot(n)
		return c.in(n)
	case "contains", "startsWith", "endsWith":
		c.refuseNot(n)
		return c.texts(n)
	case "matches":
		c.refuseNot(n)
		return c.matches(n)
	case "??":
		return c.coalesce(n)
	case "+":
		return c.plus(n)
	case "-", "*", "/", "%", "**", "^":
		a, b := c.typed(n.Left, integer), c.typed(n.Right, integer)
		return term{kind: integer, eval: arithmetic(op, n, a, b)}
	case "..":
		c.fail(n, "ranges are not available; write data.n >= 1 and data.n <= 9")
	default:
		c.fail(n, "operator %s is not available", op)
	}
	return constant(truthOf(false))
}

// refuseNot refuses what reads as the opposite of a comparison and is not.
func (c *compiler) refuseNot(n *ast.BinaryNode) {
	if u, ok := n.Left.(*ast.UnaryNode); ok && (u.Operator == "not" || u.Operator == "!") {
		what := source(&ast.BinaryNode{Operator: n.Operator, Left: u.Node, Right: n.Right})
		c.fail(u, "%s binds tighter than %s; write %s(%s)", u.Operator, n.Operator, strings.Replace(u.Operator, "not", "not ", 1), what)
	}
}

// pair is two operands, of which the right one is often constant.
type pair struct{ left, right term }

// eval evaluates both; ok is false if one is unknown, which is then v.
func (p *pair) eval(e *env) (v, w value, ok bool) {
	if v = p.left.eval(e); v.kind == unknown {
		return v, w, false
	}
	if p.right.constant {
		return v, p.right.value, true
	}
	if w = p.right.eval(e); w.kind == unknown {
		return w, w, false
	}
	return v, w, true
}

// result returns b, or that there was more work than allowed.
func (e *env) result(b bool, node any) value {
	if e.steps < 0 {
		return because(exhausted, node)
	}
	return truthOf(b)
}

func (c *compiler) equality(n *ast.BinaryNode) term {
	a, b := c.compile(n.Left), c.compile(n.Right)
	if a.kind != b.kind && a.kind != anything && b.kind != anything && (a.kind != null && b.kind != null) {
		c.fail(n, "%s and %s, so they are never equal", isA(n.Left, a.kind), isA(n.Right, b.kind))
	}
	var node any = n
	p, want := pair{a, b}, n.Operator == "=="
	return term{kind: boolean, eval: func(e *env) value {
		v, w, ok := p.eval(e)
		if !ok {
			return v
		}
		return e.result(e.equal(v, w) == want, node)
	}}
}

// order compiles < and the like, of numbers or of texts.
func (c *compiler) order(n *ast.BinaryNode) term {
	a, b := c.compile(n.Left), c.compile(n.Right)
	for _, t := range []struct {
		node  ast.Node
		kind  kind
		other kind
	}{{n.Left, a.kind, b.kind}, {n.Right, b.kind, a.kind}} {
		switch {
		case t.kind != anything && t.kind != integer && t.kind != text:
			c.fail(n, "%s; %s compares numbers or strings", isA(t.node, t.kind), n.Operator)
		case t.kind != anything && t.other != anything && t.kind != t.other:
			c.fail(n, "%s and %s; %s compares two numbers or two strings", isA(n.Left, a.kind), isA(n.Right, b.kind), n.Operator)
		}
	}
	var less, same, more value // the answers
	switch n.Operator {
	case "<":
		less, same, more = truthOf(true), truthOf(false), truthOf(false)
	case "<=":
		less, same, more = truthOf(true), truthOf(true), truthOf(false)
	case ">":
		less, same, more = truthOf(false), truthOf(false), truthOf(true)
	case ">=":
		less, same, more = truthOf(false), truthOf(true), truthOf(true)
	}
	var node, leftNode, rightNode any = n, n.Left, n.Right
	p := pair{a, b}
	return term{kind: boolean, eval: func(e *env) value {
		v, w, ok := p.eval(e)
		switch {
		case !ok:
			return v
		case v.isNumber() && w.isNumber():
		case v.kind == text && w.kind == text:
			if !e.spend(min(len(v.text()), len(w.text())) / 256) {
				return because(exhausted, node)
			}
		case w.isOrdered() && !a.constant || !v.isOrdered():
			want := w.kind
			if !w.isOrdered() {
				want = integer
			}
			return wrongKind(leftNode, v.kind, want)
		default:
			return wrongKind(rightNode, w.kind, v.kind)
		}
		switch compare(v, w) {
		case -1:
			return less
		case 0:
			return same
		}
		return more
	}}
}

// in is membership: of a list, or of the keys of an object.
func (c *compiler) in(n *ast.BinaryNode) term {
	a, b := c.compile(n.Left), c.compile(n.Right)
	switch {
	case b.kind == text:
		c.fail(n, "%s; in wants a list or an object, for strings write contains", isA(n.Right, b.kind))
	case b.kind != anything && b.kind != list:
		c.fail(n, "%s; in wants a list or an object", isA(n.Right, b.kind))
	}
	var node, leftNode, rightNode any = n, n.Left, n.Right
	p := pair{a, b}
	return term{kind: boolean, eval: func(e *env) value {
		v, w, ok := p.eval(e)
		switch {
		case !ok:
			return v
		case w.kind == object && v.kind == text:
			_, is := get(w.ref, v.text())
			return truthOf(is)
		case w.kind == object:
			return wrongKind(leftNode, v.kind, text)
		case w.kind != list:
			return wrongKind(rightNode, w.kind, list)
		}
		is := false
		for i := 0; !is && i < w.len() && e.spend(1); i++ {
			if roles, ok := w.ref.(*[]string); ok { // without making an any of it
				is = v.kind == text && v.text() == (*roles)[i]
			} else {
				is = e.equalToJSON(v, w.at(i))
			}
		}
		return e.result(is, node)
	}}
}

// texts compiles contains, startsWith and endsWith.
func (c *compiler) texts(n *ast.BinaryNode) term {
	p := pair{c.text(n, n.Left), c.text(n, n.Right)}
	test := map[string]func(s, t string) bool{
		"contains": strings.Contains, "startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix,
	}[n.Operator]
	var node any = n
	return term{kind: boolean, eval: func(e *env) value {
		v, w, ok := p.eval(e)
		switch {
		case !ok:
			return v
		case !e.spend(len(v.text()) / 64):
			return because(exhausted, node)
		}
		return truthOf(test(v.text(), w.text()))
	}}
}

// text compiles an operand of n that is to be a text.
func (c *compiler) text(n *ast.BinaryNode, operand ast.Node) term {
	t := c.compile(operand)
	if t.kind == list {
		c.fail(n, `%s; %s compares strings, for lists write "x" in %s`, isA(operand, list), n.Operator, source(operand))
	}
	return c.typedTerm(operand, t, text)
}

// coalesce is a ?? b: b if a is missing or null.
func (c *compiler) coalesce(n *ast.BinaryNode) term {
	a, b := c.compile(n.Left), c.compile(n.Right)
	t := term{kind: a.kind, eval: func(e *env) value {
		v := a.eval(e)
		if v.kind == null || v.kind == unknown && v.cause() == missing {
			return b.eval(e)
		}
		return v
	}}
	if a.kind != b.kind {
		t.kind = anything
	}
	return t
}

// plus adds numbers or joins texts.
func (c *compiler) plus(n *ast.BinaryNode) term {
	a, b := c.compile(n.Left), c.compile(n.Right)
	if a.kind != text && b.kind != text && (a.kind != anything || b.kind != anything) {
		a, b = c.typedTerm(n.Left, a, integer), c.typedTerm(n.Right, b, integer)
		return term{kind: integer, eval: arithmetic("+", n, a, b)}
	}
	kind := anything
	if a.kind == text || b.kind == text {
		a, b = c.typedTerm(n.Left, a, text), c.typedTerm(n.Right, b, text)
		kind = text
	}
	var node, leftNode, rightNode any = n, n.Left, n.Right
	p := pair{a, b}
	return term{kind: kind, eval: func(e *env) value {
		v, w, ok := p.eval(e)
		switch {
		case !ok:
			return v
		case v.isNumber() && w.isNumber():
			return calculate("+", v, w, node)
		case !v.isOrdered():
			return wrongKind(leftNode, v.kind, integer)
		case v.kind != text || w.kind != text:
			return wrongKind(rightNode, w.kind, v.kind)
		case !e.spend((len(v.text()) + len(w.text())) / 16):
			return because(exhausted, node)
		}
		return textOf(v.text() + w.text())
	}}
}

// arithmetic evaluates op on two operands that are numbers.
func arithmetic(op string, n ast.Node, a, b term) eval {
	var node any = n
	p := pair{a, b}
	return func(e *env) value {
		v, w, ok := p.eval(e)
		if !ok {
			return v
		}
		return calculate(op, v, w, node)
	}
}

// calculate returns v op w, both numbers. Whole numbers stay whole but for / and
// **; what does not fit is unknown.
func calculate(op string, v, w value, node any) value {
	if v.kind == integer && w.kind == integer {
		a, b := v.int(), w.int()
		switch op {
		case "+":
			if s := a + b; (s > a) == (b > 0) {
				return integerOf(s)
			}
			return because(outOfRange, node)
		case "-":
			if s := a - b; (s < a) == (b > 0) {
				return integerOf(s)
			}
			return because(outOfRange, node)
		case "*":
			if p, ok := multiply(a, b); ok {
				return integerOf(p)
			}
			return because(outOfRange, node)
		case "%":
			switch b {
			case 0:
				return because(divByZero, node)
			case -1: // which overflows for the smallest a
				return integerOf(0)
			}
			return integerOf(a % b)
		}
	}
	a, b := v.float(), w.float()
	var f float64
	switch op {
	case "+":
		f = a + b
	case "-":
		f = a - b
	case "*":
		f = a * b
	case "/":
		if b == 0 {
			return because(divByZero, node)
		}
		f = a / b
	case "%":
		if b == 0 {
			return because(divByZero, node)
		}
		f = math.Mod(a, b)
	default: // ** and ^
		f = math.Pow(a, b)
	}
	if f-f != 0 { // not finite
		return because(outOfRange, node)
	}
	return numberOf(f)
}

// multiply returns a*b, and whether it fits.
func multiply(a, b int64) (int64, bool) {
	if a == math.MinInt64 || b == math.MinInt64 {
		return a * b, a == 0 || b == 0 || a == 1 || b == 1
	}
	hi, lo := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
	return a * b, hi == 0 && lo <= math.MaxInt64
}
