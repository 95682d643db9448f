package command

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/scagent/scagent/agent/api"
)

// mapInput is one input of map.
type mapInput struct {
	text  string
	seq   int    // from 1, among all inputs
	index uint32 // of its task: the number of -array, else seq-1
}

// replacements are the strings that stand for an input, and what for.
var replacements = []struct {
	name string
	of   func(in *mapInput) string
}{
	{"{}", func(in *mapInput) string { return in.text }},
	{"{.}", func(in *mapInput) string { return withoutExt(in.text) }},
	{"{/}", func(in *mapInput) string { return baseName(in.text) }},
	{"{//}", func(in *mapInput) string { return dirName(in.text) }},
	{"{/.}", func(in *mapInput) string { return withoutExt(baseName(in.text)) }},
	{"{#}", func(in *mapInput) string { return strconv.Itoa(in.seq) }},
}

func baseName(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

func withoutExt(s string) string {
	if i := strings.LastIndexByte(s, '.'); i > strings.LastIndexByte(s, '/') {
		return s[:i]
	}
	return s
}

// dirName is what is before the last slash. The path is not made simpler: what is a
// link on the worker is not known here.
func dirName(s string) string {
	trimmed := strings.TrimRight(s, "/")
	i := strings.LastIndexByte(trimmed, '/')
	switch {
	case i >= 0 && strings.TrimRight(trimmed[:i], "/") != "":
		return strings.TrimRight(trimmed[:i], "/")
	case i >= 0 || trimmed == "" && s != "":
		return "/"
	}
	return "."
}

// word is text with replacement strings in it.
type word []wordPart

// wordPart is text or, if of is not nil, a replacement.
type wordPart struct {
	text string
	of   func(in *mapInput) string
}

func parseWord(s string) word {
	var w word
	text := 0 // where it begins
	for i := 0; i < len(s); {
		n := 0
		for _, r := range replacements {
			if strings.HasPrefix(s[i:], r.name) {
				if text < i {
					w = append(w, wordPart{text: s[text:i]})
				}
				w, n = append(w, wordPart{of: r.of}), len(r.name)
				break
			}
		}
		if n == 0 {
			i++
			continue
		}
		i += n
		text = i
	}
	if text < len(s) {
		w = append(w, wordPart{text: s[text:]})
	}
	return w
}

// replaces reports whether the input is in it.
func (w word) replaces() bool {
	for _, p := range w {
		if p.of != nil {
			return true
		}
	}
	return false
}

// whole reports whether it is a replacement string and nothing else.
func (w word) whole() bool { return len(w) == 1 && w[0].of != nil }

// fill returns the text for an input. What replaces is passed through quote.
func (w word) fill(in *mapInput, quote func(string) string) string {
	if len(w) == 1 && w[0].of == nil {
		return w[0].text
	}
	var b strings.Builder
	for _, p := range w {
		if p.of == nil {
			b.WriteString(p.text)
		} else {
			b.WriteString(quote(p.of(in)))
		}
	}
	return b.String()
}

func asIs(s string) string { return s }

// quoteShell returns s as one word for sh.
func quoteShell(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_@%+=:,./-", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// taskTemplate makes the task of an input.
type taskTemplate struct {
	common api.TaskSpec // what all tasks have
	words  []word       // of the command, or the one line of -shell, or the arguments of a function
	name   string       // of the function, as the log of jobs shows it; empty for commands
}

// newTemplate makes a template of a task whose words have replacement strings. With
// add, the input is appended where there is none.
func newTemplate(t api.TaskSpec, operands []string, add bool) *taskTemplate {
	p := &taskTemplate{common: t}
	switch {
	case t.Shell != "":
		operands = []string{t.Shell}
	case t.Source != "":
		p.name = "-js"
	case t.Name != "":
		p.name = "-func " + t.Name
	}
	found := false
	for _, o := range operands {
		w := parseWord(o)
		if p.name != "" && !w.whole() {
			w = word{{text: o}} // JSON has braces of its own
		}
		found = found || w.replaces()
		p.words = append(p.words, w)
	}
	switch {
	case found || !add:
	case t.Shell != "":
		p.words[0] = append(p.words[0], parseWord(" {}")...)
	default:
		p.words = append(p.words, parseWord("{}"))
	}
	return p
}

// task returns the task of an input.
func (p *taskTemplate) task(in *mapInput) *api.BatchTask {
	t := &api.BatchTask{Index: &in.index, TaskSpec: p.common}
	switch {
	case t.Shell != "":
		t.Shell = p.words[0].fill(in, quoteShell)
	case p.name != "":
		t.Args = p.args(in)
	default:
		t.Argv = make([]string, len(p.words))
		for i, w := range p.words {
			t.Argv[i] = w.fill(in, asIs)
		}
	}
	return t
}

// args are the arguments of a function. An input that is JSON is that value, another
// one a string.
func (p *taskTemplate) args(in *mapInput) []json.RawMessage {
	args := make([]json.RawMessage, len(p.words))
	for i, w := range p.words {
		s := w.fill(in, asIs)
		if args[i] = json.RawMessage(s); !json.Valid(args[i]) {
			args[i] = jsonString(s)
		}
	}
	return args
}

// line returns what the task of an input runs, as a line for a shell.
func (p *taskTemplate) line(in *mapInput) string {
	t := p.task(in)
	var words []string
	switch {
	case t.Shell != "":
		return t.Shell
	case p.name != "":
		words = append(words, p.name)
		for _, a := range t.Args {
			words = append(words, quoteShell(string(a)))
		}
	default:
		for _, a := range t.Argv {
			words = append(words, quoteShell(a))
		}
	}
	return strings.Join(words, " ")
}
