package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// play gives events to the printer that the arguments of submit ask for, and
// returns what it printed. An event is "LABEL INDEX TYPE TEXT".
func play(t *testing.T, args string, several, color bool, events ...string) (stdout, stderr string) {
	t.Helper()
	o, err := parseSubmit(append(strings.Fields(args), "x"))
	if err != nil {
		t.Fatal(err)
	}
	c := newConsole("")
	s := newStreams(&c.Env)
	p := newPrinter(o, several, color, s)
	for _, line := range events {
		var label, kind string
		var index int
		fmt.Sscan(line, &label, &index, &kind)
		_, text, _ := strings.Cut(line, kind)
		text = strings.TrimPrefix(text, " ")
		e := &api.StreamEvent{Type: kind, Index: index, Worker: label, Attempt: 1}
		switch kind {
		case "stdout", "stderr":
			e.Type, e.Stream, e.DataBase64 = api.StreamOutput, kind, []byte(text)
		case "done":
			e.Type, e.Result = api.StreamResult, &api.TaskStatus{Index: index, Kind: tasks.Command, State: tasks.StateDone, Worker: label}
		case "value":
			e.Type, e.Result = api.StreamResult, &api.TaskStatus{Index: index, Kind: tasks.Function, State: tasks.StateDone, Result: []byte(text)}
		}
		p.event(label, e)
	}
	p.end()
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	return c.out.String(), c.err.String()
}

func TestPrinters(t *testing.T) {
	for _, c := range []struct {
		name           string
		args           string
		several        bool
		events         []string
		stdout, stderr string
	}{
		{"one target is raw", "", false,
			[]string{"n1 0 started", "n1 0 stdout a\x00\xff", "n1 0 stderr e\n", "n1 0 again", "n1 0 stdout \x1b[31mb", "n1 0 done"},
			"a\x00\xff\x1b[31mb", "e\n"},
		{"one target's value", "", false, []string{"n1 0 stdout log", "n1 0 value {\"a\":1}"}, "log{\"a\":1}\n", ""},
		{"one target's lack of a value", "", false, []string{"n1 0 value"}, "null\n", ""},
		{"whole lines with names", "-all", true,
			[]string{"n1 0 stdout a", "n2 1 stdout x\ny\nz", "n1 0 stderr E", "n1 0 stdout b\n\nc", "n2 1 done", "n1 0 stderr F\n", "n1 0 done"},
			"n2: x\nn2: y\nn1: ab\nn1: \nn2: z\nn1: c\n", "n1: EF\n"},
		{"an attempt's half line is dropped", "-all", true, []string{"n1 0 stdout a\nhal", "n1 0 again", "n1 0 stdout b\n", "n1 0 done"}, "n1: a\nn1: b\n", ""},
		{"values with names", "-all", true, []string{"n1 0 stdout log", "n1 0 value 1", "n2 1 value"}, "n1: log\nn1: 1\nn2: null\n", ""},
		{"lines without names", "-all -no-prefix", true, []string{"n1 0 stdout a", "n2 1 stdout x\n", "n1 0 done", "n2 1 done"}, "x\na\n", ""},
		{"retries print the last attempt", "-all -retry 1", true,
			[]string{"n1 0 stdout void\n", "n1 0 stderr void\n", "n2 1 stdout x\n", "n1 0 again", "n1 0 stdout a\n", "n1 0 stderr e\n", "n2 1 done", "n1 0 done"},
			"n2: x\nn1: a\n", "n1: e\n"},
		{"folded", "-all -fold", true,
			[]string{"n3 2 stdout same\n", "n1 0 stdout sa", "n1 0 stdout me\n", "n2 1 stdout void", "n2 1 again", "n2 1 stdout other", "n2 1 stderr e\n",
				"n3 2 done", "n4 3 done", "n1 0 done", "n2 1 done"},
			"n1,n3:\nsame\nn2:\nother\n", "n2:\ne\n"},
		{"folded values", "-all -fold", true, []string{"n2 1 value 1", "n1 0 value 1", "n3 2 value 2"}, "n1,n2:\n1\nn3:\n2\n", ""},
		{"folded without names", "-all -fold -no-prefix", true, []string{"n1 0 stdout a", "n2 1 stdout a", "n1 0 done", "n2 1 done"}, "a\n", ""},
		{"events", "-json-stream", true, []string{"n1 0 started", "n1 0 stdout a"},
			`{"type":"started","index":0,"worker":"n1","attempt":1}` + "\n" +
				`{"type":"output","index":0,"worker":"n1","attempt":1,"stream":"stdout","data_base64":"YQ=="}` + "\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr := play(t, c.args, c.several, false, c.events...)
			if stdout != c.stdout || stderr != c.stderr {
				t.Errorf("stdout %q\n  want %q\nstderr %q\n  want %q", stdout, c.stdout, stderr, c.stderr)
			}
		})
	}
}

func TestNamesHaveColoursOnATerminal(t *testing.T) {
	stdout, stderr := play(t, "-all", true, true, "n1 0 stdout a\n", "n2 1 stdout b\n", "n1 0 stderr e\n")
	if want := "\x1b[31mn1:\x1b[0m a\n\x1b[32mn2:\x1b[0m b\n"; stdout != want || stderr != "n1: e\n" {
		t.Errorf("stdout %q, want %q; stderr %q", stdout, want, stderr)
	}
}

func TestLinesWithoutEndAreBroken(t *testing.T) {
	var parts []string
	for range 3 {
		parts = append(parts, "n1 0 stdout "+strings.Repeat("x", maxLineBytes/2))
	}
	stdout, _ := play(t, "-all", true, false, append(parts, "n1 0 stdout y", "n1 0 done")...)
	lines := strings.SplitAfter(stdout, "\n")
	if len(lines) != 3 || len(lines[0]) != len("n1: ")+maxLineBytes+1 || lines[1] != "n1: "+strings.Repeat("x", maxLineBytes/2)+"y\n" {
		t.Errorf("%d lines, the first of %d bytes; want 2 of which the first has %d", len(lines)-1, len(lines[0]), len("n1: ")+maxLineBytes+1)
	}
}

func TestSpoolKeepsWhatDoesNotFitIntoMemory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := &spool{}
	var want, got strings.Builder
	for i := range 200 {
		stream := []string{stdout, stderr}[i%2]
		data := bytes.Repeat([]byte{byte(i)}, 5000)
		s.add(stream, data)
		fmt.Fprintf(&want, "%s %x\n", stream, data)
	}
	if s.file == nil || s.mem.Len() > maxSpoolBytes+6000 {
		t.Fatalf("file %v, %d bytes in memory; want a file and at most about %d", s.file, s.mem.Len(), maxSpoolBytes)
	}
	for range 2 {
		got.Reset()
		s.replay(func(stream string, data []byte) { fmt.Fprintf(&got, "%s %x\n", stream, data) })
		if got.String() != want.String() {
			t.Fatalf("replay differs: %d bytes, want %d", got.Len(), want.Len())
		}
	}
	s.close()
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "*")); len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
}

func TestSpoolWithoutADirectoryStaysInMemory(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	s := &spool{}
	for range 100 {
		s.add(stdout, make([]byte, 10_000))
	}
	n := 0
	s.replay(func(_ string, data []byte) { n += len(data) })
	if n != 1_000_000 {
		t.Errorf("replay gave %d bytes, want 1000000", n)
	}
}

// order writes down what is written to both streams.
type order struct {
	log  *[]string
	name string
	err  error
}

func (o order) Write(p []byte) (int, error) {
	*o.log = append(*o.log, o.name+string(p))
	return len(p), o.err
}

func TestStreamsKeepTheirOrder(t *testing.T) {
	var log []string
	s := newStreams(&Env{Stdout: order{&log, "1", nil}, Stderr: order{&log, "2", nil}})
	s.to(stdout).WriteString("a")
	s.to(stdout).WriteString("b")
	s.to(stderr).WriteString("c")
	s.to(stdout).WriteString("d")
	if err := s.flush(); err != nil || strings.Join(log, " ") != "1ab 2c 1d" {
		t.Errorf("flush = %v, wrote %q", err, log)
	}
}

func TestStreamsRememberThatStdoutIsClosed(t *testing.T) {
	var log []string
	s := newStreams(&Env{Stdout: order{&log, "1", syscall.EPIPE}, Stderr: order{&log, "2", syscall.EPIPE}})
	s.to(stderr).WriteString("a")
	if err := s.flush(); err != nil {
		t.Errorf("flush with a closed stderr = %v, want nil", err)
	}
	s.to(stdout).WriteString("b")
	s.to(stderr).WriteString("c") // writes b
	if err := s.flush(); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("flush = %v, want EPIPE", err)
	}
}

func TestLabels(t *testing.T) {
	l := newLabels(&api.Submitted{Tasks: []api.SubmittedTask{{Worker: "n1"}, {}}})
	for _, c := range []struct {
		e         api.StreamEvent
		of, inDir string
	}{
		{api.StreamEvent{Index: 0}, "n1", "n1"},
		{api.StreamEvent{Index: 1}, "task 2", "task 2"},
		{api.StreamEvent{Index: 0, Worker: "n1", WorkerID: "aaaaaaaaaa"}, "n1", "n1"},
		{api.StreamEvent{Index: 1, Worker: "n1", WorkerID: "bbbbbbbbbb"}, "n1-bbbbbbbb", "n1-bbbbbbbb"},
		{api.StreamEvent{Index: 0, Worker: "n1", WorkerID: "aaaaaaaaaa"}, "n1", "n1"},
		{api.StreamEvent{Index: 1, Worker: "../x", WorkerID: "cccccccccc"}, "../x", "worker-cccccccc"},
		{api.StreamEvent{Index: 1, Worker: "a/b", WorkerID: "dddddddddd"}, "a/b", "worker-dddddddd"},
		{api.StreamEvent{Index: 1, Worker: "..", WorkerID: "e"}, "..", "worker-e"},
		{api.StreamEvent{Index: 1, Worker: "x\x1b[2J", WorkerID: "ffffffffff"}, `x\x1b[2J`, "worker-ffffffff"},
		{api.StreamEvent{Index: 7}, "task 8", "task 8"},
	} {
		if of, dir := l.of(&c.e), l.dir(&c.e); of != c.of || dir != c.inDir {
			t.Errorf("%+v: label %q, directory %q; want %q, %q", c.e, of, dir, c.of, c.inDir)
		}
	}
}
