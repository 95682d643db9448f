//go:build linux

package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// noise returns bytes of all values.
func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

func TestFilesGoAlongAndComeBackByteForByte(t *testing.T) {
	t.Parallel()
	master, _ := workers(t, 2)
	l := master.host.lab
	small, large := noise(1000), noise(3<<20) // inline, and by hash
	l.file("a.bin", small)
	l.file("b.bin", large)

	l.run(t, "one target", func(t *testing.T) {
		out := filepath.Join(l.dir, "one")
		r := master.call("submit", "-in", l.dir+"/a.bin", "-in", l.dir+"/b.bin:sub/c.bin", "-out", "*.out", "-out", "d/*", "-out-dir", out,
			"-shell", "cp a.bin x.out; mkdir d; cp sub/c.bin d/y; : > empty.out; echo not me > z.txt; sha256sum a.bin sub/c.bin")
		r.want(t, 0, fmt.Sprintf("%x  a.bin\n%x  sub/c.bin\n", sha256.Sum256([]byte(small)), sha256.Sum256([]byte(large))))
		wantFiles(t, out, map[string]string{"x.out": small, "d/y": large, "empty.out": ""})
	})
	l.run(t, "several targets", func(t *testing.T) {
		out := filepath.Join(l.dir, "several")
		master.call("submit", "-all", "-in", l.dir+"/b.bin", "-out", "*.out", "-out-dir", out, "-shell", "cp b.bin x.out; echo $SCAGENT_NODE > name.out").want(t, 0, "")
		wantFiles(t, out, map[string]string{"w1/x.out": large, "w1/name.out": "w1\n", "w2/x.out": large, "w2/name.out": "w2\n"})
	})
	l.run(t, "stdin", func(t *testing.T) {
		for _, in := range []string{"", small, large} {
			cmd := master.host.Command(binary(t), "submit", "-addr", "unix://"+master.socket, "-stdin", "--", "cat")
			cmd.Stdin = strings.NewReader(in)
			start(t, cmd).await().want(t, 0, in)
		}
	})
	l.run(t, "stdin is empty unless sent", func(t *testing.T) {
		cmd := master.host.Command(binary(t), "submit", "-addr", "unix://"+master.socket, "--", "wc", "-c")
		cmd.Stdin = strings.NewReader("not for you")
		start(t, cmd).await().want(t, 0, "0\n")
	})
}

// wantFiles wants exactly these files below dir.
func wantFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	n := 0
	filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil || fi.IsDir() {
			return nil
		}
		n++
		name, _ := filepath.Rel(dir, path)
		got, err := os.ReadFile(path)
		if content, ok := want[name]; !ok || err != nil || !bytes.Equal(got, []byte(content)) {
			t.Errorf("%s came back with %d bytes (%v); want %d, and it among the files: %v", name, len(got), err, len(content), ok)
		}
		return nil
	})
	if n != len(want) {
		t.Errorf("%d files came back, want %d", n, len(want))
	}
}

func TestATaskHasACleanEnvironmentAndAFreshDirectory(t *testing.T) {
	t.Parallel()
	h := newLab(t).host()
	h.Env = []string{"SCAGENT_TEST_CANARY=1", "CANARY=1", "TZ=UTC", "AWS_SECRET_ACCESS_KEY=1"}
	a := h.agent("-name", "w")
	out := a.call("submit", "-env", "MINE=a=b", "-env", "EMPTY=", "--", "env").ok(t)
	env := map[string]string{}
	for l := range strings.Lines(out) {
		k, v, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "=")
		env[k] = v
	}
	var names []string
	for k := range env {
		names = append(names, k)
	}
	slices.Sort(names)
	want := []string{"EMPTY", "HOME", "LANG", "MINE", "PATH", "SCAGENT_ATTEMPT", "SCAGENT_INDEX", "SCAGENT_NODE", "SCAGENT_RUN_ID",
		"SCAGENT_SLOTS", "SCAGENT_TASK_ID", "SCAGENT_WORKDIR", "TMPDIR", "TZ"}
	if !slices.Equal(names, want) {
		t.Errorf("a task's environment has %q, want %q", names, want)
	}
	for k, v := range map[string]string{"MINE": "a=b", "EMPTY": "", "SCAGENT_NODE": "w", "SCAGENT_ATTEMPT": "1", "SCAGENT_SLOTS": "1", "SCAGENT_INDEX": "0", "TZ": "UTC"} {
		if env[k] != v {
			t.Errorf("%s is %q, want %q", k, env[k], v)
		}
	}
	dir := env["SCAGENT_WORKDIR"]
	for _, k := range []string{"HOME", "TMPDIR"} {
		if env[k] != dir && !strings.HasPrefix(env[k], dir+"/") {
			t.Errorf("%s is %q, want it inside %q", k, env[k], dir)
		}
	}

	r := a.call("submit", "-shell", `pwd; ls -A; stat -c %a .; mkdir -p x/y; touch x/y/z "$TMPDIR/t"; chmod 0 x`)
	lines := strings.Split(r.ok(t), "\n")
	if fresh := lines[0]; fresh == dir || !slices.Contains(lines, "700") || len(lines) > 4 {
		t.Errorf("%s\nwant a directory besides %s, with nothing to see in it, of mode 700", r, dir)
	}
	// Removed before the result is told; spare directories have nothing in them.
	h.sh("find "+filepath.Dir(dir)+` -mindepth 1 ! -name .brood ! -regex '.*/spare-[0-9]+\(/\.tmp\)?'`).want(t, 0, "")
	h.lab.run(t, "dir", func(t *testing.T) {
		a.call("submit", "-dir", h.lab.dir, "-shell", `pwd; test "$SCAGENT_WORKDIR" != "$PWD"`).want(t, 0, h.lab.dir+"\n")
		if _, err := os.Stat(h.lab.dir); err != nil {
			t.Errorf("the directory of -dir: %v", err)
		}
	})
}
