package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/scagent/scagent/"

// rules say what a package and those below it must not import. A path that ends
// in "!" is meant without those below it.
var rules = []struct {
	in      string
	except  []string // files or packages for which the rule does not hold
	no      []string
	because string
}{
	{in: "membership", no: []string{module + "tasks", module + "agent", module + "command"}, because: "membership knows nothing of tasks"},
	{in: "tasks", no: []string{module + "membership", module + "agent", module + "command", "github.com/hashicorp/memberlist"}, because: "tasks know a node by its id and a function that dials it"},
	{in: "tasks/query", no: []string{module}, because: "queries know nothing of the rest"},
	{in: "tasks/wire", no: []string{module + "tasks/master", module + "tasks/worker", module + "tasks/runner"}, because: "wire knows nothing of scheduling"},
	{in: "tasks/journal", no: []string{module + "tasks/"}, because: "a journal knows nothing of tasks but their IDs"},
	{in: "tasks/master", no: []string{module + "tasks/runner", module + "tasks/worker"}, because: "a master does not know how a task is run"},
	{in: "tasks/worker", no: []string{module + "tasks/master"}, because: "a worker does not know where a task came from"},
	{in: "tasks/runner", no: []string{module + "tasks/master", module + "tasks/worker", module + "tasks/wire", "net/http"}, because: "runners know nothing of the network"},
	{in: "agent/port", no: []string{module + "tasks", module + "membership"}, because: "the port knows nothing of members or tasks"},
	{in: "agent/client", no: []string{module + "agent!", module + "membership", module + "tasks/wire!"}, because: "a client talks HTTP"},
	{in: "agent", no: []string{module + "command", "github.com/mitchellh/cli"}, because: "an agent knows no flags and no terminals"},
	{in: "command", no: []string{"github.com/hashicorp/memberlist", module + "tasks/wire", module + "tasks/worker"}, because: "commands go through agent/client"},
	{in: "command", except: []string{"agent.go", "demo.go", "demo_run.go", "local.go"}, no: []string{module + "agent!"}, because: "only agent, demo and local start an agent"},
}

// TestArrows keeps the direction of imports that docs/architecture.md draws.
func TestArrows(t *testing.T) {
	onlyMembership := "github.com/hashicorp/memberlist"
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(path, "../"))
		dir := filepath.ToSlash(filepath.Dir(rel))
		for _, imp := range imports(t, path) {
			if imp == onlyMembership && dir != "membership" {
				t.Errorf("%s imports %s: only membership does", rel, imp)
			}
			for _, r := range rules {
				if dir != r.in && !strings.HasPrefix(dir, r.in+"/") || slices.Contains(r.except, filepath.Base(rel)) {
					continue
				}
				for _, no := range r.no {
					exact, only := strings.CutSuffix(no, "!")
					if own := module + r.in; imp == own || strings.HasPrefix(imp, own+"/") {
						continue
					}
					if imp == exact || !only && strings.HasPrefix(imp, strings.TrimSuffix(exact, "/")+"/") {
						t.Errorf("%s imports %s: %s", rel, imp, r.because)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// imports returns what a file imports, whatever system it is for.
func imports(t *testing.T, path string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, s := range f.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}
