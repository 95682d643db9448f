//go:build linux

package test

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSubmitEndsAsItsTaskDoes pins output and exit status of one target and several.
func TestSubmitEndsAsItsTaskDoes(t *testing.T) {
	t.Parallel()
	master, _ := workers(t, 3)
	dir := master.host.lab.dir
	plain := master.host.lab.file("plain", "not a program\n")
	for _, c := range []struct {
		name           string
		args           []string
		status         int
		stdout, stderr string // stderr: its one line's words, or "=" and the whole
	}{
		{"both streams and a status", []string{"--", "sh", "-c", "echo out; echo err >&2; exit 7"}, 7, "out\n", "=err\n"},
		{"a shell line", []string{"-shell", "echo a | tr a b; exit 3"}, 3, "b\n", "="},
		{"no line end", []string{"printf", "x"}, 0, "x", "="},
		{"killed by a signal", []string{"-shell", "kill -9 $$"}, 137, "", "SIGKILL"},
		{"terminated", []string{"-shell", "kill $$"}, 143, "", "SIGTERM"},
		{"timed out", []string{"-timeout", "200ms", "sleep", "60"}, 124, "", "timed out after 200ms"},
		{"no such command", []string{"no-such-command"}, 127, "", "no-such-command"},
		{"not executable", []string{plain}, 126, "", plain},
		{"a directory", []string{dir}, 126, "", dir},
		{"a function", []string{"-func", "scagent.echo", `{"a":[1,null]}`}, 0, `{"a":[1,null]}` + "\n", "="},
		{"no such function", []string{"-wait-workers", "100ms", "-func", "nope"}, 125, "", `without function "nope"`},
		{"a query that nobody matches", []string{"-wait-workers", "100ms", "-where", "data.a > 1 and facts.cpus >= 1", "true"}, 125, "", "3 have no data.a"},
		{"too few", []string{"-wait-workers", "100ms", "-all", "-expect", "4", "true"}, 125, "", "4"},
		{"several, by what all print", []string{"-on", "w1,w2", "--", "printf", "a\\nb"}, 0, "w1: a\nw1: b\nw2: a\nw2: b\n", "="},
		{"several, no prefix", []string{"-all", "-no-prefix", "echo", "a"}, 0, "a\na\na\n", "="},
		{"several, folded", []string{"-all", "-fold", "echo", "a"}, 0, "", "="},
		{"several that fail", []string{"-all", "-shell", `test $SCAGENT_NODE = w2 && exit 0; test $SCAGENT_NODE = w1 && exit 4; kill -9 $$`}, 2, "", "=scagent: w1: exit 4\nscagent: w3: signal SIGKILL\n"},
		{"n of them", []string{"-n", "2", "-prefer", `name != "w1"`, "-shell", "exit 1"}, 2, "", "=scagent: w2: exit 1\nscagent: w3: exit 1\n"},
	} {
		master.host.lab.run(t, c.name, func(t *testing.T) {
			r := master.call("submit", c.args...)
			stdout := sortLines(r.stdout)
			if strings.HasSuffix(c.name, "folded") {
				if strings.Count(stdout, "a\n") != 1 || !containsAll(stdout, []string{"w1", "w2", "w3"}) {
					t.Errorf("%s\nwant a once, under three names", r)
				}
				stdout = ""
			}
			if r.status != c.status || stdout != c.stdout {
				t.Errorf("%s\nwant status %d, stdout %q", r, c.status, c.stdout)
			}
			if whole, ok := strings.CutPrefix(c.stderr, "="); ok {
				if sortLines(r.stderr) != whole {
					t.Errorf("%s\nwant stderr %q", r, whole)
				}
			} else {
				r.complains(t, c.status, c.stderr)
			}
		})
	}
}

// TestSubmitPrintsJSON pins the keys that scripts read.
func TestSubmitPrintsJSON(t *testing.T) {
	t.Parallel()
	master, _ := workers(t, 2)
	out := master.call("submit", "-json", "-all", "-shell", "echo out; echo err >&2; exit 3")
	if out.status != 2 || strings.Count(out.stdout, "\n") != 2 {
		t.Fatalf("%s\nwant status 2 and two lines", out)
	}
	for line := range strings.Lines(out.stdout) {
		keys := decode[map[string]any](t, line)
		for _, k := range []string{"id", "run", "worker", "kind", "state", "exit_code", "signal", "stdout", "stderr", "result", "error", "attempt",
			"queued_at", "started_at", "finished_at", "user_seconds", "system_seconds", "max_rss_bytes"} {
			if _, ok := keys[k]; !ok {
				t.Errorf("there is no %q in %s", k, line)
			}
		}
		if got := decode[task](t, line); got.State != "failed" || got.ExitCode != 3 || got.Stdout != "out\n" || got.Stderr != "err\n" || got.Attempt != 1 {
			t.Errorf("submit -json prints %+v", got)
		}
		for _, k := range []string{"queued_at", "started_at", "finished_at"} {
			if s, _ := keys[k].(string); len(s) != len("2006-01-02T15:04:05.000000000Z") || !strings.HasSuffix(s, "Z") {
				t.Errorf("%s is %v, want RFC 3339 in UTC with nanoseconds", k, keys[k])
			}
		}
	}
	one := master.call("submit", "-json", "-func", "scagent.echo", `{"a":[1]}`).ok(t)
	if got := decode[task](t, one); got.State != "done" || string(got.Result) != `{"a":[1]}` {
		t.Errorf("submit -json prints %s", one)
	}
	if got := decode[map[string]any](t, master.call("submit", "-json", "-shell", `printf '\377'`).ok(t)); got["stdout_base64"] != "/w==" || got["stdout"] != nil {
		t.Errorf("bytes that are not UTF-8 are printed as %v", got)
	}
}

// sortLines is for the output of several targets, which end in any order.
func sortLines(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// TestOutputArrivesWhileTheTaskRuns has tasks that write each line only when the one
// before has arrived.
func TestOutputArrivesWhileTheTaskRuns(t *testing.T) {
	t.Parallel()
	master, _ := workers(t, 2)
	l := master.host.lab
	const line = "for i in 1 2 3; do echo line $i; until test -e go$i; do sleep 0.05; done; done"
	one := master.begin("submit", "-dir", l.dir, "-shell", line)
	all := master.begin("submit", "-all", "-dir", l.dir, "-shell", line)
	for i := range 3 {
		want := fmt.Sprintf("line %d", i+1)
		one.out.await(t, want)
		all.out.await(t, "w1: "+want)
		all.out.await(t, "w2: "+want)
		l.file(fmt.Sprintf("go%d", i+1), "")
	}
	one.await().want(t, 0, "line 1\nline 2\nline 3\n")
	for _, name := range []string{"w1", "w2"} {
		var got []string
		for l := range strings.Lines(all.await().ok(t)) {
			if strings.HasPrefix(l, name+": ") {
				got = append(got, l)
			}
		}
		if want := []string{name + ": line 1\n", name + ": line 2\n", name + ": line 3\n"}; !slices.Equal(got, want) {
			t.Errorf("%s printed %q, want %q", name, got, want)
		}
	}
}

// digest is a writer that keeps a hash and a size. It calls watch, if there is
// one, after every mebibyte or so.
type digest struct {
	hash.Hash
	size  int64
	watch func()
}

func (d *digest) Write(b []byte) (int, error) {
	before := d.size
	d.size += int64(len(b))
	if d.watch != nil && before>>20 != d.size>>20 {
		d.watch()
	}
	return d.Hash.Write(b)
}

func TestMuchOutputArrivesWholeInBoundedMemory(t *testing.T) {
	const size, limit = 100_000_000, 100 << 20
	master, ws := workers(t, 1)
	// What a task prints is in want as well, written by the same program.
	master.host.sh(fmt.Sprintf("seq 1 20000000 | head -c %d > %s/want", size, master.host.lab.dir)).ok(t)
	want := &digest{Hash: sha256.New()}
	f, err := os.Open(master.host.lab.dir + "/want")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteTo(want); err != nil || want.size != size {
		t.Fatalf("the file has %d bytes, want %d: %v", want.size, size, err)
	}

	got := &digest{Hash: sha256.New()}
	cmd := master.host.Command(binary(t), "submit", "-addr", "unix://"+master.socket, "--", "cat", f.Name())
	cmd.Stdout = got
	// Asked while it runs: what wait tells includes this process's, from before exec.
	var submitter int64
	got.watch = func() {
		if n, err := readPeak(cmd.Process.Pid); err == nil { // it may have ended by now
			submitter = n
		}
	}
	p := start(t, cmd)
	r := p.await()
	if r.status != 0 || got.size != size || string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Errorf("%s\n%d bytes arrived with hash %x, want %d with %x", r, got.size, got.Sum(nil), size, want.Sum(nil))
	}
	t.Logf("%d MB arrived in %s", size/1_000_000, r.took.Round(time.Millisecond))
	for who, peak := range map[string]int64{
		"the submitter":         submitter,
		"the submitter's agent": peakMemory(t, master.pid()),
		"the worker's agent":    peakMemory(t, ws[0].pid()),
	} {
		t.Logf("peak memory of %s: %d MiB", who, peak>>20)
		if peak == 0 || peak > limit {
			t.Errorf("peak memory of %s is %d MiB, want at most %d", who, peak>>20, limit>>20)
		}
	}
}

// peakMemory returns the most that a process had resident, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	n, err := readPeak(pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// readPeak fails for a process that has ended.
func readPeak(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, text, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscanf(text, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("VmHWM of %d: %w", pid, err)
	}
	return kib << 10, nil
}
