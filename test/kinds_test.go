//go:build linux

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestJavaScriptFunctionsRun(t *testing.T) {
	t.Parallel()
	master, _ := workers(t, 1)
	l := master.host.lab
	l.run(t, "console and result", func(t *testing.T) {
		master.call("submit", "-js", `function(a,b,c){ console.log("Hello %s %s!",a,b); return c }`, `"distributed"`, `"world"`, `"hmm"`).
			want(t, 0, "Hello distributed world!\n\"hmm\"\n")
	})
	l.run(t, "async", func(t *testing.T) {
		master.call("submit", "-js", `async function(n){ await null; return {twice: 2*n} }`, `21`).want(t, 0, "{\"twice\":42}\n")
	})
	l.run(t, "throws", func(t *testing.T) {
		r := master.call("submit", "-js", `function(){ throw new TypeError("not this way") }`)
		if r.status != 1 || !strings.HasSuffix(r.stderr, "scagent: w1: failed: TypeError: not this way (at line 1:19)\n") {
			t.Errorf("%s\nwant status 1, and after its stack one line that says what and where", r)
		}
	})
	l.run(t, "endless", func(t *testing.T) {
		r := master.call("submit", "-timeout", "1s", "-js", `function(){ while(1){} }`)
		r.complains(t, 124, "timed out after 1s")
		master.call("submit", "-js", `()=>"well"`).want(t, 0, "\"well\"\n")
	})
}

// TestAFileGoesWhereItsInterpreterIs has a worker that has python3 and one that
// has not. What is called python3 is a script, so that the test needs none.
func TestAFileGoesWhereItsInterpreterIs(t *testing.T) {
	t.Parallel()
	h := newLab(t).host()
	with, without := filepath.Join(h.lab.dir, "with"), filepath.Join(h.lab.dir, "without")
	for _, dir := range []string{with, without} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, program := range []string{"sh", "cat"} {
			path, err := exec.LookPath(program)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path, filepath.Join(dir, program)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(with, "python3"), []byte("#!/bin/sh\necho python3 ran $(cat $1) $2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.lab.file("x.py", "of x.py")
	h.lab.file("y", "#!/usr/bin/env python3\n")
	worker := func(name, path string) *agent {
		cmd := h.Command(binary(t), "agent", "-name", name, "-role", "worker")
		cmd.Env = append(os.Environ(), "PATH="+path)
		a := &agent{process: start(t, cmd), host: h}
		return a.up()
	}
	master := h.agent("-name", "m", "-role", "master")
	worker("w1", without)
	two := worker("w2", with)
	eventually(t, patience, "the master sees both workers", func() (bool, any) {
		ms := master.members()
		return len(alive(ms)) == 3, ms
	})
	for range 3 {
		master.call("submit", "-file", h.lab.dir+"/x.py", "arg").want(t, 0, "python3 ran of x.py arg\n")
	}
	master.call("submit", "-all", "-file", h.lab.dir+"/x.py", "arg").want(t, 0, "w2: python3 ran of x.py arg\n")
	two.signal(syscall.SIGTERM)
	two.await()
	eventually(t, patience, "nobody has python3 any more", func() (bool, any) {
		r := master.call("submit", "-wait-workers", "0s", "-file", h.lab.dir+"/y")
		return strings.Contains(r.stderr, "0 of 1 workers match: 1 is without interpreter python3") && r.status == 125, r
	})
}

// TestADirectoryGoesAlongAndComesBack sends 2,000 files in a tree.
func TestADirectoryGoesAlongAndComesBack(t *testing.T) {
	t.Parallel()
	master, ws := workers(t, 1)
	l := master.host.lab
	tree := func(script string) string {
		out, err := exec.Command("sh", "-c", "cd "+l.dir+" && "+script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
		return string(out)
	}
	tree(`mkdir -p dir/empty dir/deep/er && cd dir && i=0 && while [ $i -lt 2000 ]; do echo "file $i" > deep/f$i; i=$((i+1)); done
		head -c 3000000 /dev/urandom > deep/er/large; chmod 755 deep/f7; chmod 400 deep/f8; ln -s deep/f7 link; ln -s ../f8 deep/er/up; chmod 555 deep/er`)
	const list = `find . -printf '%p %m %l\n' | sort; find . -type f | sort | xargs sha256sum`
	out := filepath.Join(l.dir, "out")
	begin := time.Now()
	master.call("submit", "-in", l.dir+"/dir", "-out", "dir/**", "-out-dir", out, "--", "sh", "-c", "find dir -type f | wc -l").want(t, 0, "2001\n")
	t.Logf("2,001 files went along and came back in %v", time.Since(begin))
	if went, came := tree("cd dir && "+list), tree("cd out/dir && "+list); went != came {
		t.Errorf("what came back differs:\n%.2000s\nfrom what went:\n%.2000s", came, went)
	}
	ws[0].call("info").ok(t)
	tree("chmod -R u+w .")
}
