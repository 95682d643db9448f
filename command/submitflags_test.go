package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// requestOf is the request that arguments make.
func requestOf(t *testing.T, stdin string, args ...string) (*api.SubmitRequest, *packer, error) {
	t.Helper()
	o, err := parseSubmit(args)
	if err != nil {
		return nil, nil, err
	}
	p := newPacker()
	r, err := o.request(strings.NewReader(stdin), p)
	return r, p, err
}

func TestSubmitRequests(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "-rf.py")
	if err := os.WriteFile(script, []byte("print(1)\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	colon := filepath.Join(dir, "a:b")
	if err := os.WriteFile(colon, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	body := filepath.Join(dir, "body.json")
	write := func(s string) { os.WriteFile(body, []byte(s), 0o600) }
	write(`{"task":{"kind":"command","argv":["a"],"env":{"A":"1","B":"2"}},"target":{"all":true},"options":{"retry":2}}`)

	for _, c := range []struct {
		name string
		args []string
		want string // JSON of the request
	}{
		{"command", []string{"echo", "-all", "x"}, `{"task":{"kind":"command","argv":["echo","-all","x"]},"target":{},"options":{}}`},
		{"help of the command", []string{"df", "-h"}, `{"task":{"kind":"command","argv":["df","-h"]},"target":{},"options":{}}`},
		{"after --", []string{"-all", "--", "-weird", "--", "-h"}, `{"task":{"kind":"command","argv":["-weird","--","-h"]},"target":{"all":true},"options":{}}`},
		{"shell", []string{"-shell", "a | b"}, `{"task":{"kind":"command","shell":"a | b"},"target":{},"options":{}}`},
		{"function", []string{"-func", "f", `{"w":1}`, "2"}, `{"task":{"kind":"function","name":"f","args":[{"w":1},2]},"target":{},"options":{}}`},
		{"js", []string{"-js", "x=>x", `"s"`}, `{"task":{"kind":"js","args":["s"],"source":"x=\u003ex"},"target":{},"options":{}}`},
		{"js of a file", []string{"-js", "@" + script}, `{"task":{"kind":"js","source":"print(1)\n"},"target":{},"options":{}}`},
		{"file", []string{"-file", script, "--", "-x", "1"}, `{"task":{"kind":"file","name":"-rf.py","args":["-x","1"],"content_base64":"cHJpbnQoMSkK"},"target":{},"options":{}}`},
		{"git", []string{"-git", "u/r", "-ref", "v1", "-pre", "make", "-post", "rm x", "--", "./x", "-v"},
			`{"task":{"kind":"git","argv":["./x","-v"],"url":"u/r","ref":"v1","pre":[["sh","-c","make"]],"post":[["sh","-c","rm x"]]},"target":{},"options":{}}`},
		{"targets", []string{"-where", "slots > 1", "-one", "-prefer", "free", "-except", "a,b", "-except=c", "x"},
			`{"task":{"kind":"command","argv":["x"]},"target":{"where":"slots \u003e 1","n":1,"prefer":"free","except":["a","b","c"]},"options":{}}`},
		{"names", []string{"-on", "a, b", "-on", "c", "-force", "x"}, `{"task":{"kind":"command","argv":["x"]},"target":{"on":["a","b","c"],"force":true},"options":{}}`},
		{"options", []string{"-timeout", "1.5s", "-attempts", "1", "-retry", "2", "-priority", "-3", "-slots", "2", "-expect", "4", "-wait-workers", "1m", "x"},
			`{"task":{"kind":"command","argv":["x"]},"target":{},"options":{"timeout_seconds":1.5,"attempts":1,"retry":2,"priority":-3,"slots":2,"wait_workers_seconds":60,"expect":4}}`},
		{"with", []string{"-env", "A=1", "-env", "B==", "-dir", "/tmp", "-stdin", "-out", "*.csv", "-in", script, "-in", colon + ":d/x", "x"},
			`{"task":{"kind":"command","argv":["x"],"env":{"A":"1","B":"="},"dir":"/tmp","stdin_base64":"aW4=","inputs":[{"name":"-rf.py","content_base64":"cHJpbnQoMSkK","mode":493},{"name":"d/x","content_base64":"eA==","mode":384}],"outputs":["*.csv"]},"target":{},"options":{}}`},
		{"name with a colon", []string{"-in", colon + ":", "x"},
			`{"task":{"kind":"command","argv":["x"],"inputs":[{"name":"a:b","content_base64":"eA==","mode":384}]},"target":{},"options":{}}`},
		{"task", []string{"-task", body, "-env", "B=3", "-retry", "1"},
			`{"task":{"kind":"command","argv":["a"],"env":{"A":"1","B":"3"}},"target":{"all":true},"options":{"retry":1}}`},
		{"task, another target", []string{"-task", body, "-on", "n1"},
			`{"task":{"kind":"command","argv":["a"],"env":{"A":"1","B":"2"}},"target":{"on":["n1"]},"options":{"retry":2}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _, err := requestOf(t, "in", c.args...)
			if err != nil {
				t.Fatalf("submit %q: %v", c.args, err)
			}
			if got, _ := json.Marshal(r); string(got) != c.want {
				t.Errorf("submit %q\ngot  %s\nwant %s", c.args, got, c.want)
			}
		})
	}
}

func TestSubmitTaskFiles(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"a task alone", `{"kind":"function","name":"f","args":[1]}`, `{"kind":"function","name":"f","args":[1]}`},
		{"the original's github", `{"type":"github","user":"u","repo":"r","cmds":{"pre":[{"cmd":"git","args":["checkout","v1"]}],"cmd":{"cmd":"./x","args":["-p",80]}}}`,
			`{"kind":"git","argv":["./x","-p","80"],"url":"https://github.com/u/r","pre":[["git","checkout","v1"]]}`},
		{"the original's function", `{"type":"function","func":"function(a){return a}","args":[1]}`,
			`{"kind":"js","args":[1],"source":"function(a){return a}"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _, err := requestOf(t, c.in, "-task", "-")
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := json.Marshal(r.Task); string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	for in, want := range map[string]string{
		``:   "want a JSON object",
		`[]`: "want a JSON object",
		`{}`: `want an object with "task" or "kind"`,
		`{"task":{"kind":"command","argvv":["x"]}}`: `unknown field "argvv"`,
		`{"type":"perl"}`:             `type is "perl"`,
		`{"type":"file"}`:             `needs fileName`,
		`{"kind":"command","argv":1}`: "argv",
		`{"type":"github","user":"u","repo":"r","cmds":{"cmd":{"cmd":"x","args":[{}]}}}`: "neither a string nor a number",
	} {
		if _, _, err := requestOf(t, in, "-task", "-"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("-task %s = %v, want one line with %q", in, err, want)
		}
	}
}

func TestSubmitRefusesBadArguments(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"-timeout 1d x", `-timeout is "1d"; want a duration such as`},
		{"-timeout -5s x", `-timeout is "-5s"; want a duration`},
		{"-timeout 1e9h x", "want a duration"},
		{"-n x y", `-n is "x"; want a whole number`},
		{"-n 99999999999 y", "want a whole number"},
		{"-n 0 y", "-n is 0; want at least 1"},
		{"-n -1 y", "-n is -1; want at least 1"},
		{"-one -n 2 x", "-one and -n exclude each other"},
		{"-all=maybe x", "want true or false"},
		{"-all -on n1 x", "all excludes on"},
		{"-on a,,b x", "want names with a comma between each two"},
		{"-force x", "force reaches unavailable workers by name only"},
		{"-attempts 0 x", "attempts is 0"},
		{"-where ( x", "-where: "},
		{"-where= x", "-where is empty"},
		{"-prefer name x", "-prefer: "},
		{"-shell a -func b", "-shell and -func exclude each other"},
		{"-shell a b", `unexpected argument "b" after -shell`},
		{"-func= x", "-func is empty"},
		{"-func f hello", `argument 1, "hello", is not JSON`},
		{"-git u/r", "-git needs a command"},
		{"-ref v1 x", "-ref goes with -git only"},
		{"-interpreter sh x", "-interpreter goes with -file only"},
		{"-env A x", "want NAME=VALUE"},
		{"-in : x", "want FILE or FILE:NAME"},
		{"-in f:../x x", `the file name "../x" leaves the work directory`},
		{"-in f:/x x", "leaves the work directory"},
		{"-in a/f -in b/f x", `the name "f" is there twice`},
		{"-in /dev/null x", "is not a regular file"},
		{"-in /nowhere/f x", "no such file"},
		{"-file /nowhere/f", "-file: open /nowhere/f"},
		{"-js @/nowhere/f", "-js: open /nowhere/f"},
		{"-out /etc/x x", "leaves the work directory"},
		{"-out-dir d x", "-out-dir needs -out"},
		{"-detach -out x y", "-detach and -out exclude each other"},
		{"-dir rel x", "want an absolute path"},
		{"-fold -json x", "-fold and -json exclude each other"},
		{"-stdin -task -", "there is one standard input"},
	} {
		_, _, err := requestOf(t, "", strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("submit %s = %v, want one line with %q", c.args, err, c.want)
		}
	}
	if _, _, err := requestOf(t, "", ""); err == nil || !strings.Contains(err.Error(), "the command is empty") {
		t.Errorf(`submit "" = %v`, err)
	}
}

func TestLargeContentsAreUploaded(t *testing.T) {
	dir := t.TempDir()
	var args []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, tasks.MaxInlineBytes), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-in", path)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, tasks.MaxInlineBytes+1), 0o644); err != nil {
		t.Fatal(err)
	}
	stdin := strings.Repeat("x", tasks.MaxInlineBytes+10)
	r, p, err := requestOf(t, stdin, append(args, "-in", big, "-stdin", "cmd")...)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for i, u := range p.uploads {
		body, err := u.open()
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(mustRead(t, body)))
		u.set(strings.Repeat(string(rune('a'+i)), 3))
	}
	// Four of 64 KiB are all that a task takes along.
	if want := []int{tasks.MaxInlineBytes, tasks.MaxInlineBytes + 1, len(stdin)}; !reflect.DeepEqual(sizes, want) {
		t.Errorf("sizes of uploads = %v, want %v", sizes, want)
	}
	for i, in := range r.Task.Inputs {
		want := []string{"", "", "", "", "aaa", "bbb"}[i]
		if in.Blob != want || (want == "") != (len(in.ContentBase64) == tasks.MaxInlineBytes) {
			t.Errorf("input %s: blob %q, %d bytes inline; want blob %q", in.Name, in.Blob, len(in.ContentBase64), want)
		}
	}
	if r.Task.StdinBlob != "ccc" || r.Task.StdinBase64 != nil {
		t.Errorf("stdin: blob %q, inline %v; want the blob ccc", r.Task.StdinBlob, r.Task.StdinBase64 != nil)
	}
}

func TestDirectoryOfInIsWalked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	for _, err := range []error{os.MkdirAll(filepath.Join(dir, "empty"), 0o755), os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o640), os.Symlink("f", filepath.Join(dir, "l"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	o, err := parseSubmit([]string{"-in", dir + ":in", "x"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.request(strings.NewReader(""), newPacker())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, in := range r.Task.Inputs {
		got = append(got, fmt.Sprintf("%s %s %o %s", in.Name, in.Type, in.Mode, in.ContentBase64))
	}
	if want := "in dir 755 |in/empty dir 755 |in/f  640 x|in/l symlink 0 f"; strings.Join(got, "|") != want {
		t.Errorf("inputs = %q, want %q", strings.Join(got, "|"), want)
	}
}
