package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/bounds"
)

// checkMessage fails unless an error is what a person at a terminal may be shown.
func checkMessage(t *testing.T, what string, err error) {
	t.Helper()
	if s := clean(err.Error()); s == "" || strings.Contains(s, "\n") || len(s) > 16<<10 {
		t.Errorf("%s: the error is %d bytes long: %.200q", what, len(s), s)
	}
}

// FuzzClean cleans text from other nodes: what is printed cannot drive a
// terminal, and clean text stays as it is.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"plain ü 日本", "a\x1b[2J\x1b]52;c;eA==\a", "\u202eabc", "\xff\xfe", "a\x00b\nc\td", "\ufffd", "\u0085\u2028", "\\x1b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bounds.Input(t, s)
		defer bounds.Check(t)()
		c := clean(s)
		if !utf8.ValidString(c) || strings.ContainsFunc(c, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("clean(%q) = %q", s, c)
		}
		if again := clean(c); again != c {
			t.Errorf("clean(%q) = %q, and that cleaned %q", s, c, again)
		}
		if n := len([]rune(shorten(s, 5))); n > 6 {
			t.Errorf("shorten(%q, 5) has %d letters", s, n)
		}
	})
}

// FuzzData sets data as -data and the data command do. What is accepted is JSON,
// and a key that was set is there with its value.
func FuzzData(f *testing.F) {
	for _, s := range [][2]string{{"gpu=a100", "n=1"}, {`{"a":1}`, `b={"c":[1e999]}`}, {"null", "a=null"}, {"[1]", "a=1"}, {"@/dev/null", "a"}, {"=x", `"a"=1`}, {"a==b", "a= 1 "},
		{"__proto__=1", "ü=\xff"}, {`{"a":1,"a":2}`, "a=9007199254740993"}, {"{", "{a=1"}, {`"x"`, "\x1b=\x1b"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		bounds.Input(t, first, second)
		if strings.HasPrefix(first, "@") && first != "@/dev/null" || strings.HasPrefix(second, "@") {
			t.Skip("a file")
		}
		defer bounds.Check(t)()
		d := &dataValue{}
		for _, s := range []string{first, second} {
			before := bytes.Clone(d.raw)
			if err := d.apply([]string{s}); err != nil {
				checkMessage(t, s, err)
				if !bytes.Equal(before, d.raw) {
					t.Errorf("%q was refused (%v), and made of %s %s", s, err, before, d.raw)
				}
				continue
			}
			if !json.Valid(d.raw) {
				t.Errorf("%q makes %q", s, d.raw)
			}
			key, value, ok := strings.Cut(s, "=")
			if !ok || json.Valid([]byte(s)) || !utf8.ValidString(s) {
				continue
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(d.raw, &object); err != nil || object[key] == nil {
				t.Errorf("%q: %q is not in %s", s, key, d.raw)
			}
			var text string
			if json.Unmarshal(object[key], &text) == nil && !json.Valid([]byte(value)) && text != value {
				t.Errorf("%q makes %q of %q", s, text, value)
			}
		}
	})
}

// FuzzConfig reads a configuration file. What is accepted is what the same flags
// on the command line would be.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{`{"name":"n1","join":["a","b"],"slots":3,"data":{"a":1},"no_multicast":true,"lease":"5s"}`, `{"nam":"x"}`, `{"name":"a","name":"b"}`, "{\n\t\"slots\": \"x\"}",
		`{"config":"x"}`, `{"join":"a,b","role":["worker","tracker"]}`, `[]`, ``, `{} {}`, `{"slots":1e9}`, `{"lease":"-5s"}`, `{"lease":"1e9h"}`, `{"lease":"1d"}`, `{"data":"@x"}`,
		`{"name":null}`, `{"join":[["a"]]}`, `{"name":{}}`, "\ufeff{}", `{"no-multicast":1}`, `{"data":[1,2]}`, `{"\u001b":1}`, strings.Repeat(`{"data":`, 9_000), `{"join":` + strings.Repeat("[", 9_000)} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		if bytes.Contains(b, []byte("@")) {
			t.Skip("a file, perhaps")
		}
		file := filepath.Join(dir, "config.json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		defer bounds.Check(t)()
		o, err := parseAgent([]string{"-config", file}, func(string) string { return "" })
		if err != nil {
			checkMessage(t, string(b), err)
			return
		}
		if !json.Valid(b) || o.slots < 0 || o.lease < 0 || o.drainTimeout < 0 || len(o.data.raw) > 0 && !json.Valid(o.data.raw) {
			t.Errorf("%q makes %+v", b, o)
		}
	})
}

// FuzzAgentFlags parses arguments of agent, one a line, with a variable of the
// environment.
func FuzzAgentFlags(f *testing.F) {
	for _, s := range []string{"-name\nx", "-bind=:65536", "-slots\n-1", "--role=worker,\n-no-multicast=maybe", "-h", "--\n-x", "-lease\n9223372036854775807ns", "-nam\nx", "-", "-=", "x", "--name",
		"-on-event\na=b", "-log-level=\x1b", "-data\n{\n-data\na=1"} {
		f.Add(s, "SCAGENT_SLOTS", "0x10")
	}
	f.Add("", "SCAGENT_CONFIG", "/no/such")
	f.Fuzz(func(t *testing.T, args, name, value string) {
		bounds.Input(t, args, name, value)
		if strings.Contains(args+name+value, "@") || strings.Contains(strings.ToLower(args+name), "config") {
			t.Skip("a file")
		}
		defer bounds.Check(t)()
		o, err := parseAgent(strings.Split(args, "\n"), func(k string) string {
			if k == name {
				return value
			}
			return ""
		})
		if err != nil {
			checkMessage(t, args, err)
			return
		}
		if o.slots < 0 || o.lease < 0 || len(o.data.raw) > 0 && !json.Valid(o.data.raw) {
			t.Errorf("%q makes %+v", args, o)
		}
	})
}

// FuzzSubmitFlags parses arguments of submit, one a line. What is accepted makes
// a request, whose target and options are valid, or says which file is not there.
func FuzzSubmitFlags(f *testing.F) {
	for _, s := range []string{"-on\na,b\ndf\n-h", "-in\na:b\n-in\n./b\nx", "-in\na:b:c/d\nx", "-in\n:x\nx", "-in\na:../x\nx", "-all\n-where\ntrue\nx", "-n\n0\nx", "-where\n((((\nx",
		"-js\n(a)=>a\n{\"a\":1}\nx", "-func\nf\n1\nnull", "-git\nuser/repo\n-pre\na\n--\nx", "-env\nA\nx", "-env\nA=\x00\nx", "-out\n../x\nx", "-out-dir\nd\nx", "-dir\nrel\nx", "-timeout\n-1s\nx",
		"-timeout\n2562048h\nx", "-priority\n99999999999\nx", "-attempts\n0\nx", "-shell\nx\ny", "-one\n-n\n2\nx", "-prefer\n\"x\"\nx", "--\n-x", "-stdin\n-task\n-", "-task\n/no/such", "-expect\n-1\nx"} {
		f.Add(s)
	}
	f.Chdir(f.TempDir())
	f.Fuzz(func(t *testing.T, args string) {
		bounds.Input(t, args)
		if strings.ContainsAny(args, "@/") && (strings.Contains(args, "-in") || strings.Contains(args, "-js") || strings.Contains(args, "-file") || strings.Contains(args, "-task")) {
			t.Skip("a file of this host, perhaps")
		}
		defer bounds.Check(t)()
		o, err := parseSubmit(strings.Split(args, "\n"))
		if err != nil {
			checkMessage(t, args, err)
			return
		}
		if err := o.target.Validate(); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		if err := o.options.Validate(); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		for _, in := range o.inputs {
			if err := tasks.CheckName(in.name); err != nil || in.path == "" {
				t.Errorf("%q: input %+v, %v", args, in, err)
			}
		}
		p := &packer{}
		r, err := o.request(strings.NewReader("{}"), p)
		if err != nil {
			checkMessage(t, args, err)
			return
		}
		b, err := json.Marshal(r)
		var back api.SubmitRequest
		if err != nil || json.Unmarshal(b, &back) != nil {
			t.Errorf("%q: the request is %s, %v", args, b, err)
		}
	})
}

// FuzzMembersFlags parses arguments of members, one a line, whose expression then
// filters members that say anything of themselves.
func FuzzMembersFlags(f *testing.F) {
	for _, s := range []string{"-where\ndata.a > 1", "-where\n(((", "-where=", "-role\nworker,x", "-status\nalive,left", "-watch\n-wait\n-1s", "x", "-role\n,", "-where\nname matches '(a+)+$'"} {
		f.Add(s, []byte(`{"a":2,"b":[1e999,"\ud800"]}`))
		f.Add(s, []byte(`{`))
	}
	f.Fuzz(func(t *testing.T, args string, data []byte) {
		bounds.Input(t, args)
		bounds.Input(t, data)
		defer bounds.Check(t)()
		o, err := parseMembers(strings.Split(args, "\n"))
		if err != nil {
			checkMessage(t, args, err)
			return
		}
		all := []api.Member{{Name: "n", Roles: []string{"worker"}, Status: "alive", Data: data, Facts: data}}
		picked := o.pick(all)
		if len(picked) > len(all) {
			t.Errorf("%q of %d members leaves %d", args, len(all), len(picked))
		}
		if text := formatMembers(picked); strings.Count(text, "\n") != 1+len(picked) || !utf8.ValidString(text) || strings.Contains(text, "\x1b") {
			t.Errorf("%q of %q prints %q", args, data, text)
		}
	})
}

// FuzzBenchFlags parses arguments of bench, one a line. What is accepted the agent
// accepts too, and a size is shown as what it is.
func FuzzBenchFlags(f *testing.F) {
	for _, s := range []string{"-only\nlatency,fanout", "-only\n,", "-n\n1000000", "-n=0", "-inflight\n1e3", "-size\n16GiB", "-size\n-1KiB", "-size\n9999999999GiB", "-size=", "-where\n(((", "-where=", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		bounds.Input(t, args)
		defer bounds.Check(t)()
		o, err := parseBench(strings.Split(args, "\n"))
		if err != nil {
			checkMessage(t, args, err)
			return
		}
		if err := o.request.Check(); err != nil {
			t.Errorf("%q asks for %+v, which the agent refuses: %v", args, o.request, err)
		}
		var again sizeValue
		if err := again.Set((*sizeValue)(&o.request.Size).String()); err != nil || int64(again) != o.request.Size {
			t.Errorf("a size of %d is shown as %d, %v", o.request.Size, again, err)
		}
	})
}

// FuzzTaskFile reads the file of -task.
func FuzzTaskFile(f *testing.F) {
	for _, s := range []string{`{"task":{"kind":"command","argv":["x"]},"target":{"all":true},"options":{"attempts":1}}`, `{"kind":"js","source":"x","args":[1e999]}`,
		`{"type":"function","func":"x"}`, `{"type":"file","fileName":"../x"}`, `{"kind":"command","argvs":[]}`, `{"task":null}`, `{"task":1}`, `[]`, ``, `{} x`, `{"kind":"js"} {"kind":"js"}`, "\xff", "\ufeff{}",
		`{"task":{"kind":"command","inputs":[{"name":"\u001b","mode":-1}]}}`, `{"KIND":"x"}`} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		if bytes.Contains(bytes.ToLower(b), []byte("file")) && bytes.ContainsAny(b, `/\`) {
			t.Skip("a file of this host, perhaps")
		}
		file := filepath.Join(dir, "task.json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		defer bounds.Check(t)()
		var r api.SubmitRequest
		if err := readTaskFile(file, nil, &packer{}, &r); err != nil {
			checkMessage(t, string(b), err)
		} else if !json.Valid(b) {
			t.Errorf("%q was accepted", b)
		}
	})
}

// FuzzOutputs writes files of any name, type and content that a worker sent back,
// one a line with bars between. Nothing is written outside of the directory.
func FuzzOutputs(f *testing.F) {
	for _, s := range []string{"a/b|f|x", "../x|f|x", "/x|f|x", "l|symlink|../other\nl/x|f|x", "l|symlink|.\nl/l|symlink|../../other", "d|dir|\nd/x|f|1", "d|dir|\nd|symlink|..\nd/x|f|1",
		"a|symlink|b/../../..\nb|symlink|c\nc|dir|", "a\x1b|f|", "x|f|1\nx/y|f|2", ".|dir|", "l|symlink|/etc", "l|symlink|x\nl|f|y\nx|f|z", "a|weird|", "w1/../../x|f|", strings.Repeat("d/", 120) + "x|f|1"} {
		f.Add(s, "w1")
	}
	f.Add("x|f|1", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		bounds.Input(t, text, name)
		var files []api.OutputStatus
		for line := range strings.SplitSeq(text, "\n") {
			if row := strings.SplitN(line, "|", 3); len(row) == 3 && len(files) < 8 {
				file := api.OutputStatus{Name: row[0], Type: row[1], Mode: 0o755, ContentBase64: []byte(row[2]), Size: int64(len(row[2]))}
				if file.Type == "f" {
					file.Type = ""
				}
				files = append(files, file)
			}
		}
		base := t.TempDir()
		dir, other := filepath.Join(base, "out"), filepath.Join(base, "other")
		if err := os.Mkdir(other, 0o755); err != nil {
			t.Fatal(err)
		}
		sub := ""
		if name != "" {
			sub = newLabels(&api.Submitted{}).dir(&api.StreamEvent{Worker: name, WorkerID: "abcdefghijklmnopqrstuvwxyz"})
		}
		defer bounds.Check(t)()
		w := &fileWriter{client: &client.Client{}, dir: dir}
		if err := w.write(t.Context(), sub, files); err != nil {
			checkMessage(t, text, err)
		}
		entries, err := os.ReadDir(base)
		inOther, err2 := os.ReadDir(other)
		if err != nil || err2 != nil || len(entries) > 2 || len(inOther) > 0 {
			t.Errorf("%q wrote to %v, %v, %v %v", text, entries, inOther, err, err2)
		}
		filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if to, err := filepath.EvalSymlinks(p); err == nil && to != dir && !strings.HasPrefix(to, dir+"/") {
				t.Errorf("%s leads to %s", p, to)
			}
			return nil
		})
		if rel := path.Clean(sub); sub != "" && (!filepath.IsLocal(rel) || strings.Contains(rel, "/")) {
			t.Errorf("worker %q gets the directory %q", name, sub)
		}
	})
}

// FuzzDuration: what is accepted is no less than nothing.
func FuzzDuration(f *testing.F) {
	for _, s := range []string{"1s", "-5s", "1d", "1e9h", "9223372036854775807ns", "2562048h", "", ".", "1h-1m", "+1s", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bounds.Input(t, s)
		var d durationValue
		if err := d.Set(s); err != nil {
			return
		}
		if d < 0 {
			t.Errorf("%q is %v", s, time.Duration(d))
		}
		var again durationValue
		if err := again.Set(d.String()); err != nil || again != d {
			t.Errorf("%q is shown as %q, which is %v, %v", s, d.String(), time.Duration(again), err)
		}
	})
}
