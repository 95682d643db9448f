package query

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// maxPatternSize bounds a pattern, with its repetitions written out: x{1000} is
// 1000 long. maxComputed bounds the bytes of one that comes from a document.
const (
	maxPatternSize = 5000
	maxComputed    = 256
)

var errPatternSize = errors.New("the pattern is too large; repeat less")

// pattern is a regular expression and what a byte of its subject costs at most.
type pattern struct {
	re   *regexp.Regexp
	size int
}

func compilePattern(s string) (*pattern, error) {
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, err
	}
	size := patternSize(tree)
	if size > maxPatternSize {
		return nil, errPatternSize
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, err
	}
	return &pattern{re: re, size: size}, nil
}

// patternSize returns about how many instructions re is. The parser lets nested
// repetitions multiply to 1000 at most.
func patternSize(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)
	if re.Op == syntax.OpCharClass {
		size = 1
	}
	for _, sub := range re.Sub {
		size += patternSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 0) + 1
	}
	return size
}

// match takes as many steps as a search can need at worst: RE2's is linear in
// the subject, but linear in the pattern, too.
func (p *pattern) match(e *env, s string, node any) value {
	if !e.spend(len(s) * p.size / 4) {
		return because(exhausted, node)
	}
	return truthOf(p.re.MatchString(s))
}

// matches compiles a search with a pattern, which is compiled now if it can be.
func (c *compiler) matches(n *ast.BinaryNode) term {
	subject := c.text(n, n.Left)
	var node any = n
	if s, ok := n.Right.(*ast.StringNode); ok {
		p, err := compilePattern(s.Value)
		if err != nil {
			c.fail(n.Right, "%s", strings.Replace(err.Error(), "error parsing regexp: ", "not a pattern as package regexp has them: ", 1))
			return constant(truthOf(false))
		}
		return term{kind: boolean, eval: func(e *env) value {
			v := subject.eval(e)
			if v.kind == unknown {
				return v
			}
			return p.match(e, v.text(), node)
		}}
	}
	both := pair{subject, c.typed(n.Right, text)}
	var of any = n.Right
	return term{kind: boolean, eval: func(e *env) value {
		v, w, ok := both.eval(e)
		switch {
		case !ok:
			return v
		case len(w.text()) > maxComputed:
			return because(badPattern, of)
		case !e.spend(200 * len(w.text())):
			return because(exhausted, node)
		}
		p, err := compilePattern(w.text())
		if err != nil {
			return because(badPattern, of)
		}
		if !e.spend(p.size * 10) {
			return because(exhausted, node)
		}
		return p.match(e, v.text(), node)
	}}
}
