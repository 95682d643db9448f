package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text, want string // want: part of the error, empty for none
	}{
		{"nothing", `{}`, ""},
		{"all", `{"kinds":["js","git"],"run_as":"x","limits":{"wall_seconds":1.5,"memory_bytes":16777216,"processes":1,"open_files":16,"file_bytes":1,"output_bytes":1},
			"git":{"schemes":["https"],"hosts":["*.x.org"]},"env":{"allow":["A*"],"refuse":["LD_*"]},"dirs":["/srv"]}`, ""},
		{"unknown key", "{\n\n\"kindz\": []}", `line 3: unknown field "kindz"`},
		{"unknown limit", `{"limits":{"memory":1}}`, `unknown field "memory"`},
		{"not JSON", `kinds: js`, "line 1: "},
		{"empty", ``, "line 1: "},
		{"two objects", `{} {}`, "after the object"},
		{"kind", `{"kinds":["dance"]}`, `"dance" is none`},
		{"negative time", `{"limits":{"wall_seconds":-1}}`, "wall_seconds is -1"},
		{"endless time", `{"limits":{"wall_seconds":1e300}}`, "wall_seconds"},
		{"little memory", `{"limits":{"memory_bytes":1000}}`, "at least 16777216"},
		{"negative", `{"limits":{"processes":-5}}`, "processes is -5"},
		{"text for a number", `{"limits":{"processes":"5"}}`, "processes"},
		{"scheme", `{"git":{"schemes":["ext"]}}`, `scheme "ext"`},
		{"relative dir", `{"dirs":["srv"]}`, "not an absolute path"},
		{"star inside", `{"env":{"allow":["A*B"]}}`, "env:"},
		{"large", strings.Repeat(" ", MaxFileBytes+1), "more than"},
	} {
		p, err := Parse([]byte(c.text))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, want one line with %q", c.name, err, c.want)
		case c.want == "":
			b, _ := json.Marshal(p)
			if again, err := Parse(b); err != nil || !reflect.DeepEqual(again, p) {
				t.Errorf("%s: read again as %+v, %v", c.name, again, err)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	for _, d := range []string{in, out} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(out, filepath.Join(in, "link")); err != nil {
		t.Fatal(err)
	}
	p := Policy{Kinds: []tasks.Kind{tasks.Command}, Env: Env{Allow: []string{"A*", "LD_X"}, Refuse: []string{"LD_*"}}, Dirs: []string{in}}
	env := func(name string) tasks.Task {
		return tasks.Task{Kind: tasks.Command, Env: map[string]string{name: "1"}}
	}
	at := func(dir string) tasks.Task { return tasks.Task{Kind: tasks.Command, Dir: dir} }
	for _, c := range []struct {
		name string
		task tasks.Task
		want string
	}{
		{"kind", tasks.Task{Kind: tasks.Command}, ""},
		{"other kind", tasks.Task{Kind: tasks.JS}, KindNotAllowed},
		{"no kind", tasks.Task{}, KindNotAllowed},
		{"env by prefix", env("APP"), ""},
		{"env not listed", env("B"), EnvNotAllowed},
		{"env listed and refused", env("LD_X"), EnvNotAllowed},
		{"dir", at(in), ""},
		{"below", at(in + "/x/y"), ""},
		{"beside", at(in + "side"), DirNotAllowed},
		{"above", at(dir), DirNotAllowed},
		{"dots", at(in + "/../out"), DirNotAllowed},
		{"through a link", at(in + "/link"), DirNotAllowed},
	} {
		err := p.Check(&c.task)
		if err == nil {
			err = p.CheckDir(&c.task)
		}
		var r *Refusal
		if (c.want == "") != (err == nil) || err != nil && (!errors.As(err, &r) || r.Code != c.want || !strings.HasPrefix(err.Error(), c.want+": ")) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err := (&Policy{}).Check(&c.task); err != nil {
			t.Errorf("%s: the zero policy refuses: %v", c.name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"kinds":["js"],"limits":{"wall_seconds":1}}`))
	f.Add([]byte(`{"env":{"allow":["A*"]}}`))
	for _, s := range []string{`{"kinds":[]}`, `{"kinds":["js"],"kinds":["git"]}`, `{"limits":{"wall_seconds":-1}}`, `{"limits":{"wall_seconds":1e300}}`, `{"dirs":["rel","/a/../b"]}`,
		`{"KINDS":["js"]}`, `{"env":{"allow":[]}}`, `{} {}`, `{}}`, `{"env":{"allow":["[","**"]}}`, "\xff", `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		p, err := Parse(b)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("Parse(%q): %q is no line", b, err)
			}
			return
		}
		out, err := json.Marshal(p)
		if err != nil || !json.Valid(b) {
			t.Fatalf("Parse(%q) = %+v, as JSON: %v", b, p, err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("Parse(%q): %v", out, err)
		}
		if fmt.Sprint(again) != fmt.Sprint(p) { // an empty list is as good as none
			t.Errorf("Parse(%q) = %+v; want %+v", out, again, p)
		}
		// A kind that is not listed is refused, whatever else the file says.
		for _, k := range []tasks.Kind{tasks.Command, tasks.File, tasks.Git, tasks.JS, tasks.Function, "x"} {
			if err := p.Check(&tasks.Task{Kind: k, URL: "https://h/r"}); err == nil && len(p.Kinds) > 0 && !slices.Contains(p.Kinds, k) {
				t.Errorf("%q lets tasks of kind %q run", b, k)
			}
		}
	})
}
