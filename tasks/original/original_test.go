package original

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
)

func TestTaskObjectsBecomeTasks(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "exFile.js"), []byte("console.log(1)"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		object string
		want   tasks.Task
	}{
		{`{"type":"file","fileName":"exFile.js","args":["--port",9997]}`,
			tasks.Task{Kind: tasks.File, Name: "exFile.js", Args: []json.RawMessage{[]byte(`"--port"`), []byte(`"9997"`)}, Content: &tasks.Content{Inline: []byte("console.log(1)")}}},
		{`{"type":"github","user":"strongloop","repo":"slc","dir":"/tmp","cmds":{"pre":[{"cmd":"git","args":["checkout","v1.1"]}],"cmd":{"cmd":"./bin/slc","args":["help"]},"post":[{"cmd":"rm","args":["x"]}]}}`,
			tasks.Task{Kind: tasks.Git, URL: "https://github.com/strongloop/slc", Dir: "/tmp", Pre: [][]string{{"git", "checkout", "v1.1"}}, Argv: []string{"./bin/slc", "help"}, Post: [][]string{{"rm", "x"}}}},
		{`{"type":"github","user":"u","repo":"r","git_base":"file:///srv/git","cmds":{"cmd":{"cmd":"true"}}}`,
			tasks.Task{Kind: tasks.Git, URL: "file:///srv/git/u/r", Argv: []string{"true"}}},
		{`{"type":"function","func":"function(a,b){return a+b}","args":[1,2]}`,
			tasks.Task{Kind: tasks.JS, Source: "function(a,b){return a+b}", Args: []json.RawMessage{[]byte("1"), []byte("2")}}},
	} {
		got, err := Task([]byte(c.object), InDir(dir))
		if err != nil || !reflect.DeepEqual(got, c.want) || !Is([]byte(c.object)) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", c.object, got, err, c.want)
		}
	}
}

func TestBadTaskObjectIsOneLine(t *testing.T) {
	for object, want := range map[string]string{
		`{"type":"file"}`:                                 "needs fileName",
		`{"type":"file","fileName":"none.js"}`:            "no such file",
		`{"type":"github","user":"u"}`:                    "needs user and repo",
		`{"type":"github","user":"u","repo":"r"}`:         "cmds.cmd: a command needs cmd",
		`{"type":"function"}`:                             "needs func",
		`{"type":"function","func":"x","argz":[]}`:        `unknown field "argz"`,
		`{"type":"wasm"}`:                                 `type is "wasm"`,
		`{"type":`:                                        "unexpected EOF",
		`{"type":"file","fileName":"x","args":[{"a":1}]}`: "neither a string nor a number",
	} {
		_, err := Task([]byte(object), InDir(t.TempDir()))
		if !errors.Is(err, tasks.ErrBadTask) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", object, err, want)
		}
	}
	if Is([]byte(`{"kind":"command"}`)) || Is([]byte(`[]`)) {
		t.Error("something else counts as one of the original's")
	}
}
