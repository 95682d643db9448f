package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/journal"
)

func TestJournalIsCheckedAndSalvaged(t *testing.T) {
	dir := t.TempDir()
	cfg := journal.DefaultConfig()
	cfg.Dir, cfg.Node = filepath.Join(dir, "journal", "n"), "n"
	j, err := journal.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range byte(10) {
		done := make(chan error, 1)
		j.Write(func(err error) { done <- err }, journal.Record{Kind: 1, ID: tasks.ID{i}, Value: []byte(strings.Repeat("x", 600))})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	run := func(status int, want string, args ...string) {
		t.Helper()
		c := newConsole("")
		if got := Run(&c.Env, append([]string{"journal"}, args...)); got != status || !strings.Contains(c.out.String()+c.err.String(), want) {
			t.Errorf("journal %q = %d, want %d and %q\n%s%s", args, got, status, want, c.out.String(), c.err.String())
		}
	}
	run(2, "want check or salvage", "check")
	run(2, `"mend" is unknown`, "mend", dir)
	run(1, "there is no journal", "check", t.TempDir())
	run(0, "10 records of node n", "check", dir)
	logs, _ := filepath.Glob(filepath.Join(cfg.Dir, "*.log"))
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	run(1, "damaged", "check", dir)
	if _, err := journal.Open(cfg); err == nil {
		t.Fatal("a damaged journal was opened")
	}
	run(0, "the files as they were are in", "salvage", dir)
	run(0, "9 records of node n", "check", dir)
}
