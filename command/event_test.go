package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
)

// sentTo has the agent of a test take events, and remember the last one as JSON.
func sentTo(t *testing.T) (last func() string, answer func(api.Sent, error), addr string) {
	b, addr := newAgent(t, script)
	text, sent := "nothing", api.Sent{Sent: 3}
	var fails error
	b.OnSend = func(_ context.Context, r api.SendRequest) (api.Sent, error) {
		j, err := json.Marshal(r)
		if err != nil {
			t.Error(err)
		}
		text = string(j)
		return sent, fails
	}
	return func() string { return text }, func(s api.Sent, err error) { sent, fails = s, err }, addr
}

func TestEventSends(t *testing.T) {
	last, _, addr := sentTo(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	for _, c := range []struct {
		name  string
		args  []string
		stdin string
		want  string
	}{
		{"to all", []string{"build.done"}, "", `{"event":"build.done","target":{"all":true}}`},
		{"to all, said so", []string{"-all", "a", "1"}, "", `{"event":"a","data":1,"target":{"all":true}}`},
		{"to some", []string{"-on", "n1,n2", "-on", "n3", "a"}, "", `{"event":"a","target":{"on":["n1","n2","n3"]}}`},
		{"to those that match", []string{"-where", "data.x == 1", "-except", "n1", "a"}, "", `{"event":"a","target":{"where":"data.x == 1","except":["n1"]}}`},
		{"flags after the name", []string{"a", "1", "-except", "n1"}, "", `{"event":"a","data":1,"target":{"all":true,"except":["n1"]}}`},
		{"JSON", []string{"a", `{"k": [1, "x"]}`}, "", `{"event":"a","data":{"k":[1,"x"]},"target":{"all":true}}`},
		{"null is nothing", []string{"a", "null"}, "", `{"event":"a","target":{"all":true}}`},
		{"text", []string{"a", "hello, world"}, "", `{"event":"a","data":"hello, world","target":{"all":true}}`},
		{"empty text", []string{"a", ""}, "", `{"event":"a","data":"","target":{"all":true}}`},
		{"a negative number", []string{"a", "--", "-5"}, "", `{"event":"a","data":-5,"target":{"all":true}}`},
		{"JSON of a file", []string{"a", file("x.json", "{\n  \"k\": 1\n}\n")}, "", `{"event":"a","data":{"k":1},"target":{"all":true}}`},
		{"text of a file", []string{"a", file("x.txt", "two\nlines\n")}, "", `{"event":"a","data":"two\nlines\n","target":{"all":true}}`},
		{"JSON of standard input", []string{"a", "-"}, " [1, 2]\n", `{"event":"a","data":[1,2],"target":{"all":true}}`},
		{"text of standard input", []string{"a", "-"}, "up 3 days", `{"event":"a","data":"up 3 days","target":{"all":true}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			newConsole(c.stdin).want(t, append([]string{"event", "-addr", addr}, c.args...), 0, "", "")
			if last() != c.want {
				t.Errorf("the agent was given %s, want %s", last(), c.want)
			}
		})
	}
	most := strings.Repeat("<", api.MaxEventDataBytes-2)
	newConsole(most).want(t, []string{"event", "-addr", addr, "a", "-"}, 0, "", "")
	newConsole(most+"<").want(t, []string{"event", "-addr", addr, "a", "-"}, 2, "",
		"scagent event: standard input has more than 1048576 bytes; an event carries no more (see: scagent event -h)\n")
}

func TestEventSaysWhoDoesNotHaveIt(t *testing.T) {
	_, answer, addr := sentTo(t)
	args := []string{"event", "-addr", addr, "-on", "n1,n2", "a"}
	newConsole("").want(t, append(args, "-json"), 0, "{\"sent\":3}\n", "")
	answer(api.Sent{Sent: 1, Failed: []api.Reply{
		{Name: "nosuch", Error: "no member has this name"}, {ID: "aaaabbbbcc", Name: "n2", Error: "it does not answer\x1b"}, {ID: "ddddeeeeff", Name: "n2", Error: "gone"},
	}}, nil)
	why := "scagent: nosuch: no member has this name\nscagent: n2: it does not answer\\x1b\nscagent: n2-ddddeeee: gone\n"
	newConsole("").want(t, args, 1, "", why)
	newConsole("").want(t, append(args, "-q"), 1, "", why)
	newConsole("").want(t, append(args, "-json"), 1, `{"sent":1,"failed":[{"id":"","name":"nosuch","error":"no member has this name"},`+
		`{"id":"aaaabbbbcc","name":"n2","error":"it does not answer\u001b"},{"id":"ddddeeeeff","name":"n2","error":"gone"}]}`+"\n", why)
	answer(api.Sent{}, fmt.Errorf("%w: nobody is there", tasks.ErrNoMatch))
	newConsole("").want(t, args, 1, "", "scagent: "+tasks.ErrNoMatch.Error()+": nobody is there\n")
}

func TestEventRequestPrintsReplies(t *testing.T) {
	b, addr := newAgent(t, script)
	data := func(v any) bus.Data {
		d, err := bus.Pack(v)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	replies := []api.Reply{
		{ID: "aaaabbbbcc", Name: "n1", Data: data(json.RawMessage(`{"load": 0.5}`))},
		{ID: "ccccddddee", Name: "n2", Error: "it did not reply within 10s"},
		{ID: "ddddeeeeff", Name: "n1", Data: data("text\n")},
		{ID: "eeeeffffgg", Name: "n\x1b3"},
	}
	want := ""
	b.OnRequest = func(_ context.Context, r api.SendRequest, reply func(api.Reply) error) error {
		if j, err := json.Marshal(r); err != nil || string(j) != want {
			t.Errorf("the agent was given %s, %v; want %s", j, err, want)
		}
		for _, r := range replies {
			if err := reply(r); err != nil {
				return err
			}
		}
		return nil
	}
	args := []string{"event", "-addr", addr, "-request", "load"}
	why := "scagent: n2: it did not reply within 10s\n"
	want = `{"event":"load","target":{"all":true},"request":true,"timeout_seconds":10}`
	newConsole("").want(t, args, 1, "n1: {\"load\":0.5}\nn1-ddddeeee: \"text\\n\"\nn\\x1b3: null\n", why)
	newConsole("").want(t, append(args, "-json"), 1, `{"id":"aaaabbbbcc","name":"n1","data":{"load":0.5}}
{"id":"ccccddddee","name":"n2","error":"it did not reply within 10s"}
{"id":"ddddeeeeff","name":"n1","data":"text\n"}
{"id":"eeeeffffgg","name":"n\u001b3"}
`, why)

	want = `{"event":"load","target":{"where":"true"},"request":true,"timeout_seconds":1.5}`
	replies = replies[:1] // the flags decide about the form, not how many reply
	newConsole("").want(t, append(args, "-where", "true", "-timeout", "1500ms"), 0, "n1: {\"load\":0.5}\n", "")
	want = `{"event":"load","target":{"on":["n1"]},"request":true,"timeout_seconds":10}`
	newConsole("").want(t, append(args, "-on", "n1"), 0, "{\"load\":0.5}\n", "")
	replies = []api.Reply{{ID: "ccccddddee", Name: "n1", Error: "no handler for it"}}
	newConsole("").want(t, append(args, "-on", "n1"), 1, "", "scagent: n1: no handler for it\n")
	b.OnRequest = func(context.Context, api.SendRequest, func(api.Reply) error) error {
		return fmt.Errorf("%w: nobody", tasks.ErrNoMatch)
	}
	newConsole("").want(t, append(args, "-on", "n1"), 1, "", "scagent: "+tasks.ErrNoMatch.Error()+": nobody\n")
}

// TestEventRequestPrintsAsTheyCome has the second node reply when the reply of the
// first was printed, and then waits for ^C.
func TestEventRequestPrintsAsTheyCome(t *testing.T) {
	b, addr := newAgent(t, script)
	c := newConsole("")
	b.OnRequest = func(ctx context.Context, _ api.SendRequest, reply func(api.Reply) error) error {
		for i := range 2 {
			if err := reply(api.Reply{Name: fmt.Sprint("n", i)}); err != nil {
				return err
			}
			waitFor(t, func() bool { return strings.Count(c.out.String(), "\n") == i+1 })
		}
		c.signals <- os.Interrupt
		<-ctx.Done()
		return context.Cause(ctx)
	}
	c.want(t, []string{"event", "-addr", addr, "-request", "a"}, 130, "n0: null\nn1: null\n", "")
	b.OnSend = func(ctx context.Context, _ api.SendRequest) (api.Sent, error) {
		c.signals <- os.Interrupt
		<-ctx.Done()
		return api.Sent{}, context.Cause(ctx)
	}
	c.want(t, []string{"event", "-addr", addr, "a"}, 130, "n0: null\nn1: null\n", "")
}

func TestEventStopsWhenNobodyReadsTheReplies(t *testing.T) {
	b, addr := newAgent(t, script)
	stopped := make(chan struct{})
	b.OnRequest = func(ctx context.Context, _ api.SendRequest, reply func(api.Reply) error) error {
		reply(api.Reply{Name: "n1"})
		<-ctx.Done()
		close(stopped)
		return context.Cause(ctx)
	}
	c := newConsole("")
	c.Stdout = closedPipe{}
	if status := Run(&c.Env, []string{"event", "-addr", addr, "-request", "a"}); status != 141 || c.err.String() != "" {
		t.Errorf("event = %d, stderr %q; want 141 and nothing", status, c.err.String())
	}
	<-stopped
}

func TestEventUsageErrors(t *testing.T) {
	dir := t.TempDir()
	missing, binary := filepath.Join(dir, "missing"), filepath.Join(dir, "binary")
	if err := os.WriteFile(binary, []byte{0xff, 0xfe}, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := os.Open(missing)
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "want the name of the event"},
		{[]string{"a b"}, `not the name of an event: "a b"; want parts of letters, digits, _ and -, with dots between them, such as build.done`},
		{[]string{"build.*"}, `not the name of an event: "build.*"; want parts of letters, digits, _ and -, with dots between them, such as build.done`},
		{[]string{"workerAvailable"}, "workerAvailable is an agent's own event; want another name"},
		{[]string{"a", "hello", "world"}, `unexpected argument "world"; want a name and data, which quotes keep together`},
		{[]string{"a", "-5"}, "unknown flag -5"},
		{[]string{"-all", "-on", "n1", "a"}, tasks.ErrBadTarget.Error() + ": all excludes on and where; want one of the three"},
		{[]string{"-where", "", "a"}, "-where is empty; want an expression, or -all"},
		{[]string{"-where", "data.x", "-on", "n1", "a"}, tasks.ErrBadTarget.Error() + ": on excludes where and n; the names say it all"},
		{[]string{"-timeout", "1s", "a"}, "-timeout goes with -request only"},
		{[]string{"-request", "-timeout", "0s", "a"}, "-timeout is 0s; want more than 0, and at most 1h"},
		{[]string{"-request", "-timeout", "2h", "a"}, "-timeout is 2h0m0s; want more than 0, and at most 1h"},
		{[]string{"a", "@" + missing}, err.Error()},
		{[]string{"a", "@" + binary}, binary + " is neither JSON nor text in UTF-8"},
		{[]string{"a", "\xff"}, "DATA is neither JSON nor text in UTF-8"},
	} {
		newConsole("").want(t, append([]string{"event"}, c.args...), 2, "", "scagent event: "+c.want+" (see: scagent event -h)\n")
	}
	c := newConsole("")
	if status := Run(&c.Env, []string{"event", "-where", "data.x ==", "a"}); status != 2 || !strings.HasPrefix(c.err.String(), "scagent event: -where: ") {
		t.Errorf("event -where with no query = %d, %q", status, c.err.String())
	}
}
