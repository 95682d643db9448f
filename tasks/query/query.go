package query

import "fmt"

// Node is what a query can ask of one node.
type Node struct {
	Name  string
	Role  []string
	Data  any  // from Decode, or as package json decodes: map[string]any, []any, string, float64 or json.Number, bool, nil
	Facts any  // likewise
	Slots int  // tasks it runs at once
	Free  int  // slots that are free now
	Known bool // false: Data and Facts have not been fetched, and what depends on them is unknown
}

// Truth is the answer of a query about one node. Only True matches.
type Truth uint8

// The three truth values.
const (
	Unknown Truth = 0
	False   Truth = 1
	True    Truth = 2
)

// String returns "unknown", "false" or "true".
func (t Truth) String() string {
	switch t {
	case Unknown:
		return "unknown"
	case False:
		return "false"
	case True:
		return "true"
	}
	return fmt.Sprintf("Truth(%d)", uint8(t))
}

// Query is a compiled predicate. It is constant, and safe for concurrent use.
type Query struct {
	source  string
	clauses []clause // the operands of its topmost and; at least one
}

// Compile compiles src, which must be boolean. Its errors are one line that says
// where the source is wrong and what to write instead.
func Compile(src string) (*Query, error) {
	root, err := parse(src)
	if err != nil {
		return nil, err
	}
	c := &compiler{source: src}
	clauses := c.clauses(root)
	if c.err != nil {
		return nil, c.err
	}
	return &Query{source: src, clauses: clauses}, nil
}

// String returns the source.
func (q *Query) String() string { return q.source }

// Match answers whether q is true of n. It does not change n.
func (q *Query) Match(n *Node) Truth {
	e := newEnv(n)
	defer e.free()
	result := True
	for i := range q.clauses {
		switch q.clauses[i].eval(e).truth() {
		case False:
			return False
		case Unknown:
			result = Unknown
		}
	}
	return result
}

// Preference is a compiled expression that ranks nodes. It is constant, and safe
// for concurrent use.
type Preference struct {
	source string
	eval   eval
}

// CompilePreference compiles src, which must be boolean or a number.
func CompilePreference(src string) (*Preference, error) {
	root, err := parse(src)
	if err != nil {
		return nil, err
	}
	c := &compiler{source: src}
	t := c.compile(root)
	if c.err == nil && t.kind != anything && t.kind != boolean && t.kind != integer {
		c.fail(root, "%s; a preference wants a number or a condition", isA(root, t.kind))
	}
	if c.err != nil {
		return nil, c.err
	}
	return &Preference{source: src, eval: t.eval}, nil
}

// String returns the source.
func (p *Preference) String() string { return p.source }

// Score ranks n, larger is sooner: a number counts as it is, true as 1, and all
// else, unknown too, as 0. It is never NaN or infinite.
func (p *Preference) Score(n *Node) float64 {
	e := newEnv(n)
	defer e.free()
	switch v := p.eval(e); v.kind {
	case boolean, integer, float:
		return v.float()
	}
	return 0
}
