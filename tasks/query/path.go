package query

import (
	"slices"
	"unique"

	"github.com/expr-lang/expr/ast"
)

// step is one constant part of a path: a key, or the index of an item.
type step struct {
	key   string
	index int
	isKey bool
}

// path compiles a name, # or a member of anything. Constant steps are walked in
// one go.
func (c *compiler) path(n ast.Node) term {
	root, steps := split(n)
	t := c.root(root)
	if len(steps) > 0 {
		t = c.walk(n, root, t, steps)
	}
	if startsWithName(n) {
		c.fields = append(c.fields, field{name: source(n), eval: t.eval})
	}
	return t
}

// split takes the constant steps off the end of a path.
func split(n ast.Node) (root ast.Node, steps []step) {
	for {
		if chain, ok := n.(*ast.ChainNode); ok {
			n = chain.Node
			continue
		}
		m, ok := n.(*ast.MemberNode)
		if !ok {
			break
		}
		var s step
		switch p := m.Property.(type) {
		case *ast.StringNode:
			s = step{key: unique.Make(p.Value).Value(), isKey: true} // as fields has it
		case *ast.IntegerNode:
			s = step{index: p.Value}
		default:
			slices.Reverse(steps)
			return m, steps
		}
		steps, n = append(steps, s), m.Node
	}
	slices.Reverse(steps)
	return n, steps
}

// startsWithName reports whether n is a name or a path that starts with one.
func startsWithName(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return true
	case *ast.MemberNode:
		return startsWithName(n.Node)
	case *ast.ChainNode:
		return startsWithName(n.Node)
	}
	return false
}

// root compiles what split leaves.
func (c *compiler) root(n ast.Node) term {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return c.name(n)
	case *ast.PointerNode:
		return c.pointer(n)
	case *ast.MemberNode:
		return c.member(n)
	}
	return c.compile(n)
}

// name compiles one of a node's own names.
func (c *compiler) name(n *ast.IdentifierNode) term {
	var node any = n
	switch n.Value {
	case "name":
		return term{kind: text, eval: func(e *env) value { return value{kind: text, ref: &e.n.Name} }}
	case "role":
		return term{kind: list, eval: func(e *env) value { return value{kind: list, ref: &e.n.Role} }}
	case "slots":
		return term{kind: integer, eval: func(e *env) value { return integerOf(int64(e.n.Slots)) }}
	case "free":
		return term{kind: integer, eval: func(e *env) value { return integerOf(int64(e.n.Free)) }}
	case "data":
		return term{kind: anything, eval: func(e *env) value { return document(e, e.n.Data, node) }}
	case "facts":
		return term{kind: anything, eval: func(e *env) value { return document(e, e.n.Facts, node) }}
	}
	c.unknownName(n)
	return constant(value{kind: null})
}

// document returns the value of data or facts.
func document(e *env, x any, node any) value {
	if !e.n.Known {
		return because(notFetched, node)
	}
	return found(x, true, node)
}

// found returns the value of x if it was there.
func found(x any, ok bool, node any) value {
	if !ok {
		return because(missing, node)
	}
	v, ok := fromJSON(x)
	if !ok {
		return because(outOfRange, node)
	}
	return v
}

// pointer compiles # and #index, which the parser takes only in a condition on
// items.
func (c *compiler) pointer(n *ast.PointerNode) term {
	var node any = n
	switch n.Name {
	case "":
		return term{kind: anything, eval: func(e *env) value { return found(e.item, true, node) }}
	case "index":
		return term{kind: integer, eval: func(e *env) value { return integerOf(int64(e.index)) }}
	}
	c.fail(n, "unknown name #%s; write # for the item, or #index", shorten(n.Name, 40))
	return constant(value{kind: null})
}

// walk compiles constant steps from base, which is the term of root.
func (c *compiler) walk(n, root ast.Node, base term, steps []step) term {
	if base.kind != anything && base.kind != list || base.kind == list && steps[0].isKey {
		c.fail(n, "%s and has no fields", isA(root, base.kind))
	}
	var node any = n
	follow := func(x any) value {
		ok := true
		for i := 0; ok && i < len(steps); i++ {
			x, ok = steps[i].from(x)
		}
		return found(x, ok, node)
	}
	if id, ok := root.(*ast.IdentifierNode); ok && base.kind == anything { // data or facts: by far the most common, and the fastest
		facts := id.Value == "facts"
		return term{kind: anything, eval: func(e *env) value {
			if !e.n.Known {
				return because(notFetched, node)
			}
			if facts {
				return follow(e.n.Facts)
			}
			return follow(e.n.Data)
		}}
	}
	return term{kind: anything, eval: func(e *env) value {
		v := base.eval(e)
		if v.kind == unknown {
			return v
		}
		return follow(v.ref) // nil for what has no fields
	}}
}

// from takes the step from x; false says that it leads nowhere.
func (s *step) from(x any) (any, bool) {
	switch x := x.(type) {
	case fields:
		if s.isKey {
			return x.get(s.key)
		}
	case map[string]any:
		if s.isKey {
			y, ok := x[s.key]
			return y, ok
		}
	case []any:
		if !s.isKey && s.index < len(x) {
			return x[s.index], true
		}
	case *[]string:
		if !s.isKey && s.index < len(*x) {
			return (*x)[s.index], true
		}
	}
	return nil, false
}

// member compiles a step that is computed, as data.disks[data.boot]. Negative
// indexes count from the end.
func (c *compiler) member(m *ast.MemberNode) term {
	base, property := c.compile(m.Node), c.compile(m.Property)
	if k := base.kind; k != anything && k != list && k != object {
		c.fail(m, "%s and has no fields", isA(m.Node, k))
	}
	var node any = m
	return term{kind: anything, eval: func(e *env) value {
		v := base.eval(e)
		if v.kind == unknown {
			return v
		}
		p := property.eval(e)
		switch {
		case p.kind == unknown:
			return p
		case v.kind == object && p.kind == text:
			x, ok := get(v.ref, p.text())
			return found(x, ok, node)
		case v.kind == list && p.kind == integer:
			i, length := p.int(), int64(v.len())
			if i < 0 {
				i += length
			}
			if i >= 0 && i < length {
				return found(v.at(int(i)), true, node)
			}
		}
		return because(missing, node)
	}}
}

// has compiles has(path).
func (c *compiler) has(n *ast.CallNode) term {
	if len(n.Arguments) != 1 || !isPath(n.Arguments[0]) {
		c.fail(n, "has wants one field; write has(data.gpu)")
		return constant(truthOf(false))
	}
	f := c.compile(n.Arguments[0]).eval
	return term{kind: boolean, eval: func(e *env) value {
		v := f(e)
		switch {
		case v.kind != unknown:
			return truthOf(true)
		case v.cause() == missing:
			return truthOf(false)
		}
		return v
	}}
}

// isPath reports whether n is a name, # or a member.
func isPath(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IdentifierNode, *ast.PointerNode, *ast.MemberNode:
		return true
	case *ast.ChainNode:
		return isPath(n.Node)
	}
	return false
}
