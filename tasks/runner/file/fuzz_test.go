package file

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/test/bounds"
)

// FuzzInterpreter finds out what runs a file of any name and content. It is
// always a program and its arguments, and what a worker must have is one of
// those that workers list.
func FuzzInterpreter(f *testing.F) {
	for _, head := range []string{"#!/bin/sh\n", "#!/usr/bin/env -S node --x\n", "#! \t/usr/bin/env\tA=1 x\r\n", "#!", "#!\n", "#!env\n", "#!/usr/bin/env \n", "#!/usr/bin/env -S\n", "\x7fELF", "MZ",
		"#!/usr/bin/env '\n", "#!/../bin/sh\n", "#!\x00", "#!" + strings.Repeat(" ", HeadBytes) + "x"} {
		f.Add("a.py", head, "")
		f.Add("x", head, "./sh")
	}
	f.Fuzz(func(t *testing.T, name, head, interpreter string) {
		bounds.Input(t, name, head, interpreter)
		defer bounds.Check(t)()
		argv := choose(name, []byte(head), interpreter)
		if slices.Contains(argv, "") || strings.Contains(strings.Join(argv, " "), "\n") && !strings.Contains(interpreter, "\n") {
			t.Errorf("%q %q is run by %q", name, head, argv)
		}
		if interpreter != "" && !slices.Equal(argv, []string{interpreter}) {
			t.Errorf("%q is run by %q, not by %q", name, argv, interpreter)
		}
		need, ok := Interpreter(name, []byte(head), interpreter)
		if ok != slices.Contains(known, need) {
			t.Errorf("Interpreter(%q, %q, %q) = %q, %v", name, head, interpreter, need, ok)
		}
		if base := baseName(name); base == "" || strings.ContainsAny(base[1:], `/\`) {
			t.Errorf("%q gets the name %q", name, base)
		}
		if list, err := words([]json.RawMessage{json.RawMessage(head)}); err == nil && (len(list) != 1 || strings.ContainsRune(list[0], 0)) {
			t.Errorf("the argument %q is %q", head, list)
		}
	})
}
