//go:build unix

package workdir_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/scagent/scagent/tasks"
)

const (
	dirMode  = uint32(fs.ModeDir)
	linkMode = uint32(fs.ModeSymlink)
)

// shape describes everything in a directory but .tmp: modes, contents, targets.
func shape(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if name == "." {
			return nil
		} else if name == ".tmp" {
			return fs.SkipDir
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		text := ""
		switch st.Mode().Type() {
		case 0:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text = string(b)
		case fs.ModeSymlink:
			text, _ = os.Readlink(p)
		}
		got[name] = fmt.Sprintf("%v %q", st.Mode(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// aTree is given with what is below a directory before it, and with links before
// what they lead to.
func aTree() []tasks.Input {
	return []tasks.Input{
		inline("t/latest", "ro/deep/f", linkMode|0o777),
		inline("t/ro/deep/f", "f\x00\xff", 0o640),
		inline("t/ro/deep", "", dirMode|0o500),
		inline("t/ro/up", "../x", linkMode),
		inline("t/ro", "", dirMode|0o555),
		inline("t/x", "#!/bin/sh\n", 0o755),
		inline("t/empty", "", dirMode|0o700),
		inline("t/default", "", dirMode),
		inline("t/dangling", "none/at/all", linkMode),
		inline("t/dir", "ro/deep", linkMode),
		inline("t", "", dirMode|0o750),
		inline("t/secret", "s", 0o400),
	}
}

var theTree = map[string]string{
	"t": `drwxr-x--- ""`, "t/ro": `dr-xr-xr-x ""`, "t/ro/deep": `dr-x------ ""`, "t/ro/deep/f": `-rw-r----- "f\x00\xff"`,
	"t/ro/up": `Lrwxrwxrwx "../x"`, "t/latest": `Lrwxrwxrwx "ro/deep/f"`, "t/x": `-rwxr-xr-x "#!/bin/sh\n"`, "t/empty": `drwx------ ""`,
	"t/default": `drwxr-xr-x ""`, "t/dangling": `Lrwxrwxrwx "none/at/all"`, "t/dir": `Lrwxrwxrwx "ro/deep"`, "t/secret": `-r-------- "s"`,
}

func TestTreesComeBackAsTheyWent(t *testing.T) {
	testTree(t)
}

// TestTreesOfAnOrdinaryUser runs the same as a user whom read-only directories stop.
func TestTreesOfAnOrdinaryUser(t *testing.T) {
	if os.Getenv("WORKDIR_TEST_USER") != "" {
		testTree(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can run it as another user")
	}
	dir, err := os.MkdirTemp("", "scagent-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// The test binary may lie where the user cannot go.
	self, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(dir+"/test", self, 0o755)
	}
	if err := errors.Join(err, os.Mkdir(dir+"/tmp", 0o700), os.Chown(dir+"/tmp", 65534, 65534), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), dir+"/test", "-test.run=^TestTreesOfAnOrdinaryUser$", "-test.v")
	cmd.Dir = dir + "/tmp"
	cmd.Env = []string{"WORKDIR_TEST_USER=1", "TMPDIR=" + dir + "/tmp", "HOME=" + dir + "/tmp", "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func testTree(t *testing.T) {
	a := attempt(&tasks.Task{Inputs: aTree(), Outputs: []string{"t/ro/*", "t"}}, nil)
	d := mustCreate(t, a)
	if err := d.Place(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if got := shape(t, d.Path()); !reflect.DeepEqual(got, theTree) {
		t.Fatalf("placed %q\nwant   %q", got, theTree)
	}
	got, err := d.Collect(t.Context(), a)
	if err != nil || got.Text() != "" {
		t.Fatalf("Collect: %v, %q", err, got.Text())
	}
	// What came out, put in again, is the same.
	var again tasks.Task
	for _, f := range got.Files {
		again.Inputs = append(again.Inputs, tasks.Input(f))
	}
	b := attempt(&again, nil)
	e := mustCreate(t, b)
	if err := e.Place(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got := shape(t, e.Path()); !reflect.DeepEqual(got, theTree) {
		t.Errorf("came back as %q\nwant         %q", got, theTree)
	}
}

func TestUnreadableDirectoryIsCollected(t *testing.T) {
	a := attempt(&tasks.Task{Outputs: []string{"d/*", "d"}}, nil)
	d := mustCreate(t, a)
	tree(t, d.Path(), "d/x")
	if err := os.Chmod(filepath.Join(d.Path(), "d"), 0); err != nil {
		t.Fatal(err)
	}
	got, err := d.Collect(t.Context(), a)
	if err != nil || len(got.Files) != 2 || got.Files[0].Name != "d/x" || got.Files[1].Mode != dirMode {
		t.Errorf("Collect = %+v, %v", got, err)
	}
}

func TestBadDirectoriesAndLinksAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		inputs []tasks.Input
		text   string
	}{
		{"absolute link", []tasks.Input{inline("l", "/etc/passwd", linkMode)}, `"l" is a symbolic link to "/etc/passwd", which is not inside`},
		{"link upwards", []tasks.Input{inline("d/l", "../../x", linkMode)}, "not inside"},
		{"link to the work directory", []tasks.Input{inline("l", ".", linkMode)}, "not inside"},
		{"link to no name", []tasks.Input{inline("l", "", linkMode)}, "not inside"},
		{"link with an escape", []tasks.Input{inline("l", "a\x1b[2Jb", linkMode)}, "not inside"},
		{"link with a NUL", []tasks.Input{inline("l", "a\x00b", linkMode)}, "not inside"},
		{"link through a link", []tasks.Input{inline("a/b/top", "../..", linkMode), inline("l", "a/b/top/../x", linkMode)}, "not inside"},
		{"link through a deep link", []tasks.Input{inline("a/b/c/top", "../..", linkMode), inline("l", "a/b/c/top/../../x", linkMode)}, `"l" is a symbolic link that leads out`},
		{"link in a circle", []tasks.Input{inline("l", "m", linkMode), inline("m", "l", linkMode)}, "leads out of the work directory, or nowhere"},
		{"link and file", []tasks.Input{inline("l", "x", linkMode), inline("l", "", 0)}, "another input"},
		{"file below a link", []tasks.Input{inline("d", "", dirMode), inline("l", "d", linkMode), inline("l/x", "", 0)}, "another input"},
		{"directory and file", []tasks.Input{inline("d", "", dirMode), inline("d", "", 0)}, "another input"},
		{"file and directory", []tasks.Input{inline("d", "", 0), inline("d", "", dirMode)}, `"d"`},
		{"directory with content", []tasks.Input{inline("d", "x", dirMode)}, "a directory has no content"},
		{"directory outside", []tasks.Input{inline("../d", "", dirMode)}, "leaves the work directory"},
		{"TMPDIR", []tasks.Input{inline(".tmp", "", dirMode)}, "TMPDIR"},
		{"device", []tasks.Input{inline("d", "", uint32(fs.ModeDevice))}, "want that of a file"},
		{"both", []tasks.Input{inline("d", "", dirMode|linkMode)}, "want that of a file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attempt(&tasks.Task{Inputs: c.inputs}, nil)
			err := mustCreate(t, a).Place(t.Context(), a)
			if code(err) != tasks.BadInput || !strings.Contains(err.Error(), c.text) || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("Place = %v (%v), want %q", err, code(err), c.text)
			}
		})
	}
}

func TestAbsoluteLinkInsideBecomesRelative(t *testing.T) {
	a := attempt(&tasks.Task{Outputs: []string{"d"}}, nil)
	d := mustCreate(t, a)
	tree(t, d.Path(), "x/y", "d/", "d/l->"+d.Path()+"/x/y")
	got, err := d.Collect(t.Context(), a)
	if err != nil || len(got.Files) != 1 || string(got.Files[0].Inline) != "../x/y" || got.Text() != "" {
		t.Errorf("Collect = %+v, %v", got, err)
	}
}

func TestSubIsTheWorkDirectory(t *testing.T) {
	a := attempt(&tasks.Task{Inputs: []tasks.Input{inline("in", "in", 0)}, Outputs: []string{"*"}}, nil)
	d := mustCreate(t, a)
	if err := os.Mkdir(filepath.Join(d.Path(), "repo"), 0o755); err != nil {
		t.Fatal(err)
	}
	sub, err := d.Sub("repo")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if err := sub.Place(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	env, err := sub.Env(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HOME=" + d.Path(), "TMPDIR=" + d.Path() + "/.tmp", "SCAGENT_WORKDIR=" + d.Path() + "/repo"} {
		if !strings.Contains(strings.Join(env, "\n")+"\n", want+"\n") {
			t.Errorf("%s is not in %q", want, env)
		}
	}
	tree(t, sub.Path(), "out")
	got, err := sub.Collect(t.Context(), a)
	if err != nil || len(got.Files) != 2 || got.Files[0].Name != "in" || got.Files[1].Name != "out" {
		t.Errorf("Collect = %+v, %v", got, err)
	}
}

func TestReplacedWorkDirectoryIsNotCollected(t *testing.T) {
	outside := t.TempDir()
	tree(t, outside, "secret")
	a := attempt(&tasks.Task{Outputs: []string{"*"}}, nil)
	d := mustCreate(t, a)
	repo := filepath.Join(d.Path(), "repo")
	tree(t, d.Path(), "repo/")
	sub, err := d.Sub("repo")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	tree(t, sub.Path(), "secret")
	if err := errors.Join(os.Rename(repo, repo+"-moved"), os.Symlink(outside, repo)); err != nil {
		t.Fatal(err)
	}
	got, err := sub.Collect(t.Context(), a)
	if code(err) != tasks.Internal || len(got.Files) > 0 {
		t.Errorf("Collect = %+v, %v, want an error", got, err)
	}
	if _, err := os.Stat(filepath.Join(outside, "secret")); err != nil {
		t.Errorf("a file outside was taken: %v", err)
	}
}

// TestManyFilesInLittleMemory moves 2,000 files of 300 MB in and out.
func TestManyFilesInLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("300 MB")
	}
	const files, size = 2000, 150_000
	block := strings.Repeat("0123456789abcdef", size/16+1)
	var task tasks.Task
	for i := range files {
		task.Inputs = append(task.Inputs, tasks.Input{Name: fmt.Sprintf("d/%d/%d", i%20, i), Mode: 0o600,
			Content: tasks.Content{Blob: fmt.Sprint(i), Size: size}})
	}
	task.Outputs = []string{"d/**"}
	a := attempt(&task, nil)
	var most uint64
	watch := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	opened, kept := 0, 0
	a.Open = func(_ context.Context, c *tasks.Content) (io.ReadCloser, error) {
		if opened++; opened%200 == 0 {
			watch()
		}
		return io.NopCloser(strings.NewReader(block[:c.Size])), nil
	}
	sum := sha256.Sum256([]byte(block[:size]))
	a.Keep = func(path string) (tasks.Content, error) {
		if kept++; kept%200 != 0 {
			st, err := os.Stat(path)
			return tasks.Content{Blob: "x", Size: st.Size()}, err
		}
		watch()
		f, err := os.Open(path)
		if err != nil {
			return tasks.Content{}, err
		}
		defer f.Close()
		h := sha256.New()
		n, err := io.Copy(h, f)
		if got := h.Sum(nil); string(got) != string(sum[:]) {
			t.Errorf("%s: hash %x, want %x", path, got, sum)
		}
		return tasks.Content{Blob: "x", Size: n}, err
	}
	d := mustCreate(t, a)
	runtime.GC()
	if err := d.Place(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	got, err := d.Collect(t.Context(), a)
	if err != nil || len(got.Files) != files || kept != files {
		t.Fatalf("Collect: %d files, %d kept, %v", len(got.Files), kept, err)
	}
	if most > 64<<20 {
		t.Errorf("the heap grew to %d bytes", most)
	}
}
