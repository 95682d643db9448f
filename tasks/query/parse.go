package query

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// What a source may be. The parser calls itself for each nested bracket, so
// MaxSourceBytes is also what bounds its stack.
const (
	MaxSourceBytes = 4096
	MaxTerms       = 1000 // names, values, operators and calls
	MaxDepth       = 100  // levels of nesting; a chain of and, or, + or dots is one
)

// parse returns the syntax tree of src, of which walk has seen every node.
func parse(src string) (ast.Node, error) {
	switch {
	case len(src) > MaxSourceBytes:
		return nil, fmt.Errorf("query: %d bytes long; at most %d, split it or put a field into data to ask for", len(src), MaxSourceBytes)
	case !utf8.ValidString(src):
		return nil, errors.New("query: not valid UTF-8; retype it")
	case strings.TrimSpace(src) == "":
		return nil, errors.New(`query: empty; write a condition such as data.gpu == "a100"`)
	}
	tree, err := parser.Parse(src)
	if err != nil {
		var at *file.Error
		if !errors.As(err, &at) {
			return nil, errorAt(src, 0, err.Error())
		}
		return nil, errorAt(src, at.From, explainSyntax(at.Message))
	}
	c := &checker{source: src}
	c.walk(tree.Node, 1)
	if c.err != nil {
		return nil, c.err
	}
	return tree.Node, nil
}

// errorAt is the error of compiling about the character at index from of src.
func errorAt(src string, from int, what string) error {
	what = shorten(oneLine(what), 300)
	runes := []rune(src)
	from = min(max(from, 0), len(runes))
	before := string(runes[:from])
	column := from - utf8.RuneCountInString(before[:strings.LastIndexByte(before, '\n')+1]) + 1
	if line := strings.Count(before, "\n") + 1; line > 1 {
		return fmt.Errorf("query: line %d, column %d: %s", line, column, what)
	}
	return fmt.Errorf("query: column %d: %s", column, what)
}

// oneLine replaces what would break a line or hide in it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// A token, as the parser's messages name it.
var token = regexp.MustCompile(`^unexpected token \w+\("(.*)"\)$`)

// explainSyntax turns a message of the parser into one with a remedy.
func explainSyntax(m string) string {
	if t := token.FindStringSubmatch(m); t != nil {
		switch t[1] {
		case "=":
			return `unexpected "="; write == to compare`
		case "&":
			return `unexpected "&"; write and, or &&`
		case ")", "]", "}":
			return fmt.Sprintf("unexpected %q; it closes nothing, or a value is missing before it", t[1])
		}
		return fmt.Sprintf(`unexpected "%s"; join conditions with and or or, and put texts in quotes`, shorten(t[1], 40))
	}
	switch {
	case m == "unexpected token EOF", m == "unexpected end of expression":
		return "unexpected end: a value or a closing bracket is missing"
	case strings.HasPrefix(m, "literal not terminated"):
		return "a text without its closing quote; add it"
	case strings.HasPrefix(m, "Operator (") && strings.Contains(m, "??"):
		return "?? beside another operator; put it in parentheses, as in (data.n ?? 0) > 1"
	case strings.HasPrefix(m, "invalid integer literal"), strings.HasPrefix(m, "integer literal is too large"):
		return "an integer beyond 64 bits; write it with a decimal point to compare approximately"
	case strings.HasPrefix(m, "invalid float literal"), strings.HasPrefix(m, "float literal is too large"):
		return tooLarge
	case strings.HasPrefix(m, "invalid hex literal"), strings.HasPrefix(m, "invalid binary literal"), strings.HasPrefix(m, "invalid octal literal"):
		return "not a number of at most 64 bits; write it in decimal"
	case m == "expected name":
		return "a name is missing after the dot; for an index write data.list[0]"
	case strings.HasPrefix(m, "expected at least"):
		return "a condition is missing; write any(data.disks, .size > 100)"
	case strings.HasPrefix(m, "unrecognized character"):
		return m + `; put texts in straight quotes`
	case strings.HasPrefix(m, "compilation failed: expression exceeds"):
		return tooManyTerms
	}
	return m
}

const tooLarge = "a number out of range; the largest is about 1.8e308"

const tooManyTerms = "too many terms (at most 1000); test for membership of a list, or put a field into data to ask for"

// checker sees that a tree is within the limits and has only nodes that the
// compiler knows. The parser shares the middle of a < b < c between two nodes,
// so a small source can make a tree that is exponential to walk: whoever walks
// it later relies on terms having been counted here.
type checker struct {
	source string
	terms  int
	err    error // the first
}

func (c *checker) fail(n ast.Node, what string) {
	if c.err == nil {
		c.err = errorAt(c.source, n.Location().From, what)
	}
}

func (c *checker) walk(n ast.Node, depth int) {
	c.terms++
	switch {
	case c.err != nil:
		return
	case c.terms > MaxTerms:
		c.fail(n, tooManyTerms)
		return
	case depth > MaxDepth:
		c.fail(n, fmt.Sprintf("nested more than %d levels deep; simplify it", MaxDepth))
		return
	}
	below := func(nodes ...ast.Node) {
		for _, n := range nodes {
			c.walk(n, depth+1)
		}
	}
	switch n := n.(type) {
	case *ast.NilNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.StringNode, *ast.IdentifierNode, *ast.PointerNode:
	case *ast.UnaryNode:
		below(n.Node)
	case *ast.BinaryNode:
		c.walk(n.Left, depth)
		below(n.Right)
	case *ast.ChainNode:
		c.walk(n.Node, depth)
	case *ast.MemberNode:
		c.walk(n.Node, depth)
		below(n.Property)
	case *ast.ConditionalNode:
		below(n.Cond, n.Exp1, n.Exp2)
	case *ast.ArrayNode:
		below(n.Nodes...)
	case *ast.BuiltinNode:
		below(n.Arguments...)
	case *ast.PredicateNode:
		below(n.Node)
	case *ast.CallNode:
		if _, ok := n.Callee.(*ast.IdentifierNode); !ok {
			c.fail(n, `there are no methods; write an operator, as in name startsWith "a"`)
		}
		below(n.Arguments...)
	case *ast.SliceNode:
		c.fail(n, "slices are not available; index a list, or use filter")
	case *ast.MapNode, *ast.BytesNode:
		c.fail(n, "only texts, numbers, true, false, nil and [lists] can be written here")
	default: // variables and sequences
		c.fail(n, "variables and ; are not available; write one condition")
	}
}
