package js_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/helper"
	"github.com/scagent/scagent/tasks/runner/js"
)

// The two ways of a script; what it can see is the same.
var here, inChild *js.Runner

func TestMain(m *testing.M) {
	helper.Run(map[string]func() int{js.Helper: js.Child})
	here, inChild = js.New(js.Config{InProcess: true}), js.New(js.Config{})
	status := m.Run()
	if err := inChild.Close(); err != nil {
		fmt.Println(err)
		status = 1
	}
	os.Exit(status)
}

// bothWays runs a test for each way.
func bothWays(t *testing.T, test func(*testing.T, *js.Runner)) {
	t.Run("in=here", func(t *testing.T) { test(t, here) })
	t.Run("in=child", func(t *testing.T) { test(t, inChild) })
}

// run runs a source both ways and returns what came of it.
func run(t *testing.T, source string, args ...json.RawMessage) (out tasks.Outcome, stdout, stderr string) {
	t.Helper()
	out, stdout, stderr = runOn(t, here, source, args...)
	out2, stdout2, stderr2 := runOn(t, inChild, source, args...)
	if out2.Code != out.Code || out2.Text != out.Text || !bytes.Equal(out2.Value, out.Value) || out2.Encoding != out.Encoding ||
		stdout2 != stdout || stderr2 != stderr {
		t.Errorf("%.200q\n in a child: %v %q, value %.200q, stdout %.200q, stderr %.200q\nin process: %v %q, value %.200q, stdout %.200q, stderr %.200q", source,
			out2.Code, out2.Text, out2.Value, stdout2, stderr2, out.Code, out.Text, out.Value, stdout, stderr)
	}
	return out, stdout, stderr
}

func runOn(t *testing.T, r *js.Runner, source string, args ...json.RawMessage) (out tasks.Outcome, stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	out = r.Run(t.Context(), &tasks.Attempt{Task: &tasks.Task{Kind: tasks.JS, Source: source, Args: args}, Stdout: &o, Stderr: &e})
	if strings.ContainsAny(out.Text, "\n\x1b") {
		t.Errorf("text of several lines: %q", out.Text)
	}
	if out.Started.IsZero() || out.Finished.Before(out.Started) {
		t.Errorf("started %v, finished %v", out.Started, out.Finished)
	}
	return out, o.String(), e.String()
}

func needLimits(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: limits of memory need linux")
	}
}
