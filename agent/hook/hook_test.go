package hook_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/hook"
)

func TestHooksAreParsed(t *testing.T) {
	for _, c := range []struct{ name, in, pattern, command string }{
		{"a local event", "workerAvailable=./script", "workerAvailable", "./script"},
		{"a pattern", "build.**=echo", "build.**", "echo"},
		{"all", "**=logger -t x", "**", "logger -t x"},
		{"the first = counts", "a=X=1 y", "a", "X=1 y"},
		{"a line of its own", "a= b\nc ", "a", " b\nc "},
	} {
		h, err := hook.Parse(c.in)
		if err != nil || string(h.Pattern) != c.pattern || h.Command != c.command || h.String() != c.in {
			t.Errorf("%s: Parse(%q) = %q %q, %v, want %q %q", c.name, c.in, h.Pattern, h.Command, err, c.pattern, c.command)
		}
	}
}

func TestBadHooksAreOneLineEach(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", "there is no =; want NAME=COMMAND"},
		{"no command", "a", "there is no =; want NAME=COMMAND"},
		{"an empty command", "a=", "there is no command; want NAME=COMMAND"},
		{"a blank command", "a= \t\n", "there is no command; want NAME=COMMAND"},
		{"no name", "=x", "the pattern has 0 bytes"},
		{"a bad name", "a b=x", "not the name of an event"},
		{"a bad pattern", "a*=x", "* stands for a whole part"},
		{"a NUL", "a=x\x00", "there is a NUL in the command"},
	} {
		h, err := hook.Parse(c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: Parse(%q) = %q, %v, want one line with %q", c.name, c.in, h, err, c.want)
		}
	}
	if _, err := hook.Parse("a..b=x"); !errors.Is(err, bus.ErrBadName) {
		t.Errorf("Parse of a bad name = %v, want ErrBadName", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a=b", "a.**=x y", "=", "", "*=\x00", "a\n=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := hook.Parse(s)
		if err != nil {
			return
		}
		if h.String() != s || h.Check() != nil {
			t.Errorf("Parse(%q) = %q, %v", s, h, h.Check())
		}
		if _, err := bus.ParsePattern(string(h.Pattern)); err != nil {
			t.Errorf("Parse(%q) took the pattern %q: %v", s, h.Pattern, err)
		}
	})
}
