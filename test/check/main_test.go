package main

import (
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// write makes a history of one task, which has ended or not.
func write(t *testing.T, path string, ended bool) {
	t.Helper()
	l, err := history.Open(path, log.New(io.Discard, "", 0), history.Event{Node: "maaaaaaa", Boot: "b1"})
	if err != nil {
		t.Fatal(err)
	}
	task := tasks.ID{1}
	l.Add(history.Event{Name: history.Submitted, Task: task, Kind: tasks.Function})
	if ended {
		l.Add(history.Event{Name: history.Ended, Task: task, State: tasks.StateFailed})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestExitStatusSaysWhatWasFound(t *testing.T) {
	dir := t.TempDir()
	good, bad, truth := filepath.Join(dir, "good"), filepath.Join(dir, "bad"), filepath.Join(dir, "truth")
	write(t, good, true)
	write(t, bad, false)
	if err := os.WriteFile(truth, []byte(tasks.ID{1}.String()+" 1 77 start 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args   []string
		status int
		out    string // part of what is printed
	}{
		"green":            {[]string{good}, 0, "violations=0"},
		"truth at the end": {[]string{good, "-truth", truth}, 0, "runs=1"},
		"violation":        {[]string{"-settle", "0s", bad}, 1, "I2 task=" + tasks.ID{1}.String() + ": it has not ended\n    " + bad + ":2 {"},
		"not yet":          {[]string{bad}, 0, "early=1"},
		"help":             {[]string{"-h"}, 0, "usage:"},
		"no history":       {nil, 2, "no histories are given"},
		"no such history":  {[]string{good, filepath.Join(dir, "none")}, 2, "none"},
		"no such option":   {[]string{"-x", good}, 2, "-x"},
		"not a history":    {[]string{truth, good}, 2, "damaged history: line 1"},
		"not a truth":      {[]string{"-truth", good, good}, 2, "bad truth log"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if got := run(c.args, &out, &out); got != c.status || !strings.Contains(out.String(), c.out) {
				t.Errorf("run(%q) = %d, want %d; it printed\n%s\nwhich should have %q", c.args, got, c.status, out.String(), c.out)
			}
		})
	}
}
