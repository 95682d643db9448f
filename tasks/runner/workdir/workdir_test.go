package workdir_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// attempt returns an attempt at a task; Open serves the named blobs and Keep
// returns a file's bytes.
func attempt(task *tasks.Task, blobs map[string]string) *tasks.Attempt {
	return &tasks.Attempt{
		Task: task, ID: tasks.ID{1, 2, 3}, Run: tasks.ID{4}, N: 2, Index: 7, Slots: 3, Node: "n1",
		Open: func(_ context.Context, c *tasks.Content) (io.ReadCloser, error) {
			b, ok := blobs[c.Blob]
			if !ok {
				return nil, errors.New("no such blob")
			}
			return io.NopCloser(strings.NewReader(b)), nil
		},
		Keep: func(path string) (tasks.Content, error) {
			b, err := os.ReadFile(path)
			return tasks.Content{Inline: b}, err
		},
	}
}

func mustCreate(t *testing.T, a *tasks.Attempt) *workdir.Dir {
	t.Helper()
	d, err := workdir.Create(filepath.Join(t.TempDir(), "root"), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(filepath.Dir(d.Path()))
		if err != nil || len(left) > 0 {
			t.Errorf("after Remove: %v, %v", left, err)
		}
	})
	return d
}

func inline(name, text string, mode uint32) tasks.Input {
	return tasks.Input{Name: name, Mode: mode, Content: tasks.Content{Inline: []byte(text)}}
}

func code(err error) tasks.Code {
	var e *workdir.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return tasks.OK
}

func TestDirectoryIsFreshAndPrivate(t *testing.T) {
	a := attempt(&tasks.Task{}, nil)
	d := mustCreate(t, a)
	for path, want := range map[string]fs.FileMode{filepath.Dir(d.Path()): 0o711, d.Path(): 0o700, d.Tmp(): 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v, want %v", path, st.Mode(), err, want)
		}
	}
	again, err := workdir.Create(filepath.Dir(d.Path()), a)
	if err != nil || again.Path() == d.Path() {
		t.Fatalf("a second Create of the same attempt = %v, %v, want another directory", again, err)
	}
	if err := again.Remove(); err != nil {
		t.Error(err)
	}
	if err := again.Remove(); err != nil {
		t.Errorf("second Remove = %v", err)
	}
	if _, err := os.Stat(d.Path()); err != nil {
		t.Errorf("Remove of one removed the other: %v", err)
	}
}

func TestInputsArePlacedExactly(t *testing.T) {
	blob := strings.Repeat("b", 64)
	big := strings.Repeat("\x00\xff\r\n", 100_000)
	a := attempt(&tasks.Task{Inputs: []tasks.Input{
		inline("a.txt", "text\r\n", 0),
		inline("run.sh", "#!/bin/sh\n", 0o755),
		inline("deep/er/x", "", 0o400),
		inline("deep/y", "y", 0o666),
		inline(".hidden", "h", 0o600),
		inline("ü b", "u", 0o777),
		{Name: "big", Content: tasks.Content{Blob: blob, Size: int64(len(big))}},
	}}, map[string]string{blob: big})
	d := mustCreate(t, a)
	if err := d.Place(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for _, in := range a.Task.Inputs {
		want, mode := string(in.Inline), fs.FileMode(in.Mode)
		if in.Blob != "" {
			want = big
		}
		if mode == 0 {
			mode = 0o644
		}
		path := filepath.Join(d.Path(), filepath.FromSlash(in.Name))
		st, err := os.Stat(path)
		if err != nil || runtime.GOOS != "windows" && st.Mode() != mode {
			t.Errorf("%s: %v, %v, want mode %v", in.Name, st, err, mode)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s: %d bytes, %v, want %d", in.Name, len(b), err, len(want))
		}
	}
	if st, err := os.Stat(filepath.Join(d.Path(), "deep", "er")); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("parent: %v, %v", st.Mode(), err)
	}
}

func TestBadInputsAreRefused(t *testing.T) {
	blob := strings.Repeat("b", 64)
	for _, c := range []struct {
		name   string
		inputs []tasks.Input
		want   tasks.Code
		text   string
	}{
		{"parent", []tasks.Input{inline("../x", "", 0)}, tasks.BadInput, "leaves the work directory"},
		{"absolute", []tasks.Input{inline("/etc/x", "", 0)}, tasks.BadInput, "leaves"},
		{"parent inside", []tasks.Input{inline("a/../../x", "", 0)}, tasks.BadInput, "leaves"},
		{"NUL", []tasks.Input{inline("a\x00b", "", 0)}, tasks.BadInput, "control"},
		{"dot", []tasks.Input{inline(".", "", 0)}, tasks.BadInput, "empty"},
		{"empty", []tasks.Input{inline("", "", 0)}, tasks.BadInput, "empty"},
		{"long", []tasks.Input{inline(strings.Repeat("x", 256), "", 0)}, tasks.BadInput, "255"},
		{"twice", []tasks.Input{inline("x", "", 0), inline("./x", "", 0)}, tasks.BadInput, "another input"},
		{"file as directory", []tasks.Input{inline("x", "", 0), inline("x/y", "", 0)}, tasks.BadInput, "x"},
		{"directory as file", []tasks.Input{inline("x/y", "", 0), inline("x", "", 0)}, tasks.BadInput, "another input"},
		{"TMPDIR", []tasks.Input{inline(".tmp", "", 0)}, tasks.BadInput, "TMPDIR"},
		{"no such blob", []tasks.Input{{Name: "x", Content: tasks.Content{Blob: "a", Size: 1}}}, tasks.Internal, "no such blob"},
		{"short blob", []tasks.Input{{Name: "x", Content: tasks.Content{Blob: blob, Size: 4}}}, tasks.Internal, "has 3 bytes; want 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attempt(&tasks.Task{Inputs: c.inputs}, map[string]string{blob: "123"})
			err := mustCreate(t, a).Place(t.Context(), a)
			if code(err) != c.want || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Place = %v (%v), want %v with %q", err, code(err), c.want, c.text)
			}
		})
	}
}

func TestPlacingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := &tasks.StopError{Reason: tasks.StopCancel}
	cancel(stop)
	a := attempt(&tasks.Task{Inputs: []tasks.Input{inline("x", "", 0)}}, nil)
	if err := mustCreate(t, a).Place(ctx, a); !errors.Is(err, stop) {
		t.Errorf("Place = %v, want %v", err, stop)
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("CANARY", "secret")
	t.Setenv("SCAGENT_SECRET_FILE", "/secret")
	t.Setenv("PATH", "/agent/bin")
	t.Setenv("LANG", "C.UTF-8")
	t.Setenv("TZ", "Europe/Berlin")
	a := attempt(&tasks.Task{Env: map[string]string{"B": "2", "A": "1=1", "TZ": "UTC"}}, nil)
	d := mustCreate(t, a)
	got, err := d.Env(a)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"PATH=/agent/bin", "LANG=C.UTF-8", "HOME=" + d.Path(), "TMPDIR=" + d.Tmp(),
		"SCAGENT_TASK_ID=" + a.ID.String(), "SCAGENT_ATTEMPT=2", "SCAGENT_RUN_ID=" + a.Run.String(), "SCAGENT_NODE=n1",
		"SCAGENT_INDEX=7", "SCAGENT_SLOTS=3", "SCAGENT_WORKDIR=" + d.Path(), "A=1=1", "B=2", "TZ=UTC",
	}
	if runtime.GOOS != "windows" && !slices.Equal(got, want) {
		t.Errorf("Env = %q\nwant  %q", got, want)
	}
	for _, m := range workdir.Marks(a) {
		if !slices.Contains(got, m) {
			t.Errorf("the mark %s is not in %q", m, got)
		}
	}

	a.Task.Env = map[string]string{"SCAGENT_TASK_ID": "other"}
	if _, err := d.Env(a); code(err) != tasks.BadInput || !strings.Contains(err.Error(), "SCAGENT_TASK_ID") {
		t.Errorf("Env with a variable of scagent's = %v", err)
	}
}

func TestCheckDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := workdir.CheckDir(dir); err != nil {
		t.Errorf("CheckDir(%s) = %v", dir, err)
	}
	for path, text := range map[string]string{file: "is not a directory", dir + "/none": "no such directory", "rel": "not an absolute", "": "not an absolute"} {
		if err := workdir.CheckDir(path); code(err) != tasks.BadInput || !strings.Contains(err.Error(), text) {
			t.Errorf("CheckDir(%q) = %v, want %q", path, err, text)
		}
	}
}

func TestRemoveIsThorough(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := mustCreate(t, attempt(&tasks.Task{}, nil))
	locked := filepath.Join(d.Path(), "a", "b")
	if err := os.MkdirAll(filepath.Join(locked, "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(locked, fmt.Sprint(i)), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"a/out", "out"} {
		if err := os.Symlink(outside, filepath.Join(d.Path(), link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{locked + "/c", locked, filepath.Dir(locked), d.Tmp()} {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Errorf("a file outside: %v", err)
	}
}

func TestWhatIsElsewhereGoesWithTheDirectory(t *testing.T) {
	for name, remove := range map[string]func(d *workdir.Dir) error{
		"Remove":     (*workdir.Dir).Remove,
		"RemoveRoot": func(d *workdir.Dir) error { return workdir.RemoveRoot(t.Context(), filepath.Dir(d.Path())) },
	} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			d, err := workdir.Create(filepath.Join(t.TempDir(), "root"), attempt(&tasks.Task{}, nil))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Elsewhere(out + "/tree"); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{out + "/tree/sub", out + "/kept"} {
				if err := os.MkdirAll(dir, 0o500); err != nil {
					t.Fatal(err)
				}
			}
			// The task cannot make more go: it can reach its own directory alone.
			if err := os.WriteFile(d.Path()+"/x.elsewhere", []byte(out+"/kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := remove(d); err != nil {
				t.Error(err)
			}
			left, err := os.ReadDir(out)
			if err != nil || len(left) != 1 || left[0].Name() != "kept" {
				t.Errorf("%v is left, %v; want kept", left, err)
			}
			if left, err := os.ReadDir(filepath.Dir(d.Path())); len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
}

func TestRemoveRoot(t *testing.T) {
	kept := t.TempDir() + "/kept"
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		make func(root string) error
		ctx  context.Context
		left bool
	}{
		{"none", func(string) error { return nil }, t.Context(), false},
		{"a file", func(root string) error { return os.WriteFile(root, nil, 0o600) }, t.Context(), false},
		{"a link", func(root string) error { return os.Symlink(filepath.Dir(kept), root) }, t.Context(), false},
		{"a link to nothing", func(root string) error { return os.Symlink("/no/such/path", root) }, t.Context(), false},
		{"directories", func(root string) error { return os.MkdirAll(root+"/a/b", 0o500) }, t.Context(), false},
		{"told to stop", func(root string) error { return os.MkdirAll(root+"/a/b", 0o700) }, ended, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir() + "/root"
			if err := c.make(root); err != nil {
				t.Fatal(err)
			}
			err := workdir.RemoveRoot(c.ctx, root)
			if (err != nil) != c.left {
				t.Errorf("RemoveRoot = %v", err)
			}
			if _, err := os.Lstat(root); (err == nil) != c.left {
				t.Errorf("afterwards: %v, want it left = %v", err, c.left)
			}
		})
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

func TestMarkBeginsAnEntryOfTheEnvironment(t *testing.T) {
	a := attempt(&tasks.Task{}, nil)
	d := mustCreate(t, a)
	env, err := d.Env(a)
	if err != nil {
		t.Fatal(err)
	}
	mark := workdir.Mark(filepath.Dir(d.Path()))
	if n := len(slices.DeleteFunc(env, func(e string) bool { return !strings.HasPrefix(e, mark) })); n != 1 {
		t.Errorf("%d entries of the environment begin with %q, want 1", n, mark)
	}
	if strings.HasPrefix(mark, workdir.Mark(strings.TrimSuffix(filepath.Dir(d.Path()), "t"))) {
		t.Errorf("the mark %q is also that of a directory with a shorter name", mark)
	}
}

func TestRemoveOfManyFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("20,000 files")
	}
	d := mustCreate(t, attempt(&tasks.Task{}, nil))
	for i := range 20 {
		sub := filepath.Join(d.Path(), fmt.Sprint(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range 1000 {
			if err := os.Symlink("x", filepath.Join(sub, fmt.Sprint(j))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.Remove(); err != nil {
		t.Error(err)
	}
}
