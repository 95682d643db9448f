package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// What GNU parallel 20231122 makes of the same.
func TestReplacementStrings(t *testing.T) {
	for _, c := range []struct{ input, noExt, base, dir, baseNoExt string }{
		{"a.tar.gz", "a.tar", "a.tar.gz", ".", "a.tar"},
		{"d/e.f/a.b", "d/e.f/a", "a.b", "d/e.f", "a"},
		{"d.e/a", "d.e/a", "a", "d.e", "a"},
		{"/a", "/a", "a", "/", "a"},
		{"d/", "d/", "", ".", ""},
		{"/", "/", "", "/", ""},
		{"//a", "//a", "a", "/", "a"},
		{"d//a", "d//a", "a", "d", "a"},
		{"../a/../b", "../a/../b", "b", "../a/..", "b"},
		{".profile", "", ".profile", ".", ""},
		{"a.", "a", "a.", ".", "a"},
		{"", "", "", ".", ""},
		{"ä b.c", "ä b", "ä b.c", ".", "ä b"},
	} {
		in := &mapInput{text: c.input, seq: 7}
		want := fmt.Sprintf("%s|%s|%s|%s|%s|7|{x}{", c.input, c.noExt, c.base, c.dir, c.baseNoExt)
		if got := parseWord("{}|{.}|{/}|{//}|{/.}|{#}|{x}{").fill(in, asIs); got != want {
			t.Errorf("%q is filled in as %q, want %q", c.input, got, want)
		}
	}
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct {
		name     string
		common   api.TaskSpec
		operands []string
		add      bool
		input    string
		line     string
	}{
		{"appended", api.TaskSpec{}, []string{"echo"}, true, "a b", "echo 'a b'"},
		{"not appended to a number", api.TaskSpec{}, []string{"echo", "{#}"}, true, "x", "echo 7"},
		{"not appended", api.TaskSpec{}, []string{"echo"}, false, "x", "echo"},
		{"filled in is not filled in again", api.TaskSpec{}, []string{"{}", "x{}{}"}, true, "{#}", "'{#}' 'x{#}{#}'"},
		{"shell", api.TaskSpec{Shell: "cat {} | wc"}, nil, true, "it's", `cat 'it'\''s' | wc`},
		{"shell, appended", api.TaskSpec{Shell: "cat"}, nil, true, "$(rm x)\n`y`", "cat '$(rm x)\n`y`'"},
		{"shell, nothing", api.TaskSpec{Shell: "echo {}"}, nil, true, "", "echo ''"},
		{"function", api.TaskSpec{Name: "f"}, []string{`{"a":"{}"}`, `"{#}"`}, true, `{"b": [1]}`, `-func f '{"a":"{}"}' '"{#}"' '{"b": [1]}'`},
		{"function of a word", api.TaskSpec{Name: "f"}, []string{"{.}", "1"}, true, "007.x", `-func f '"007"' 1`},
		{"source", api.TaskSpec{Source: "x"}, nil, true, "true", "-js true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := newTemplate(c.common, c.operands, c.add).line(&mapInput{text: c.input, seq: 7}); got != c.line {
				t.Errorf("line = %s, want %s", got, c.line)
			}
		})
	}
}

func TestArrays(t *testing.T) {
	for s, want := range map[string]string{
		"1-3": "1 2 3", "5-5": "5", "0-10:5": "0 5 10", "1-4:2": "1 3", "7-9:100": "7",
		"": "", "3": "", "1-": "", "-1": "", "-1-3": "", "3-1": "", "1-3:0": "", "1-3:-1": "", "1-3:": "", "a-b": "", "1-2-3": "", "1-9999999999": "", "+1-2": "",
	} {
		a, err := parseArray(s)
		if err != nil {
			if want != "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("parseArray(%q): %v", s, err)
			}
			continue
		}
		o := &mapOptions{array: &a}
		var got []string
		for in, err := range o.all(nil) {
			if err != nil || in.seq != len(got)+1 || fmt.Sprint(in.index) != in.text {
				t.Errorf("input %d of %q is %+v, %v", len(got)+1, s, in, err)
			}
			got = append(got, in.text)
		}
		if n, known := o.total(); strings.Join(got, " ") != want || !known || n != len(got) {
			t.Errorf("%q is %v, %d in all; want %q", s, got, n, want)
		}
	}
}

func TestHalts(t *testing.T) {
	for s, want := range map[string]halt{
		"now,fail=1": {now: true, fails: 1}, "soon,fail=12": {fails: 12}, "soon,fail=30%": {percent: 30}, "now,fail=100%": {now: true, percent: 100},
		"": {}, "now": {}, "now,fail=0": {}, "later,fail=1": {}, "now,fail=101%": {}, "now,success=1": {}, "now,fail=": {}, "now,fail=-1": {},
	} {
		if got, err := parseHalt(s); got != want || (err == nil) != (want != halt{}) {
			t.Errorf("parseHalt(%q) = %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, c := range []struct {
		halt          halt
		failed, ended int
		want          bool
	}{
		{halt{}, 100, 100, false}, {halt{fails: 2}, 1, 1, false}, {halt{fails: 2}, 2, 100, true},
		{halt{percent: 10}, 2, 2, false}, {halt{percent: 10}, 3, 31, false}, {halt{percent: 10}, 3, 30, true},
	} {
		if got := c.halt.due(c.failed, c.ended); got != c.want {
			t.Errorf("%+v with %d of %d failed: %v, want %v", c.halt, c.failed, c.ended, got, c.want)
		}
	}
}

func TestMapUsageErrors(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "there is nothing to run; want a command, -shell, -js or -func"},
		{"::: a", "there is nothing to run; want a command, -shell, -js or -func"},
		{"-all x", "-all is for submit; map gives each input to one worker and waits for it"},
		{"-detach x", "-detach is for submit; map gives each input to one worker and waits for it"},
		{"-n=2 x", "-n is for submit; map gives each input to one worker and waits for it"},
		{"-expect=2 x", "-expect is for submit; map gives each input to one worker and waits for it"},
		{"-shell a -func f", "-shell and -func exclude each other"},
		{"-shell a b", `unexpected argument "b" after -shell; write ::: before the inputs`},
		{"-func f word", `argument 1, "word", is neither JSON nor a replacement string; write ::: before the inputs`},
		{"-a f x ::: y", "-a and ::: exclude each other"},
		{"-array 1-2 -a f x", "-a and -array exclude each other"},
		{"-array 2-1 x", `-array is "2-1"; want a first number that is at most the last; there is nothing from 2 to 1`},
		{"-0 x ::: y", "-0 goes with -a and standard input only"},
		{"x ::: y ::: z", "there is a second :::; want one list of inputs"},
		{"-resume x", "-resume needs the -joblog of the run before"},
		{"-j 0 x", "-j is 0; want 1 to 1000000"},
		{"-k -lb x", "-k excludes -lb and -json-stream, which print as things happen"},
		{"-lb -json x", "-lb and -json exclude each other"},
		{"-halt soon x", `-halt is "soon"; want now,fail=N or soon,fail=N, where N is a number such as 1, or a share such as 10%`},
		{"-where ( x", ""},
		{"-ressume x", "unknown flag -ressume; did you mean -resume?"},
	} {
		_, err := parseMap(strings.Fields(c.args))
		if err == nil || strings.Contains(err.Error(), "\n") || c.want != "" && err.Error() != c.want {
			t.Errorf("map %s: %v; want %s", c.args, err, c.want)
		}
	}
	newConsole("").want(t, []string{"map"}, 125, "", "scagent map: there is nothing to run; want a command, -shell, -js or -func (see: scagent map -h)\n")
}

func TestJoblogLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	open := func(args ...string) *joblog {
		t.Helper()
		o, err := parseMap(append(append([]string{"-joblog", file}, args...), "x"))
		if err != nil {
			t.Fatal(err)
		}
		l, err := openJoblog(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		return l
	}
	at := func(ms int64) *api.Time { return &api.Time{Time: time.UnixMilli(ms)} }
	l := open()
	for i, s := range []api.TaskStatus{
		{State: tasks.StateDone, Worker: "n1", StartedAt: at(1700000000123), FinishedAt: at(1700000001623)},
		{State: tasks.StateFailed, Reason: tasks.Exit, ExitCode: 3, Worker: "a\tb"},
		{State: tasks.StateFailed, Reason: tasks.Signalled, Signal: "SIGKILL"},
		{State: tasks.StateFailed, Reason: tasks.Timeout},
		{State: tasks.StateLost, Reason: tasks.Lost},
	} {
		l.add(&mapInput{seq: i + 1}, "echo\n1", &s, 5)
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	want := joblogHead +
		"1\tn1\t1700000000.123\t     1.500\t0\t5\t0\t0\techo\x001\n" +
		"2\ta\\tb\t0.000\t     0.000\t0\t5\t3\t0\techo\x001\n" +
		"3\t\t0.000\t     0.000\t0\t5\t0\t9\techo\x001\n" +
		"4\t\t0.000\t     0.000\t0\t5\t124\t0\techo\x001\n" +
		"5\t\t0.000\t     0.000\t0\t5\t125\t0\techo\x001\n"
	if b, err := os.ReadFile(file); err != nil || string(b) != want {
		t.Errorf("the log is\n%s\nwant\n%s", b, want)
	}

	// The last line was being written when the run was broken off.
	if err := os.WriteFile(file, []byte(want+"6\tn1\t0"), 0o600); err != nil {
		t.Fatal(err)
	}
	skips := func(l *joblog) (s string) {
		for seq := range 8 {
			if l.skips(seq) {
				s += fmt.Sprint(seq)
			}
		}
		return s
	}
	if got := skips(open("-resume")); got != "12345" {
		t.Errorf("-resume leaves out %s, want 12345", got)
	}
	l = open("-resume-failed")
	if got := skips(l); got != "1" {
		t.Errorf("-resume-failed leaves out %s, want 1", got)
	}
	l.add(&mapInput{seq: 3}, "again", &api.TaskStatus{State: tasks.StateDone}, 0)
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != want+"3\t\t0.000\t     0.000\t0\t0\t0\t0\tagain\n" {
		t.Errorf("the log is\n%s", b)
	}
	if got := skips(open("-resume-failed")); got != "13" {
		t.Errorf("-resume-failed leaves out %s, want 13", got)
	}

	if err := os.WriteFile(file, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := parseMap([]string{"-joblog", file, "-resume", "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openJoblog(o); err == nil || !strings.Contains(err.Error(), "line 1 is \"something else\"; want the columns") {
		t.Errorf("a file that is no log: %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "something else\n" {
		t.Errorf("the file that is no log is %q now", b)
	}
}

func TestMapExitStatus(t *testing.T) {
	_, addr := newAgent(t, mapScript)
	for n, want := range map[int]int{0: 0, 1: 1, 100: 100, 101: 101, 300: 101} {
		con := newConsole(strings.Repeat("1\n", n))
		if got := Run(&con.Env, []string{"map", "-addr", addr, "exit"}); got != want {
			t.Errorf("%d failures: status %d, want %d", n, got, want)
		}
		if lines := strings.Count(con.err.String(), "\n"); lines != min(n, maxClosing+1) {
			t.Errorf("%d failures: there are %d lines on standard error", n, lines)
		}
	}
}

func TestInputThatIsTooLong(t *testing.T) {
	for in, err := range readInputs("standard input", strings.NewReader("x\n"+strings.Repeat("y", maxInputBytes+2)), '\n') {
		if err != nil && err.Error() != fmt.Sprintf("input 2 of standard input is longer than %d bytes; send it as a file", maxInputBytes) || err == nil && in.text != "x" {
			t.Errorf("input %+v, %v", in, err)
		}
	}
}

func TestBarLines(t *testing.T) {
	for want, got := range map[string]string{
		"[###############...............] 50/100, 2 failed, 5/s, 10s left": barLine(50, 2, 100, true, 10*time.Second),
		"[##############################] 0/0":                             barLine(0, 0, 0, true, 0),
		"50/60+, 100/s":                                                    barLine(50, 0, 60, false, time.Second/2),
	} {
		if got != want {
			t.Errorf("bar is %q, want %q", got, want)
		}
	}
}

func TestWholePrinterKeepsOrder(t *testing.T) {
	for keep, want := range map[bool]string{false: "c2a3b2", true: "a3b2c2"} {
		con := newConsole("")
		s := newStreams(&con.Env)
		p := &wholePrinter{inner: &rawPrinter{s}, keep: keep, tasks: map[int]*wholeTask{}}
		out := func(index int, text string) {
			p.event("w", &api.StreamEvent{Type: api.StreamOutput, Index: index, Stream: stdout, DataBase64: []byte(text)})
		}
		done := func(index int) {
			p.event("w", &api.StreamEvent{Type: api.StreamResult, Index: index, Result: &api.TaskStatus{State: tasks.StateDone}})
		}
		out(0, "a")
		out(2, "c")
		out(0, "1")
		p.event("w", &api.StreamEvent{Type: api.StreamAgain, Index: 0})
		out(1, "b")
		out(2, "2")
		done(2)
		out(0, "a3")
		done(0)
		out(1, "2")
		done(1)
		p.end()
		if s.flush(); con.out.String() != want {
			t.Errorf("keep %v: %q, want %q", keep, con.out.String(), want)
		}
	}
}
