package js

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dop251/goja"
)

const (
	maxLineBytes = 4 << 10 // of an error's line
	maxFrames    = 20      // of an error's stack that are shown

	frameStart = "\n    at " // ends what was thrown
)

// rejection is the error of a promise that was rejected.
type rejection struct {
	reason    goja.Value
	unhandled bool // it is not the one that was returned
}

func (e *rejection) Error() string { return "rejected: " + e.reason.String() }

// describe returns the line of an outcome, and the text for standard error, of
// an error that a script ended with.
func (e *evaluation) describe(err error) (line, stack string) {
	var head, frames string
	switch err := err.(type) { // not errors.As: to unwrap an Exception runs script
	case *goja.StackOverflowError:
		head, frames = fmt.Sprintf("RangeError: calls nest more than %d deep", MaxCalls), e.frames(err.Stack())
	case *goja.Exception:
		head, frames = e.thrown(err.Value(), err.Stack())
	case *rejection:
		head, frames = e.thrown(err.reason, nil)
		if err.unhandled {
			head = "unhandled rejection: " + head
		}
	default:
		return oneLine(err.Error()), ""
	}
	line = oneLine(head)
	if at := position.FindStringSubmatch(frames); at != nil {
		line += " (at line " + at[1] + ")"
	}
	return line, head + "\n" + frames
}

// thrown returns what was thrown, and the frames of where. It runs script: an
// error's name, message and stack may be anything.
func (e *evaluation) thrown(v goja.Value, stack []goja.StackFrame) (head, frames string) {
	if isError(v) {
		var text string
		if err := e.try(func() error { text = e.errorText(v.(*goja.Object)); return nil }); err != nil {
			return "an error that throws when it is read", e.frames(stack)
		}
		head, frames, there := strings.Cut(text, frameStart)
		if there {
			frames = frameStart[1:] + frames + "\n"
		}
		return head, frames
	}
	var text []byte
	if err := e.try(func() error { text = show(e, v); return nil }); err != nil {
		text = []byte(kindOf(v))
	}
	return "thrown: " + string(text), e.frames(stack)
}

// isError reports whether v was made by Error or what extends it.
func isError(v goja.Value) bool {
	o, ok := v.(*goja.Object)
	return ok && o.ExportType() != proxyType && o.ClassName() == "Error"
}

// errorText returns the stack of an error as Node writes it, without a line end.
func (e *evaluation) errorText(o *goja.Object) string {
	s, ok := o.Get("stack").(goja.String)
	if !ok {
		return hint(o.String())
	}
	head, frames, there := strings.Cut(e.tidy(s.String()), frameStart)
	if !there {
		return hint(head)
	}
	return hint(head) + frameStart + frames
}

// frames writes a stack.
func (e *evaluation) frames(stack []goja.StackFrame) string {
	var b bytes.Buffer
	for i := range stack {
		b.WriteString("\tat ")
		stack[i].Write(&b)
		b.WriteByte('\n')
	}
	if b.Len() == 0 {
		return ""
	}
	return e.tidy(b.String()) + "\n"
}

var (
	// frame is a place as the engine writes it: with the instruction after it.
	frame = regexp.MustCompile(`(\S+):(\d+):(\d+)\(\d+\)`)
	// position is the first place of the source itself.
	position = regexp.MustCompile(regexp.QuoteMeta(fileName) + `:(\d+:\d+)`)
	// undefined is the error for a name that nobody has defined.
	undefined = regexp.MustCompile(`^ReferenceError: (\w+) is not defined$`)
)

// tidy makes the engine's stack one as Node writes it.
func (e *evaluation) tidy(stack string) string {
	lines := strings.Split(strings.TrimRight(stack, "\n"), "\n")
	kept, frames := lines[:0], 0
	for _, l := range lines {
		if at, ok := strings.CutPrefix(l, "\tat "); ok {
			if frames++; frames > maxFrames {
				continue
			}
			l = "    at " + frame.ReplaceAllStringFunc(at, e.place)
		}
		kept = append(kept, l)
	}
	if frames > maxFrames {
		kept = append(kept, fmt.Sprintf("    ... and %d more", frames-maxFrames))
	}
	return strings.Join(kept, "\n")
}

// place drops the instruction, and puts right what the brackets that were added
// to the source did to its first line.
func (e *evaluation) place(s string) string {
	m := frame.FindStringSubmatch(s)
	column, _ := strconv.Atoi(m[3])
	if m[1] == fileName || strings.HasSuffix(m[1], "("+fileName) {
		if m[2] == "1" {
			column = max(column-e.shift, 1)
		}
	}
	return m[1] + ":" + m[2] + ":" + strconv.Itoa(column)
}

// absent are names that scripts from elsewhere count on.
var absent = map[string]string{
	"require": "modules", "module": "modules", "exports": "modules",
	"process": "processes", "Buffer": "Buffer; Uint8Array is there",
	"setTimeout": "timers", "setInterval": "timers", "setImmediate": "timers", "queueMicrotask": "timers",
	"clearTimeout": "timers", "clearInterval": "timers", "clearImmediate": "timers",
	"fetch": "network", "XMLHttpRequest": "network", "WebSocket": "network",
	"window": "browser", "document": "browser",
	"import": "modules", "export": "modules",
}

// hint says more about a name that is defined elsewhere.
func hint(head string) string {
	if m := undefined.FindStringSubmatch(head); m != nil && absent[m[1]] != "" {
		return fmt.Sprintf("ReferenceError: %s is not there in scagent's js: it has no %s", m[1], absent[m[1]])
	}
	return head
}

// explain says more about a syntax error at a word that is not understood here.
func explain(source string, err *SyntaxError) *SyntaxError {
	lines := strings.SplitN(source, "\n", err.Line+1)
	if err.Line > len(lines) || err.Column < 1 || err.Column > len(lines[err.Line-1]) {
		return err
	}
	for _, word := range []string{"import", "export"} {
		if strings.HasPrefix(lines[err.Line-1][err.Column-1:], word) {
			err.Text = fmt.Sprintf("%s is not there in scagent's js: it has no %s", word, absent[word])
		}
	}
	return err
}

// oneLine makes s a line of bounded length without control characters.
func oneLine(s string) string {
	if len(s) > maxLineBytes {
		s = s[:maxLineBytes] + "…"
	}
	s = strings.ToValidUTF8(strings.TrimSpace(s), "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
