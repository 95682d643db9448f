//go:build linux

package test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestWhatMakesNoSenseIsOneClearLine gives commands what they cannot take: each
// says what is wrong in one line and changes nothing.
func TestWhatMakesNoSenseIsOneClearLine(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	master, ws := workers(t, 1)
	l := master.host.lab
	file := l.file("f", "x")
	json := func(name, text string) string { return l.file(name+".json", text) }
	ran := `touch ` + l.dir + `/ran`
	before := l.state(t, master, ws[0])

	for _, c := range []struct {
		name   string
		status int
		args   []string // of a command that talks to the master
		words  []string
	}{
		{"a malformed query", 125, []string{"submit", "-where", "data.gpu ==", "-shell", ran}, []string{"-where"}},
		{"an unknown name in a query", 125, []string{"submit", "-where", "gpu > 1", "-shell", ran}, []string{"-where", "gpu"}},
		{"an unknown flag", 125, []string{"submit", "-nope", "-shell", ran}, []string{"-nope"}},
		{"nothing to run", 125, []string{"submit"}, []string{"nothing to run"}},
		{"an empty command", 125, []string{"submit", "--", ""}, []string{"empty"}},
		{"a file name that leads out", 125, []string{"submit", "-in", file + ":../x", "-shell", ran}, []string{"../x"}},
		{"an absolute file name", 125, []string{"submit", "-in", file + ":/etc/x", "-shell", ran}, []string{"/etc/x"}},
		{"a file that is not there", 125, []string{"submit", "-in", "/nowhere", "-shell", ran}, []string{"/nowhere"}},
		{"outputs that lead out", 125, []string{"submit", "-out", "../*", "-shell", ran}, []string{"../*"}},
		{"a relative directory", 125, []string{"submit", "-dir", "x", "-shell", ran}, []string{"-dir", `"x"`}},
		{"a directory that is not there", 125, []string{"submit", "-dir", "/nowhere", "-shell", ran}, []string{"/nowhere"}},
		{"a variable without a value", 125, []string{"submit", "-env", "A", "-shell", ran}, []string{"-env"}},
		{"no attempts", 125, []string{"submit", "-attempts", "-1", "-shell", ran}, []string{"attempts"}},
		{"a negative timeout", 125, []string{"submit", "-timeout", "-1s", "-shell", ran}, []string{"timeout"}},
		{"a timeout that is none", 125, []string{"submit", "-timeout", "soon", "-shell", ran}, []string{"-timeout", "soon"}},
		{"none of many", 125, []string{"submit", "-n", "0", "-shell", ran}, []string{"-n"}},
		{"two targets", 125, []string{"submit", "-all", "-on", "w1", "-shell", ran}, []string{"all", "on"}},
		{"arguments that are no JSON", 125, []string{"submit", "-func", "scagent.echo", "{"}, []string{"JSON"}},
		{"a task that is no JSON", 125, []string{"submit", "-task", json("a", `{"task":`)}, []string{"-task", "a.json"}},
		{"a task that is a list", 125, []string{"submit", "-task", json("b", `[]`)}, []string{"-task", "b.json"}},
		{"a task with an unknown key", 125, []string{"submit", "-task", json("c", `{"kind":"command","argv":["true"],"oops":1}`)}, []string{"oops"}},
		{"a task of an unknown kind", 125, []string{"submit", "-task", json("d", `{"kind":"king","argv":["true"]}`)}, []string{"king"}},
		{"a task of an unknown type", 125, []string{"submit", "-task", json("e", `{"type":"king"}`)}, []string{"king"}},
		{"a task file that is not there", 125, []string{"submit", "-task", "/nowhere"}, []string{"/nowhere"}},
		{"an argument with a NUL", 125, []string{"submit", "-task", json("g", `{"kind":"command","argv":["touch","`+l.dir+`/ran\u0000x"]}`)}, []string{"NUL"}},
		{"a shell line with a NUL", 125, []string{"submit", "-task", json("h", `{"kind":"command","shell":"`+ran+`;\u0000"}`)}, []string{"NUL"}},
		{"a variable with a NUL", 125, []string{"submit", "-task", json("i", `{"kind":"command","shell":"`+ran+`","env":{"A":"\u0000"}}`)}, []string{"NUL"}},
		{"a variable name with =", 125, []string{"submit", "-task", json("j", `{"kind":"command","shell":"`+ran+`","env":{"A=B":"C"}}`)}, []string{"A=B"}},
		{"an input that leads out", 125, []string{"submit", "-task", json("k", `{"kind":"command","shell":"`+ran+`","inputs":[{"name":"a/../../x","content_base64":""}]}`)}, []string{"a/../../x"}},
		{"members, a malformed query", 2, []string{"members", "-where", "(("}, []string{"-where"}},
		{"members, an unknown role", 2, []string{"members", "-role", "king"}, []string{"king"}},
		{"members, an argument", 2, []string{"members", "who"}, []string{"who"}},
		{"join, an address that is none", 1, []string{"join", "a b"}, []string{"a b"}},
		{"join, nobody", 2, []string{"join"}, []string{"address"}},
		{"status of nothing", 2, []string{"status"}, []string{"id"}},
		{"data, a file that is no JSON", 2, []string{"data", "@" + file}, []string{file}},
	} {
		l.run(t, c.name, func(t *testing.T) {
			master.call(c.args[0], c.args[1:]...).complains(t, c.status, c.words...)
		})
	}
	l.run(t, "the API", func(t *testing.T) {
		for _, body := range []string{`{"task":{"kind":"command","argv":["touch","` + l.dir + `/ran\u0000"]}}`, `{`, `null`, `{"task":{"kind":"command"}}`} {
			cmd := master.host.Command("curl", "-sS", "-w", " %{http_code}", "-H", "Content-Type: application/json", "--data-binary", "@-",
				"--unix-socket", master.socket, "http://agent/v1/tasks")
			cmd.Stdin = strings.NewReader(body)
			if out := start(t, cmd).await().ok(t); !strings.HasPrefix(out, `{"error":{"code":"`) || !strings.Contains(out, " 400") {
				t.Errorf("POST /v1/tasks of %s is answered %s; want 400 and an error", body, out)
			}
		}
	})
	l.run(t, "an address where no agent is", func(t *testing.T) {
		h := master.host
		h.scagent("members", "-addr", "unix:///nowhere.sock").complains(t, 1, "/nowhere.sock")
		h.scagent("submit", "-addr", "unix:///nowhere.sock", "true").complains(t, 125, "/nowhere.sock")
		h.scagent("info", "-addr", "ftp://x").complains(t, 1, "ftp://x")
	})
	l.run(t, "an unknown command", func(t *testing.T) {
		r := master.host.scagent("sumbit", "true")
		if r.status != 2 && r.status != 127 || r.stdout != "" || !strings.Contains(r.stderr, "submit") {
			t.Errorf("%s\nwant it to name submit", r)
		}
	})
	if after := l.state(t, master, ws[0]); !slices.Equal(before, after) {
		t.Errorf("what was refused has changed something:\nbefore %q\nafter  %q", before, after)
	}
}

// state is what bad input must not change.
func (l *lab) state(t *testing.T, master, worker *agent) (lines []string) {
	t.Helper()
	info := decode[struct{ Counters map[string]uint64 }](t, worker.call("info", "-json").ok(t))
	lines = append(lines, fmt.Sprint("attempts ", info.Counters["attempts"]))
	for _, m := range master.members() {
		lines = append(lines, fmt.Sprintf("%v %s %v", m, m.Data, m.Available))
	}
	if _, err := os.Stat(l.dir + "/ran"); err == nil {
		lines = append(lines, "a task ran")
	}
	return append(lines, worker.host.sh("find /var/lib/scagent/*/work -mindepth 1 2>/dev/null || true").ok(t))
}

func TestAnAgentThatCannotBeSaysWhyInOneLine(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := l.hosts(1)[0]
	h.agent("-name", "first", "-state-dir", l.dir+"/first")
	file := l.file("file", "x")
	h.sh("mkdir /var/lib/ro && mount -t tmpfs -o ro tmpfs /var/lib/ro").ok(t)
	run := func() string { return h.sh("ls -A /run/scagent | grep -v lock; ls -AR " + l.dir).ok(t) }
	before := run()
	for _, c := range []struct {
		name   string
		status int
		args   []string
		words  []string
	}{
		{"an unknown flag", 2, []string{"-nope"}, []string{"-nope"}},
		{"an argument", 2, []string{"now"}, []string{"now"}},
		{"an unknown role", 2, []string{"-role", "king"}, []string{"-role", "king"}},
		{"no slots", 2, []string{"-slots", "0"}, []string{"-slots"}},
		{"a profile", 2, []string{"-profile", "x"}, []string{"-profile"}},
		{"data that is none", 2, []string{"-data", "{"}, []string{"-data"}},
		{"a port that is taken", 1, []string{"-bind", "10.77.0.1:44201"}, []string{"44201", "is taken"}},
		{"a tracker's port that is taken", 1, []string{"-role", "tracker"}, []string{"44201", "is taken"}},
		{"an address of another host", 1, []string{"-bind", "10.77.0.9"}, []string{"10.77.0.9"}},
		{"an address that is none", 1, []string{"-bind", "here:there"}, []string{"here:there"}},
		{"a state directory in use", 1, []string{"-state-dir", l.dir + "/first"}, []string{l.dir + "/first"}},
		{"a state directory that is a file", 1, []string{"-state-dir", file}, []string{file}},
		{"a state directory below a file", 1, []string{"-state-dir", file + "/x"}, []string{file}},
		{"a state directory that cannot be written", 1, []string{"-state-dir", "/var/lib/ro"}, []string{"/var/lib/ro"}},
		{"a long name", 1, []string{"-name", strings.Repeat("n", 65)}, []string{"64"}},
	} {
		l.run(t, c.name, func(t *testing.T) {
			h.scagent(append([]string{"agent", "-log-level", "ERR"}, c.args...)...).complains(t, c.status, c.words...)
		})
	}
	if after := run(); after != before {
		t.Errorf("agents that could not be left something behind:\nbefore %s\nafter  %s", before, after)
	}
}
