//go:build linux

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// exFile is what the original's example of a file does.
const exFile = `
console.log('This is standard out.');
console.error('This is standard err');
process.argv.forEach((val, index) => console.log(index + ': ' + val));
`

var examples = regexp.MustCompile("(?s)```sh\n(.*?)```\n\n```text\n(.*?)```\n")

// TestExamplesForThoseWhoMigrate runs each example of docs/migrating.md and wants
// what it says that they print.
func TestExamplesForThoseWhoMigrate(t *testing.T) {
	need(t, "node", "git")
	doc, err := os.ReadFile("../docs/migrating.md")
	if err != nil {
		t.Fatal(err)
	}
	all := examples.FindAllSubmatch(doc, -1)
	if len(all) < 7 {
		t.Fatalf("docs/migrating.md has %d examples with what they print, want at least 7", len(all))
	}
	t.Parallel()
	master, _ := workers(t, 1)
	l := master.host.lab
	l.file("exFile.js", exFile)
	l.file("make.sh", `set -e
mkdir -p git/strongloop/slc/bin && cd git/strongloop/slc && git init -q .
commit() { printf '#!/bin/sh\necho slc %s: $1\n' $1 > bin/slc; chmod +x bin/slc; git add bin
	git -c user.name=t -c user.email=t@localhost commit -q -m $1; git tag v$1; }
commit 1.1; commit 1.2
`)
	sh := func(script string) *result {
		cmd := master.host.Command("sh", "-c", "cd "+l.dir+" && "+script)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"),
			"SCAGENT_ADDR=unix://"+master.socket, "GIT_BASE=file://"+l.dir+"/git")
		return start(t, cmd).await()
	}
	sh("sh make.sh").want(t, 0, "")
	for i, e := range all {
		l.run(t, fmt.Sprintf("example %d", i+1), func(t *testing.T) {
			sh(string(e[1])).want(t, 0, string(e[2]))
		})
	}
}
