package js

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"

	"github.com/scagent/scagent/tasks"
)

// fileName is the name of the source in stacks.
const fileName = "task.js"

// maxNesting bounds how deep brackets nest in a source. The parser recurses,
// and a full stack would end the process.
const maxNesting = 2000

// Program is a compiled source. It never changes and may be evaluated by any
// number of goroutines.
type Program struct {
	code  *goja.Program
	shift int // columns of line 1 are too large by this
}

// SyntaxError says why a source is not JavaScript.
type SyntaxError struct {
	Line, Column int // from 1; the column in bytes
	Text         string
}

// Error is one line with the position.
func (e *SyntaxError) Error() string {
	return oneLine(fmt.Sprintf("SyntaxError: %s", e.Text)) + fmt.Sprintf(" (at line %d:%d)", e.Line, e.Column)
}

func (e *SyntaxError) compare(f *SyntaxError) int {
	return cmp.Or(cmp.Compare(e.Line, f.Line), cmp.Compare(e.Column, f.Column))
}

// Compile compiles a source of at most tasks.MaxSpecBytes: as an expression if
// it is one, since a function without a name is no program, else as a program.
// The error for what is not JavaScript is a *SyntaxError.
func Compile(source string) (p *Program, err error) {
	defer func() {
		if r := recover(); r != nil { // a defect of the compiler
			p, err = nil, errors.New(oneLine(fmt.Sprintf("the source cannot be compiled: %v", r)))
		}
	}()
	if len(source) > tasks.MaxSpecBytes {
		return nil, fmt.Errorf("the source takes %d bytes, at most %d; send data as arguments", len(source), tasks.MaxSpecBytes)
	}
	if err := checkNesting(source); err != nil {
		return nil, err
	}
	p, asExpression := compileExpression(source)
	if asExpression == nil {
		return p, nil
	}
	p, asProgram := compileProgram(source)
	switch {
	case asProgram == nil:
		return p, nil
	case asExpression.compare(asProgram) > 0: // what was meant is what is right for longer
		return nil, explain(source, asExpression)
	}
	return nil, explain(source, asProgram)
}

// compileExpression compiles the source as the only element of a list, and
// takes the list away again.
func compileExpression(source string) (*Program, *SyntaxError) {
	const before, after = "[", "\n]"
	source = strings.TrimRight(source, "; \t\r\n")
	tree, err := parse(before + source + after)
	if err != nil {
		switch lines := 1 + strings.Count(source, "\n"); {
		case err.Line > lines: // at what was added
			err = &SyntaxError{Line: lines, Column: len(source) - strings.LastIndexByte(source, '\n'), Text: "Unexpected end of input"}
		case err.Line == 1:
			err.Column -= len(before)
		}
		return nil, err
	}
	nothing := &SyntaxError{Line: 1, Column: 0, Text: "this is no expression"}
	if len(tree.Body) != 1 {
		return nil, nothing
	}
	statement, ok := tree.Body[0].(*ast.ExpressionStatement)
	if !ok {
		return nil, nothing
	}
	list, ok := statement.Expression.(*ast.ArrayLiteral)
	if !ok || len(list.Value) != 1 || list.Value[0] == nil {
		return nil, nothing
	}
	if _, spread := list.Value[0].(*ast.SpreadElement); spread {
		return nil, nothing
	}
	statement.Expression = list.Value[0]
	return compileTree(tree, len(before))
}

func compileProgram(source string) (*Program, *SyntaxError) {
	tree, err := parse(source)
	if err != nil {
		return nil, err
	}
	if len(tree.Body) == 0 {
		return nil, &SyntaxError{Line: 1, Column: 1, Text: "the source is empty; want a function"}
	}
	return compileTree(tree, 0)
}

// parse never follows a source map: that would read a file.
func parse(text string) (*ast.Program, *SyntaxError) {
	tree, err := parser.ParseFile(nil, fileName, text, 0, parser.WithDisableSourceMaps)
	if err == nil {
		return tree, nil
	}
	var list parser.ErrorList
	if errors.As(err, &list) && len(list) > 0 {
		return nil, at(list[0].Position, list[0].Message)
	}
	return nil, at(file.Position{Line: 1, Column: 1}, err.Error())
}

func compileTree(tree *ast.Program, shift int) (*Program, *SyntaxError) {
	code, failed := goja.CompileAST(tree, false)
	if failed == nil {
		return &Program{code: code, shift: shift}, nil
	}
	var syntax *goja.CompilerSyntaxError
	if !errors.As(failed, &syntax) || syntax.File == nil {
		return nil, at(file.Position{Line: 1, Column: 1}, failed.Error())
	}
	err := at(syntax.File.Position(syntax.Offset), syntax.Message)
	if err.Line == 1 {
		err.Column -= shift
	}
	return nil, err
}

func at(p file.Position, text string) *SyntaxError {
	return &SyntaxError{Line: p.Line, Column: p.Column, Text: text}
}

// checkNesting counts brackets wherever they stand, also in strings: nobody
// nests that deep.
func checkNesting(source string) error {
	depth, line, start := 0, 1, 0
	for i := range len(source) {
		switch source[i] {
		case '(', '[', '{':
			if depth++; depth > maxNesting {
				return &SyntaxError{Line: line, Column: i - start + 1, Text: fmt.Sprintf("brackets nest more than %d deep", maxNesting)}
			}
		case ')', ']', '}':
			depth = max(depth-1, 0)
		case '\n':
			line, start = line+1, i+1
		}
	}
	return nil
}
