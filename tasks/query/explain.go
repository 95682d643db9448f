package query

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Explain names at most mostReasons different reasons, and Why the values of at
// most mostReadings fields.
const (
	mostReasons  = 5
	mostReadings = 3
)

// Why says for people what q makes of n: "matches", "data.gpu is missing",
// "facts.cpus >= 2 is false (facts.cpus is 1)".
func (q *Query) Why(n *Node) string {
	cl, v := q.obstacle(n)
	switch {
	case cl == nil:
		return "matches"
	case v.kind == boolean:
		return source(cl.node) + " is false" + cl.readings(n)
	case cl.complex && !v.final():
		return source(cl.node) + " is unknown: " + v.sentence()
	}
	return v.sentence()
}

// Explain says for people, on one line, how many of nodes match, and why the
// others do not. what is what they are, such as "worker". Of each it counts the first operand of the topmost and that is
// not true. It takes about as long as Match on each node.
func (q *Query) Explain(what string, nodes []Node) string {
	if len(nodes) == 0 {
		return "there are no " + what + "s"
	}
	// What stands in the way is the same if the clause and the value are.
	type obstacle struct {
		clause *clause
		value  value
	}
	count := map[obstacle]int{}
	var order []obstacle // as found
	matches := 0
	for i := range nodes {
		cl, v := q.obstacle(&nodes[i])
		if cl == nil {
			matches++
			continue
		}
		if v.final() && v.cause() == notFetched {
			cl, v.ref = nil, nil // whatever it is that is not known yet
		}
		o := obstacle{cl, v}
		if count[o]++; count[o] == 1 {
			order = append(order, o)
		}
	}
	head := fmt.Sprintf("%d of %d %ss match", matches, len(nodes), what)
	if len(nodes) == 1 {
		head = fmt.Sprintf("%d of 1 %s matches", matches, what)
	}
	if matches == len(nodes) {
		return head
	}
	slices.SortStableFunc(order, func(a, b obstacle) int { return count[b] - count[a] })
	var reasons []string
	rest := len(nodes) - matches
	for i, o := range order {
		n := count[o]
		if i == mostReasons-1 && len(order) > mostReasons {
			reasons = append(reasons, fmt.Sprintf("%d for other reasons", rest))
			break
		}
		rest -= n
		if o.clause == nil {
			reasons = append(reasons, plural(n, "1 document", "%d documents")+" not fetched yet")
			continue
		}
		reasons = append(reasons, o.clause.reason(n, o.value))
	}
	return head + ": " + strings.Join(reasons, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(many, n)
}

// obstacle returns the first clause that is not true of n and its value, or nil.
func (q *Query) obstacle(n *Node) (*clause, value) {
	e := newEnv(n)
	defer e.free()
	for i := range q.clauses {
		if v := q.clauses[i].eval(e); !v.isTrue() {
			return &q.clauses[i], v
		}
	}
	return nil, value{}
}

// reason says that n nodes have v, which is not true, for cl: "2 have no data.gpu".
func (cl *clause) reason(n int, v value) string {
	have := plural(n, "1 has ", "%d have ")
	switch {
	case v.kind == boolean:
		return have + source(cl.node) + " false"
	case cl.complex:
		return have + source(cl.node) + " unknown (" + v.sentence() + ")"
	}
	what := source(v.node())
	switch v.cause() {
	case missing:
		return have + "no " + what
	case mismatch:
		return have + what + " as " + v.got().String() + ", not " + v.want().String()
	}
	return have + source(cl.node) + " unknown (" + v.sentence() + ")"
}

// sentence says why v is unknown.
func (v value) sentence() string {
	if v.cause() == notFetched {
		return "its document is not fetched yet"
	}
	what := source(v.node())
	switch v.cause() {
	case missing:
		return what + " is missing"
	case mismatch:
		return what + " is " + v.got().String() + ", not " + v.want().String()
	case divByZero:
		return what + " divides by zero"
	case outOfRange:
		return what + " is out of range"
	case badPattern:
		return what + " is not a valid pattern"
	case notNumeric:
		return what + " is not the text of a number"
	case badItem:
		return what + " has an item that is not a number"
	}
	return what + " is too much work"
}

// readings says what the fields that cl reads have in n: " (data.a is 1, data.b
// is 2)".
func (cl *clause) readings(n *Node) string {
	var all []string
	e := newEnv(n)
	defer e.free()
	for _, f := range cl.fields {
		v := f.eval(e)
		if v.kind == unknown {
			continue
		}
		is := f.name + " is " + v.show()
		if !slices.Contains(all, is) {
			all = append(all, is)
		}
		if len(all) == mostReadings {
			break
		}
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}

// show writes v, which is not unknown, as one would in a query, shortened.
func (v value) show() string {
	switch v.kind {
	case null:
		return "nil"
	case text:
		return strconv.Quote(shorten(v.text(), 40))
	}
	b, err := json.Marshal(v.json())
	if err != nil {
		return v.kind.String()
	}
	return shorten(oneLine(string(b)), 40)
}
