package original

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

// FuzzTask reads task objects of the original. What is accepted has a kind and
// what that kind needs, and says of no file but the one that was named.
func FuzzTask(f *testing.F) {
	for _, s := range []string{`{"type":"file","fileName":"exFile.js","args":["--port",9997]}`,
		`{"type":"github","user":"strongloop","repo":"slc","dir":"/tmp","cmds":{"pre":[{"cmd":"git","args":["checkout","v1.1"]}],"cmd":{"cmd":"./bin/slc","args":["help"]},"post":[]}}`,
		`{"type":"function","func":"function(a,b){return a+b}","args":[1,2]}`, `{"type":"file","fileName":"/..","args":[1e999,-0,0.1e-7]}`,
		`{"type":"file","fileName":"a","args":[null]}`, `{"type":"file","fileName":"a","args":["\u0000\ud800"]}`, `{"type":"github","user":"../..","repo":"-x","git_base":"ext::sh"}`,
		`{"type":null}`, `{"type":"function","func":"x"} x`, `{"type":"function","func":"x"}}`, `{"TYPE":"file","FileName":"x"}`, `[]`, `null`, ``, `{"type":"file","type":"function","func":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		var opened []string
		task, err := Task(b, func(name string) (tasks.Content, error) {
			opened = append(opened, name)
			return tasks.Content{Inline: []byte("content")}, nil
		})
		if err != nil {
			if !errors.Is(err, tasks.ErrBadTask) || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Errorf("Task(%q): %q, want one line that is ErrBadTask", b, err)
			}
			return
		}
		ok := false
		switch task.Kind {
		case tasks.File:
			ok = len(opened) == 1 && opened[0] != "" && task.Content != nil && len(task.Args) <= len(b)
		case tasks.Git:
			ok = len(opened) == 0 && strings.Count(task.URL, "/") >= 2 && len(task.Argv) > 0 && task.Argv[0] != ""
		case tasks.JS:
			ok = len(opened) == 0 && task.Source != ""
		}
		if !ok || !Is(b) {
			t.Errorf("Task(%q) = %+v, opened %q, Is %v", b, task, opened, Is(b))
		}
		if err := task.Validate(); err != nil && strings.ContainsAny(fmt.Sprint(err), "\n\x00\x1b") {
			t.Errorf("Validate of %q: %q is no line", b, err)
		}
	})
}
