package query

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/expr-lang/expr/ast"
)

// maxSteps bounds the work on one node. A step is a small piece of work, of some
// 50 ns at most, and keeps at most some 32 bytes of memory. A term counts one for
// each item that it is evaluated on, and more if it reads long texts; outside
// any, filter and the like terms are not counted, since there are at most MaxTerms.
const maxSteps = 1 << 20

// env is what one evaluation works on. It belongs to one call of Match.
type env struct {
	n     *Node
	item  any // # in a condition on items, as fromJSON reads it
	index int // #index
	steps int // left
}

// envs saves an allocation for each node.
var envs = sync.Pool{New: func() any { return new(env) }}

// newEnv returns an env that the caller frees.
func newEnv(n *Node) *env {
	e := envs.Get().(*env)
	*e = env{n: n, steps: maxSteps}
	return e
}

func (e *env) free() {
	*e = env{}
	envs.Put(e)
}

// spend takes steps, and reports whether there were as many left.
func (e *env) spend(steps int) bool {
	e.steps -= steps
	return e.steps >= 0
}

// eval evaluates one term. It does not keep env.
type eval func(*env) value

// term is a compiled node of the tree.
type term struct {
	eval     eval
	kind     kind  // what eval returns when it is not unknown; integer stands for any number
	constant bool  // eval returns the same always,
	value    value // this
}

// clause is one operand of the topmost and.
type clause struct {
	node    ast.Node
	eval    eval
	fields  []field // that it reads, for explanations
	complex bool    // more than one comparison: whether a field is missing is not all there is to say
}

// field is a place in a node that a clause reads.
type field struct {
	name string
	eval eval
}

// compiler compiles a tree that parse has returned.
type compiler struct {
	source  string
	fields  []field // of the clause being compiled
	complex bool    // of the clause being compiled
	err     error   // the first
}

// fail keeps the first error. The compiler goes on, so that each of its
// functions returns a term, which is then never evaluated.
func (c *compiler) fail(n ast.Node, format string, args ...any) {
	if c.err == nil {
		c.err = errorAt(c.source, n.Location().From, fmt.Sprintf(format, args...))
	}
}

// isA says that n is of kind k.
func isA(n ast.Node, k kind) string { return fmt.Sprintf("%s is %s", source(n), k) }

// source returns n as one would write it, shortened.
func source(n ast.Node) string { return shorten(oneLine(n.String()), 80) }

func shorten(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// clauses compiles the operands of the topmost and.
func (c *compiler) clauses(root ast.Node) []clause {
	var all []clause
	for _, n := range operands(root, isAnd) {
		c.fields, c.complex = nil, false
		eval := c.condition(n)
		all = append(all, clause{node: n, eval: eval, fields: c.fields, complex: c.complex})
	}
	return all
}

func isAnd(op string) bool { return op == "and" || op == "&&" }
func isOr(op string) bool  { return op == "or" || op == "||" }

// operands returns the operands of a chain of operators, or n alone.
func operands(n ast.Node, is func(op string) bool) []ast.Node {
	if b, ok := n.(*ast.BinaryNode); ok && is(b.Operator) {
		return append(operands(b.Left, is), operands(b.Right, is)...)
	}
	return []ast.Node{n}
}

// constant is the term of a value that is known now.
func constant(v value) term {
	k := v.kind
	if k == float {
		k = integer
	}
	return term{eval: func(*env) value { return v }, kind: k, constant: true, value: v}
}

// compile returns the term of n.
func (c *compiler) compile(n ast.Node) term {
	switch n := n.(type) {
	case *ast.NilNode:
		return constant(value{kind: null})
	case *ast.BoolNode:
		return constant(truthOf(n.Value))
	case *ast.IntegerNode:
		return constant(integerOf(int64(n.Value)))
	case *ast.FloatNode:
		if math.IsInf(n.Value, 0) {
			c.fail(n, tooLarge)
		}
		return constant(numberOf(n.Value))
	case *ast.StringNode:
		return constant(textOf(n.Value))
	case *ast.IdentifierNode, *ast.PointerNode, *ast.MemberNode:
		return c.path(n)
	case *ast.ChainNode: // a?.b: a missing a needs no question mark
		return c.compile(n.Node)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.ArrayNode:
		return c.array(n)
	case *ast.CallNode:
		return c.call(n)
	case *ast.BuiltinNode:
		return c.builtin(n)
	}
	c.fail(n, "%s cannot be used here", source(n))
	return constant(value{kind: null})
}

// condition compiles n, which is to be boolean; a field that is something else
// is unknown.
func (c *compiler) condition(n ast.Node) eval { return c.typed(n, boolean).eval }

// typed compiles n, which is to be of kind want: the compiler refuses what can
// never be, and the term is unknown when it is not.
func (c *compiler) typed(n ast.Node, want kind) term { return c.typedTerm(n, c.compile(n), want) }

// typedTerm is typed of a node that has been compiled.
func (c *compiler) typedTerm(n ast.Node, t term, want kind) term {
	switch t.kind {
	case want:
		return t
	case anything:
	default:
		hint := ""
		if t.kind == text && want == boolean {
			hint = "; compare it, as in name == \"n1\""
		}
		c.fail(n, "%s, and %s is needed here%s", isA(n, t.kind), want, hint)
	}
	f := t.eval
	var node any = n
	return term{kind: want, eval: func(e *env) value {
		v := f(e)
		if v.kind == want || v.kind == unknown || v.kind == float && want == integer {
			return v
		}
		return wrongKind(node, v.kind, want)
	}}
}

// junction is and when stop is false, or when it is true: the first operand
// that is stop decides, else any that is unknown does.
func (c *compiler) junction(nodes []ast.Node, stop bool) term {
	evals := make([]eval, len(nodes))
	for i, n := range nodes {
		evals[i] = c.condition(n)
	}
	decides := truthOf(stop)
	return term{kind: boolean, eval: func(e *env) value {
		result := truthOf(!stop)
		for _, f := range evals {
			v := f(e)
			switch {
			case v.kind == unknown:
				if result.kind != unknown {
					result = v
				}
			case v.num == decides.num:
				return v
			}
		}
		return result
	}}
}

// conditional is cond ? a : b; it is unknown if cond is.
func (c *compiler) conditional(n *ast.ConditionalNode) term {
	c.complex = true
	cond, a, b := c.condition(n.Cond), c.compile(n.Exp1), c.compile(n.Exp2)
	t := term{kind: a.kind, eval: func(e *env) value {
		switch v := cond(e); {
		case v.kind == unknown:
			return v
		case v.isTrue():
			return a.eval(e)
		}
		return b.eval(e)
	}}
	if a.kind != b.kind {
		t.kind = anything
	}
	return t
}

// array is a list that is written out; it is unknown if one of its items is.
func (c *compiler) array(n *ast.ArrayNode) term {
	items := make([]term, len(n.Nodes))
	for i, node := range n.Nodes {
		items[i] = c.compile(node)
	}
	if !slices.ContainsFunc(items, func(t term) bool { return !t.constant }) {
		all := make([]any, len(items))
		for i, t := range items {
			all[i] = t.value.json()
		}
		return constant(listOf(all))
	}
	var node any = n
	return term{kind: list, eval: func(e *env) value {
		if !e.spend(len(items)) {
			return because(exhausted, node)
		}
		all := make([]any, len(items))
		for i, t := range items {
			v := t.eval(e)
			if v.kind == unknown {
				return v
			}
			all[i] = v.json()
		}
		return listOf(all)
	}}
}

// unknownName refuses a name that is not one of a node's.
func (c *compiler) unknownName(n *ast.IdentifierNode) {
	name := shorten(n.Value, 40)
	switch strings.ToLower(name) {
	case "roles":
		c.fail(n, "unknown name %s; write role", name)
	case "null", "none":
		c.fail(n, "unknown name %s; write nil", name)
	case "name", "role", "data", "facts", "slots", "free", "true", "false", "nil":
		c.fail(n, "unknown name %s; write %s", name, strings.ToLower(name))
	default:
		c.fail(n, "unknown name %[1]s; write data.%[1]s or facts.%[1]s, or \"%[1]s\" for a text", name)
	}
}
