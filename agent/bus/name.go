package bus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxNameBytes is the longest name of an event.
const MaxNameBytes = 128

// ErrBadName is returned for the name of an event, or a pattern for names, that
// cannot be one.
var ErrBadName = errors.New("not the name of an event")

// CheckName says what keeps s from being the name of an event: names are parts of
// letters, digits, _ and -, with dots between them.
func CheckName(s string) error { return check(s, "name", func(string, bool) bool { return false }) }

func check(s, what string, wild func(part string, last bool) bool) error {
	if s == "" || len(s) > MaxNameBytes {
		return fmt.Errorf("%w: the %s has %d bytes; want 1 to %d", ErrBadName, what, len(s), MaxNameBytes)
	}
	parts := strings.Split(s, ".")
	for i, p := range parts {
		if wild(p, i == len(parts)-1) {
			continue
		}
		if p == "" || strings.ContainsFunc(p, notInName) {
			return fmt.Errorf("%w: %q; want parts of letters, digits, _ and -, with dots between them, such as build.done", ErrBadName, s)
		}
	}
	return nil
}

// reserved are the names of the events of an agent itself.
var reserved = []string{
	"workerAvailable", "workerUnavailable", "masterAvailable", "masterUnavailable", "trackerAvailable", "trackerUnavailable",
	"update", "task", "taskReceived", "workerTaskComplete", "missed",
}

// Reserved reports whether a name is that of an event of an agent itself, such as
// workerAvailable. No event that is sent has it, so that nobody takes one for the other.
func Reserved(name string) bool { return slices.Contains(reserved, name) }

func notInName(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
		return false
	}
	return true
}

// Pattern is what names are compared with. As a part of a pattern, * stands for
// any one part, and ** at its end for one or more: build.* matches build.done and
// not build.linux.done, build.** matches both, neither matches build, and **
// matches every name.
type Pattern string

// ParsePattern checks a pattern.
func ParsePattern(s string) (Pattern, error) {
	err := check(s, "pattern", func(part string, last bool) bool { return part == "*" || part == "**" && last })
	if err != nil && strings.Contains(s, "*") {
		err = fmt.Errorf("%w: %q; * stands for a whole part, and ** for one or more at the end, as in build.* and build.**", ErrBadName, s)
	}
	return Pattern(s), err
}

// Match reports whether p matches a name.
func (p Pattern) Match(name string) bool {
	pattern := string(p)
	for {
		if pattern == "**" {
			return true
		}
		want, restWant, moreWant := strings.Cut(pattern, ".")
		got, rest, more := strings.Cut(name, ".")
		if want != "*" && want != got || moreWant != more {
			return false
		}
		if !more {
			return true
		}
		pattern, name = restWant, rest
	}
}
