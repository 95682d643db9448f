//go:build unix

package workdir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// tree fills a directory: names that end with / are directories, those with ->
// are symbolic links, others are files that contain their name.
func tree(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		path := filepath.Join(dir, n)
		var err error
		if name, to, link := strings.Cut(n, "->"); link {
			err = os.Symlink(to, filepath.Join(dir, name))
		} else if strings.HasSuffix(n, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, []byte(n), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOutputs(t *testing.T) {
	outside := t.TempDir()
	tree(t, outside, "secret")
	for _, c := range []struct {
		name     string
		tree     []string
		patterns []string
		want     []string // sorted
		missing  []string
		notes    string
	}{
		{"a name", []string{"a.csv", "b.csv"}, []string{"a.csv"}, []string{"a.csv"}, nil, ""},
		{"a glob", []string{"a.csv", "b.csv", "c.txt"}, []string{"*.csv"}, []string{"a.csv", "b.csv"}, nil, ""},
		{"each element", []string{"r/1/x", "r/2/x", "r/2/y", "r/x"}, []string{"r/?/x"}, []string{"r/1/x", "r/2/x"}, nil, ""},
		{"a directory", []string{"out/x", "out/sub/.y", "out/empty/", "z"}, []string{"out"}, []string{"out/empty/", "out/sub/.y", "out/x"}, nil, ""},
		{"a directory with a slash", []string{"out/x"}, []string{"out/"}, []string{"out/x"}, nil, ""},
		{"a glob spares hidden names", []string{".cache/x", ".tmp/y", "z"}, []string{"*"}, []string{"z"}, nil, ""},
		{"unless it asks for them", []string{".cache/x", "z"}, []string{".c*"}, []string{".cache/x"}, nil, ""},
		{"found twice", []string{"a", "b"}, []string{"a", "*", "./a"}, []string{"a", "b"}, nil, ""},
		{"missing", []string{"a"}, []string{"a", "b", "c/*", "a/x", "[ab]z"}, []string{"a"}, []string{"b", "c/*", "a/x", "[ab]z"}, ""},
		{"an empty directory is no miss", []string{"out/"}, []string{"out"}, []string{"out/"}, nil, ""},
		{"all below", []string{"d/a/x", "d/.h/y", "d/z", "e"}, []string{"d/**"}, []string{"d/.h/y", "d/a/x", "d/z"}, nil, ""},
		{"everything but hidden names", []string{"d/a/x", ".h/y", "z"}, []string{"**"}, []string{"d/a/x", "z"}, nil, ""},
		{"at any depth", []string{"x.o", "d/x.o", "d/e/y.o", "d/.h/z.o", "d/e/y.c"}, []string{"**/*.o"}, []string{"d/e/y.o", "d/x.o", "x.o"}, nil, ""},
		{"any depth in the middle", []string{"d/x", "d/a/x", "d/a/b/x", "x", "e/x"}, []string{"d/**/**/x"}, []string{"d/a/b/x", "d/a/x", "d/x"}, nil, ""},
		{"directories at any depth", []string{"a/out/x", "b/c/out/y", "b/z"}, []string{"**/out/**"}, []string{"a/out/x", "b/c/out/y"}, nil, ""},
		{"below nothing", []string{"f", "d/x"}, []string{"none/**", "f/**", "**/none"}, nil, []string{"none/**", "f/**", "**/none"}, ""},
		{"below an empty directory", []string{"d/"}, []string{"d/**"}, []string{"d/"}, nil, ""},
		{"any depth follows no link", []string{"d/x", "l->d", "up->."}, []string{"**/x"}, []string{"d/x"}, nil, ""},
		{"links inside", []string{"data/1", "latest->data/1", "data/up->../data/1"}, []string{"*"}, []string{"data/1", "data/up->../data/1", "latest->data/1"}, nil, ""},
		{"link outside", []string{"x->" + outside + "/secret", "y"}, []string{"*"}, []string{"y"}, nil, `"x" is a symbolic link`},
		{"link upwards", []string{"x->../../secret"}, []string{"x"}, nil, nil, `"x" is a symbolic link`},
		{"link to nothing", []string{"x->none/y"}, []string{"x"}, []string{"x->none/y"}, nil, ""},
		{"link through a link outside", []string{"a/b/c/", "a/b/c/top->../..", "y->a/b/c/top/../..", "z->a/b/c/top/../../none"}, []string{"y", "z"}, nil, nil, `"z" is a symbolic link`},
		{"link to the work directory", []string{"x->."}, []string{"x"}, nil, nil, `"x" is a symbolic link`},
		{"link with an escape", []string{"x->a\x1b[2J"}, []string{"x"}, nil, nil, `"x" is a symbolic link`},
		{"directory outside", []string{"d->" + outside}, []string{"d", "d/secret", "d/*"}, nil, []string{"d/secret", "d/*"}, `"d" is a symbolic link`},
		{"directory inside", []string{"a/x", "d->a"}, []string{"*"}, []string{"a/x", "d->a"}, nil, ""},
		{"link to itself", []string{"a/x", "a/self->.", "a/l->l"}, []string{"a"}, []string{"a/self->.", "a/x"}, nil, `"a/l" is a symbolic link`},
		{"name with an escape", []string{"a\x1b[2J", "b"}, []string{"*"}, []string{"b"}, nil, `control characters`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := attempt(&tasks.Task{Outputs: c.patterns}, nil)
			d := mustCreate(t, a)
			tree(t, d.Path(), c.tree...)
			got, err := d.Collect(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range got.Files {
				text, name, mode := string(f.Inline), f.Name, fs.FileMode(f.Mode)
				switch mode.Type() {
				case fs.ModeDir:
					text, name, mode = f.Name+text, f.Name+"/", mode-0o115
				case fs.ModeSymlink:
					text, name, mode = f.Name, f.Name+"->"+text, mode-0o137
				}
				names = append(names, name)
				if text != f.Name || mode.Perm() != 0o640 {
					t.Errorf("%s: %q, mode %v", f.Name, text, fs.FileMode(f.Mode))
				}
			}
			slices.Sort(names)
			if !slices.Equal(names, c.want) {
				t.Errorf("files %q, want %q", names, c.want)
			}
			if !slices.Equal(got.Missing, c.missing) {
				t.Errorf("missing %q, want %q", got.Missing, c.missing)
			}
			if notes := strings.Join(got.Notes, "\n"); !strings.Contains(notes, c.notes) || c.notes == "" && notes != "" || strings.Contains(notes, "\x1b") {
				t.Errorf("notes %q, want %q", notes, c.notes)
			}
			if strings.Contains(got.Text(), "\n") || (got.Text() == "") != (c.missing == nil && c.notes == "") {
				t.Errorf("text %q", got.Text())
			}
		})
	}
}

func TestOnlyRegularFilesAreOutputs(t *testing.T) {
	a := attempt(&tasks.Task{Outputs: []string{"*"}}, nil)
	d := mustCreate(t, a)
	if err := syscall.Mkfifo(filepath.Join(d.Path(), "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := d.Collect(t.Context(), a)
	if err != nil || len(got.Files) > 0 || !strings.Contains(got.Text(), `"fifo" is not a regular file`) {
		t.Errorf("Collect = %+v, %v", got, err)
	}
}

// A task can make any number of what is left out.
func TestNotesOnOutputsAreBounded(t *testing.T) {
	a := attempt(&tasks.Task{Outputs: []string{"*"}}, nil)
	d := mustCreate(t, a)
	for i := range 500 {
		if err := syscall.Mkfifo(fmt.Sprintf("%s/%03d", d.Path(), i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Collect(t.Context(), a)
	if err != nil || len(got.Notes) > 100 {
		t.Errorf("%d notes, %v; want at most 100", len(got.Notes), err)
	}
	if text := got.Text(); !strings.HasPrefix(text, `output "000" is not a regular file: left out; `) || !strings.HasSuffix(text, "; and 495 more") {
		t.Errorf("the text is %q", text)
	}
}

func TestFileWithoutRightsIsAnOutput(t *testing.T) {
	a := attempt(&tasks.Task{Outputs: []string{"x"}}, nil)
	d := mustCreate(t, a)
	tree(t, d.Path(), "x")
	if err := os.Chmod(filepath.Join(d.Path(), "x"), 0); err != nil {
		t.Fatal(err)
	}
	got, err := d.Collect(t.Context(), a)
	if err != nil || len(got.Files) != 1 || string(got.Files[0].Inline) != "x" || got.Files[0].Mode != 0 {
		t.Errorf("Collect = %+v, %v", got, err)
	}
}

func TestTooManyOutputs(t *testing.T) {
	a := attempt(&tasks.Task{Outputs: []string{"*"}}, nil)
	d := mustCreate(t, a)
	for i := range workdir.MaxOutputs + 1 {
		if err := os.Link(filepath.Join(d.Path(), "0"), filepath.Join(d.Path(), fmt.Sprint(i))); i == 0 {
			tree(t, d.Path(), "0")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Collect(t.Context(), a); code(err) != tasks.BadInput || !strings.Contains(err.Error(), "10000 files") {
		t.Errorf("Collect = %v", err)
	}
}

func TestCollectingFails(t *testing.T) {
	a := attempt(&tasks.Task{Outputs: []string{"*"}}, nil)
	a.Keep = func(string) (tasks.Content, error) { return tasks.Content{}, errors.New("store is full") }
	d := mustCreate(t, a)
	tree(t, d.Path(), "x")
	if _, err := d.Collect(t.Context(), a); code(err) != tasks.Internal || !strings.Contains(err.Error(), `output "x": store is full`) {
		t.Errorf("Collect = %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := &tasks.StopError{Reason: tasks.StopKill}
	cancel(stop)
	if _, err := d.Collect(ctx, a); !errors.Is(err, stop) {
		t.Errorf("Collect = %v, want %v", err, stop)
	}
}

func TestGivenDirectoryIsAnothers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can")
	}
	outside := t.TempDir()
	a := attempt(&tasks.Task{Inputs: []tasks.Input{inline("d/x", "", 0o600)}}, nil)
	d := mustCreate(t, a)
	if err := d.Place(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	tree(t, d.Path(), "link->"+outside)
	if err := d.Give(65534, 65533); err != nil {
		t.Fatal(err)
	}
	owner := func(path string) [2]uint32 {
		st, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		sys := st.Sys().(*syscall.Stat_t)
		return [2]uint32{sys.Uid, sys.Gid}
	}
	for _, n := range []string{"", "d", "d/x", ".tmp", "link"} {
		if got := owner(filepath.Join(d.Path(), n)); got != [2]uint32{65534, 65533} {
			t.Errorf("%q is owned by %v", n, got)
		}
	}
	if got := owner(outside); got[0] != 0 {
		t.Errorf("a directory that a link leads to was given away: %v", got)
	}
}

// The agent can read what the task's user cannot. A file of another's gets into
// the directory by a hard link, or is moved there.
func TestOutputsOfAnotherUserAreLeftOut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can")
	}
	a := attempt(&tasks.Task{Outputs: []string{"*"}}, nil)
	kept := 0
	keep := a.Keep
	a.Keep = func(path string) (tasks.Content, error) {
		kept++
		return keep(path)
	}
	d := mustCreate(t, a)
	tree(t, d.Path(), "own", "sub/own")
	if err := d.Give(65534, 65534); err != nil {
		t.Fatal(err)
	}
	tree(t, d.Path(), "secret", "sub/secret")
	secret := filepath.Join(t.TempDir(), "linked")
	if err := os.WriteFile(secret, []byte("linked"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(secret, filepath.Join(d.Path(), "linked")); err != nil {
		t.Fatal(err)
	}
	got, err := d.Collect(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range got.Files {
		names = append(names, f.Name)
	}
	if !slices.Equal(names, []string{"own", "sub/own"}) || kept != 2 {
		t.Errorf("collected %q, %d kept; want what is the user's own", names, kept)
	}
	if text := got.Text(); !strings.Contains(text, `output "secret" belongs to another user: left out`) {
		t.Errorf("the text is %q, want that it says what was left out", text)
	}
	if st, err := os.Stat(secret); err != nil || st.Mode() != 0 {
		t.Errorf("the file of another user is now %v, %v", st.Mode(), err)
	}
}
