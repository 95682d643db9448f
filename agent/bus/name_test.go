package bus

import (
	"errors"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for s, ok := range map[string]bool{
		"build": true, "build.done": true, "a-b_c.D9": true, strings.Repeat("x", MaxNameBytes): true,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false, "a b": false, "a\n": false, "ä": false,
		"a*": false, "*": false, "a/b": false, strings.Repeat("x", MaxNameBytes+1): false,
	} {
		if err := CheckName(s); (err == nil) != ok || err != nil && !errors.Is(err, ErrBadName) {
			t.Errorf("CheckName(%.40q) = %v, want ok %v", s, err, ok)
		}
	}
}

// docs/bus.md: "`build.*` matches `build.done` and not `build.linux.done`; `build.**`
// matches both; neither matches `build`; `**` matches every name."
func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		match         bool
	}{
		{"build", "build", true},
		{"build", "build.done", false},
		{"build", "builds", false},
		{"build.*", "build.done", true},
		{"build.*", "build", false},
		{"build.*", "build.linux.done", false},
		{"build.**", "build.done", true},
		{"build.**", "build.linux.done", true},
		{"build.**", "build", false},
		{"*.done", "build.done", true},
		{"*.done", "done", false},
		{"*.*", "build.done", true},
		{"*.**", "build", false},
		{"*", "build", true},
		{"*", "build.done", false},
		{"**", "build", true},
		{"**", "build.linux.done", true},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil || p.Match(c.name) != c.match {
			t.Errorf("pattern %q, %v: matches %q = %v, want %v", c.pattern, err, c.name, p.Match(c.name), c.match)
		}
	}
	for _, s := range []string{"", "a*", "**.a", "a.**.b", "a..*", "***", "a b"} {
		if p, err := ParsePattern(s); !errors.Is(err, ErrBadName) {
			t.Errorf("ParsePattern(%q) = %q, %v; want ErrBadName", s, p, err)
		}
	}
}

func TestReservedNames(t *testing.T) {
	for name, want := range map[string]bool{
		"workerAvailable": true, "workerUnavailable": true, "masterAvailable": true, "masterUnavailable": true, "trackerAvailable": true,
		"trackerUnavailable": true, "update": true, "task": true, "taskReceived": true, "workerTaskComplete": true, "missed": true,
		"task.done": false, "Task": false, "build": false, "": false,
	} {
		if got := Reserved(name); got != want {
			t.Errorf("Reserved(%q) = %v, want %v", name, got, want)
		}
	}
}
