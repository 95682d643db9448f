package workdir_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
)

// movable is content that is a file, and moves when it can.
type movable struct {
	io.Reader
	path string
	no   bool
}

func (m *movable) Close() error { return nil }

func (m *movable) MoveTo(path string) (bool, error) {
	if m.no {
		return false, nil
	}
	return true, os.Rename(m.path, path)
}

// moving makes an attempt whose blobs are files; those whose names begin with
// "stays" cannot be moved.
func moving(t *testing.T, task *tasks.Task) *tasks.Attempt {
	dir := t.TempDir()
	a := attempt(task, nil)
	a.Open = func(_ context.Context, c *tasks.Content) (io.ReadCloser, error) {
		path := filepath.Join(dir, c.Blob)
		if err := os.WriteFile(path, []byte(c.Blob), 0o600); err != nil {
			return nil, err
		}
		return &movable{strings.NewReader(c.Blob), path, strings.HasPrefix(c.Blob, "stays")}, nil
	}
	return a
}

func blob(name, content string, mode uint32) tasks.Input {
	return tasks.Input{Name: name, Mode: mode, Content: tasks.Content{Blob: content, Size: int64(len(content))}}
}

func TestInputsAreMovedWhereTheyCanBe(t *testing.T) {
	a := moving(t, &tasks.Task{Inputs: []tasks.Input{
		blob("a", "goes 1", 0), blob("d/e/b", "goes 2", 0o755), blob("d/c", "stays 3", 0o600)}})
	d := mustCreate(t, a)
	if err := d.Place(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "-rw-r--r-- goes 1", "d/e/b": "-rwxr-xr-x goes 2", "d/c": "-rw------- stays 3"} {
		b, err := os.ReadFile(filepath.Join(d.Path(), name))
		st, serr := os.Stat(filepath.Join(d.Path(), name))
		if err != nil || serr != nil || st.Mode().String()+" "+string(b) != want {
			t.Errorf("%s is %v %q, %v, want %s", name, st.Mode(), b, err, want)
		}
	}
	if left, err := os.ReadDir(d.Path()); err != nil || len(left) != 3 { // and .tmp
		t.Errorf("the directory has %v, %v, want a, d and .tmp", left, err)
	}
}

func TestMovedInputsKeepToTheDirectory(t *testing.T) {
	outside := t.TempDir()
	for _, c := range []struct {
		name string
		in   tasks.Input
		want tasks.Code
	}{
		{"name that is taken", blob("a", "goes", 0), tasks.BadInput},
		{"through a link", blob("link/x", "goes", 0), tasks.BadInput},
		{"over a link", blob("link", "goes", 0), tasks.BadInput},
		{"another size", tasks.Input{Name: "b", Content: tasks.Content{Blob: "goes", Size: 5}}, tasks.Internal},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := moving(t, &tasks.Task{Inputs: []tasks.Input{c.in}})
			d := mustCreate(t, a)
			// As a repository might have them.
			if err := os.Symlink(outside, filepath.Join(d.Path(), "link")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d.Path(), "a"), []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := d.Place(t.Context(), a); code(err) != c.want {
				t.Errorf("Place = %v, want code %v", err, c.want)
			}
			if b, err := os.ReadFile(filepath.Join(d.Path(), "a")); err != nil || string(b) != "old" {
				t.Errorf("what was there is %q, %v", b, err)
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
				t.Errorf("outside: %v, %v", left, err)
			}
		})
	}
}

// A directory that is another user's may be something else by the time that a file
// comes: other tasks of that user run.
func TestNothingMovesToWhereAnotherUserLeads(t *testing.T) {
	outside := t.TempDir()
	a := moving(t, &tasks.Task{Inputs: []tasks.Input{blob("a", "goes", 0)}})
	d := mustCreate(t, a)
	if err := os.Mkdir(filepath.Join(d.Path(), "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.Give(os.Getuid(), os.Getgid()); err != nil {
		t.Fatal(err)
	}
	tree, err := d.Sub("tree")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := os.Rename(tree.Path(), tree.Path()+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, tree.Path()); err != nil {
		t.Fatal(err)
	}
	if err := tree.Place(t.Context(), a); err != nil {
		t.Errorf("Place into the directory that was moved = %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(tree.Path()+".away", "a")); err != nil || string(b) != "goes" {
		t.Errorf("the input is %q, %v", b, err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
}
