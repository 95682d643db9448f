package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/bus"
)

// TestEveryMessageSaysWhoMaySendIt holds the table of docs/security.md against the
// code: the types of frames and of gossip messages, and the routes of HTTP.
func TestEveryMessageSaysWhoMaySendIt(t *testing.T) {
	doc, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "## Who may send what")
	section, _, _ = strings.Cut(section, "\n## ")
	who := map[string]string{} // message: the first word of who may send it
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			who[m[1]] = strings.TrimFunc(strings.Fields(cells[3])[0], func(r rune) bool { return strings.ContainsRune(",;", r) })
		}
	}

	// Frames: the code has a table of its own.
	rights := map[string]string{"Member": "member", "Submit": "submit", "Work": "work"}
	senders := map[string]string{}
	inspect(t, "../tasks/wire/rights.go", func(n ast.Node) {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			k, ok1 := kv.Key.(*ast.Ident)
			v, ok2 := kv.Value.(*ast.Ident)
			if ok1 && ok2 && strings.HasPrefix(k.Name, "type") {
				senders[k.Name] = rights[v.Name]
			}
		}
	})
	var messages []string
	for name, want := range senders {
		messages = append(messages, name)
		if who[name] != want {
			t.Errorf("%s: docs say %q, tasks/wire/rights.go says %q", name, who[name], want)
		}
	}

	// Gossip: constants of type mailType, and those of agent that begin with message.
	constants := func(path string, is func(name, of string) bool) {
		inspect(t, path, func(n ast.Node) {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) == 0 {
				return
			}
			of := ""
			if id, ok := v.Type.(*ast.Ident); ok {
				of = id.Name
			}
			for _, name := range v.Names {
				if is(name.Name, of) {
					messages = append(messages, name.Name)
				}
			}
		})
	}
	constants("../membership/message.go", func(_, of string) bool { return of == "mailType" })
	files, _ := filepath.Glob("../agent/*.go")
	for _, f := range files {
		constants(f, func(name, _ string) bool { return strings.HasPrefix(name, "message") })
	}

	// HTTP: a route for each composite literal in routes.
	routes := 0
	paths := map[string]string{"blobPath": "/scagent/v1/blob/", "secretPath": "/scagent/v1/secret", "tasksPath": "/scagent/v1/tasks/", "runsPath": "/scagent/v1/runs/", "busPath": bus.Path}
	callers := map[string]string{"members": "member", "submitters": "submit", "anyone": "member"}
	inspect(t, "../agent/routes.go", func(n ast.Node) {
		c, ok := n.(*ast.CompositeLit)
		if !ok || len(c.Elts) != 3 {
			return
		}
		routes++
		switch first := c.Elts[0].(type) {
		case *ast.BasicLit:
			messages = append(messages, strings.Trim(first.Value, "\""))
		case *ast.Ident:
			messages = append(messages, paths[first.Name])
		case *ast.BinaryExpr:
			messages = append(messages, paths[first.Y.(*ast.Ident).Name])
		}
		path := messages[len(messages)-1]
		if want := callers[c.Elts[1].(*ast.Ident).Name]; who[path] != want {
			t.Errorf("%s: docs say %q, agent/routes.go says %q", path, who[path], want)
		}
	})
	if len(senders) < 17 || routes < 6 || !slices.Contains(messages, "mailFarewell") || !slices.Contains(messages, "messageRotated") {
		t.Fatalf("the code was not read as it is written: %d frames, %d routes, %v", len(senders), routes, messages)
	}
	inspect(t, "../agent/api/handler.go", func(n ast.Node) {
		if l, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(l.Value, `"/`) && l.Value != `"/"` {
			path := strings.Trim(l.Value, "\"")
			if strings.HasPrefix(path, "/v1/") {
				path = "/v1/"
			}
			messages = append(messages, path)
		}
	})
	for _, m := range messages {
		if who[m] == "" {
			t.Errorf("%s has no row in docs/security.md: who may send it?", m)
		}
	}
	for m := range who {
		if !slices.Contains(messages, m) {
			t.Errorf("docs/security.md has a row for %s, which is no message", m)
		}
	}
}

func inspect(t *testing.T, path string, f func(ast.Node)) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool { f(n); return true })
}
