package query

import "github.com/expr-lang/expr/ast"

// loop evaluates a term on each item of a list.
type loop struct {
	list eval
	each eval // with # set
	cost int  // steps for each item: the size of the term
	node any
}

// overItems compiles a function of a list and a term that is evaluated on each
// of its items; the parser has seen that there are two arguments, or one if that
// is enough.
func (c *compiler) overItems(n *ast.BuiltinNode) term {
	c.complex = true
	// For count and sum the second argument can be left out, and is # then.
	body := ast.Node(&ast.PointerNode{})
	body.SetLocation(n.Location())
	if len(n.Arguments) > 1 {
		body = n.Arguments[1].(*ast.PredicateNode).Node // as the parser makes it
	}
	size := &checker{source: c.source}
	size.walk(body, 0)
	l := &loop{list: c.typed(n.Arguments[0], list).eval, cost: size.terms, node: n}
	if n.Name == "map" || n.Name == "filter" {
		l.cost += 3 // a result is kept
	}
	fields := c.fields
	defer func() { c.fields = fields }() // what the body reads depends on the item
	switch n.Name {
	case "map":
		l.each = c.compile(body).eval
		return term{kind: list, eval: l.mapped}
	case "sum":
		l.each = c.typed(body, integer).eval
		return term{kind: integer, eval: l.sum}
	}
	l.each = c.condition(body)
	switch n.Name {
	case "count":
		return term{kind: integer, eval: l.count}
	case "filter":
		return term{kind: list, eval: l.filter}
	case "all":
		return term{kind: boolean, eval: l.all}
	case "one":
		return term{kind: boolean, eval: l.one}
	case "none":
		return term{kind: boolean, eval: func(e *env) value { return not(l.any(e)) }}
	}
	return term{kind: boolean, eval: l.any}
}

// run calls visit with what each says of each item, until it returns false. ok
// is false if that could not be done, because of what result says.
func (l *loop) run(e *env, visit func(item any, v value) bool) (result value, ok bool) {
	items := l.list(e)
	if items.kind == unknown {
		return items, false
	}
	item, index := e.item, e.index // of the loop around this one
	defer func() { e.item, e.index = item, index }()
	for i := range items.len() {
		if !e.spend(l.cost) {
			return because(exhausted, l.node), false
		}
		e.item, e.index = items.at(i), i
		if !visit(e.item, l.each(e)) {
			break
		}
	}
	return value{}, true
}

// any is the or of the items; all is the and.
func (l *loop) any(e *env) value { return l.junction(e, true) }
func (l *loop) all(e *env) value { return l.junction(e, false) }

func (l *loop) junction(e *env, stop bool) value {
	result := truthOf(!stop)
	why, ok := l.run(e, func(_ any, v value) bool {
		if v.kind == unknown && result.kind == unknown {
			return true // the first cause is as good
		}
		if v.kind == unknown || v.isTrue() == stop {
			result = v
		}
		return v.kind == unknown || v.isTrue() != stop
	})
	if !ok {
		return why
	}
	return result
}

// one is whether exactly one item is true.
func (l *loop) one(e *env) value {
	yes, doubt := 0, value{kind: null}
	why, ok := l.run(e, func(_ any, v value) bool {
		switch {
		case v.isTrue():
			yes++
		case v.kind == unknown:
			doubt = v
		}
		return yes < 2
	})
	switch {
	case !ok:
		return why
	case yes < 2 && doubt.kind == unknown:
		return doubt
	}
	return truthOf(yes == 1)
}

// chosen calls visit with the items that are true, and returns false if that
// cannot be known. An item that is unknown is not chosen, as a node is not.
func (l *loop) chosen(e *env, visit func(item any)) (value, bool) {
	var final value
	stopped := false
	why, ok := l.run(e, func(item any, v value) bool {
		if v.isTrue() {
			visit(item)
		}
		if v.final() {
			final, stopped = v, true
		}
		return !stopped
	})
	if ok && stopped {
		return final, false
	}
	return why, ok
}

func (l *loop) count(e *env) value {
	n := int64(0)
	if why, ok := l.chosen(e, func(any) { n++ }); !ok {
		return why
	}
	return integerOf(n)
}

func (l *loop) filter(e *env) value {
	var items []any
	if why, ok := l.chosen(e, func(item any) { items = append(items, item) }); !ok {
		return why
	}
	return listOf(items)
}

// gather is chosen for functions that need to know every item.
func (l *loop) gather(e *env, visit func(v value) value) (value, bool) {
	doubt := value{kind: null}
	why, ok := l.run(e, func(_ any, v value) bool {
		if v.kind != unknown {
			v = visit(v)
		}
		if v.kind == unknown {
			doubt = v
		}
		return v.kind != unknown
	})
	if ok && doubt.kind == unknown {
		return doubt, false
	}
	return why, ok
}

func (l *loop) mapped(e *env) value {
	var items []any
	if why, ok := l.gather(e, func(v value) value { items = append(items, v.json()); return v }); !ok {
		return why
	}
	return listOf(items)
}

func (l *loop) sum(e *env) value {
	total := integerOf(0)
	if why, ok := l.gather(e, func(v value) value { total = calculate("+", total, v, l.node); return total }); !ok {
		return why
	}
	return total
}
