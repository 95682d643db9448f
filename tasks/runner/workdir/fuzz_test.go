//go:build unix

package workdir_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/workdir"
	"github.com/scagent/scagent/test/bounds"
)

// outside is a directory beside work directories, and what was in it.
type outside struct {
	t    *testing.T
	base string // everything is below it
	was  string
}

// newOutside makes base/other with a file that tasks have no business with, and
// returns base/root for work directories.
func newOutside(t *testing.T) (o *outside, root string) {
	o = &outside{t: t, base: t.TempDir()}
	tree(t, filepath.Join(o.base, "other"), "secret", "dir/", "run")
	root = filepath.Join(o.base, "root")
	if err := os.Mkdir(root, 0o711); err != nil {
		t.Fatal(err)
	}
	o.was = o.list(nil)
	return o, root
}

// list returns every inode below base with what it is, but for those below one.
func (o *outside) list(below *workdir.Dir) string {
	var b strings.Builder
	err := filepath.WalkDir(o.base, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if below != nil && p == below.Path() {
			return fs.SkipDir
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		if p == filepath.Join(o.base, "root") {
			fmt.Fprintln(&b, p, st.Mode())
			return nil // its time and its number of entries change
		}
		fmt.Fprintln(&b, p, st.Mode(), st.Size(), st.ModTime(), st.Sys().(*syscall.Stat_t).Ino)
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return b.String()
}

// check fails when something outside of d has changed, or a path in d leads out.
func (o *outside) check(d *workdir.Dir, what string) {
	o.t.Helper()
	if is := o.list(d); is != o.was {
		o.t.Errorf("%s changed what is outside of the work directory:\n%s\nwas\n%s", what, is, o.was)
	}
	root, err := filepath.EvalSymlinks(d.Path())
	if err != nil {
		o.t.Fatal(err)
	}
	filepath.WalkDir(d.Path(), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.Type() != fs.ModeSymlink {
			return nil // a directory that may not be read
		}
		if to, err := filepath.EvalSymlinks(p); err == nil && to != root && !strings.HasPrefix(to, root+"/") {
			o.t.Errorf("%s leads to %s", p, to)
		}
		return nil
	})
}

// lines cuts text into at most n lines of fields that are parted by a bar.
func lines(text string, n int) (rows [][]string) {
	for line := range strings.SplitSeq(text, "\n") {
		if len(rows) == n {
			break
		}
		rows = append(rows, strings.Split(line, "|"))
	}
	return rows
}

// FuzzPlace puts inputs of any name, kind and target into a work directory: name,
// kind (f, d, l or another mode) and content on each line. Nothing is outside of
// the directory afterwards that was not there before, and no link leads there.
func FuzzPlace(f *testing.F) {
	for _, s := range []string{"a/b|f|x\na|d|", "../x|f|", "/etc/x|f|", "a/../../x|f|", "a\x00b|f|", ".|f|", "|f|", "CON|f|", strings.Repeat("x", 256) + "|f|",
		"l|l|../other\nl/secret|f|x", "l|l|.\nl/l2|l|../../other", "a|l|b\nb|l|a", "d|d|\nd/l|l|../..", "a|l|/etc/passwd", "A|f|1\na|f|2", "x|f|1\nx|f|2",
		"x|f|1\nx/y|f|2", "x/y|f|1\nx|f|2", ".tmp|f|", ".tmp/x|l|../../other", "a|l|d/../../other\nd|l|x/y\nx/y/z|f|", "a|l|b/..\nb|l|c\nc/d/e|f|\nq|l|a/../..",
		"d|0|\nd/x|f|1", "x|\xff\xff|1", "a/./b|f|x\na//b|f|y", "-rf|f|", strings.Repeat("d/", 2000) + "x|f|1", strings.Repeat("d/", tasks.MaxNameParts-1) + "x|f|1", "p|d|x", "l|l|"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		bounds.Input(t, text)
		task, odd := tasks.Task{Kind: tasks.Command, Argv: []string{"x"}}, false
		for _, row := range lines(text, 8) {
			if len(row) < 3 {
				continue
			}
			in := tasks.Input{Name: row[0], Content: tasks.Content{Inline: []byte(strings.Join(row[2:], "|"))}}
			switch row[1] {
			case "f":
			case "d":
				in.Mode = dirMode
			case "l":
				in.Mode = linkMode
			default:
				for _, b := range []byte(row[1]) {
					in.Mode = in.Mode<<8 | uint32(b)
				}
			}
			odd = odd || in.Mode&^tasks.FileModes != 0
			task.Inputs = append(task.Inputs, in)
		}
		o, root := newOutside(t)
		defer bounds.Check(t)()
		a := attempt(&task, nil)
		d, err := workdir.Create(root, a)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Remove()
		err = d.Place(t.Context(), a)
		o.check(d, "Place")
		switch code(err) {
		case tasks.OK:
			if err != nil {
				t.Errorf("Place = %v, want an *Error", err)
			}
		case tasks.BadInput:
		default:
			t.Errorf("Place = %v %q; only the task is at fault", code(err), err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x00\x1b") {
			t.Errorf("%q is no line", err)
		}
		if invalid := task.Validate(); err == nil && invalid != nil && !odd {
			t.Errorf("placed, and not valid: %v", invalid)
		}
		for i := range task.Inputs {
			in := &task.Inputs[i]
			if err != nil || fs.FileMode(in.Mode).Type() != 0 {
				continue
			}
			if b, err := os.ReadFile(filepath.Join(d.Path(), in.Name)); fs.FileMode(in.Mode).Perm()&0o400 != 0 && (err != nil || !bytes.Equal(b, in.Inline)) {
				t.Errorf("%q has %q, %v; want %q", in.Name, b, err, in.Inline)
			}
		}
	})
}

// FuzzCollect has a task leave a tree of names behind (as tree makes it), and
// asks for it by any patterns. What comes back is named and linked inside the
// work directory, has only what is inside, and nothing outside changes.
func FuzzCollect(f *testing.F) {
	for _, s := range [][2]string{{"a.csv\nb/c", "*.csv\nb"}, {"l->../../other/secret", "l"}, {"l->../../other", "l/*\nl/secret\n**"}, {"d/\nd/l->..", "d"},
		{"a\nb->a\nc->/etc/passwd", "*"}, {"a", "[\n[a-\n\\"}, {"a", "../*\n/*\n.."}, {"a/b/c/d", "**/d\n**/**\n**"}, {".h/x\n.tmp/y", ".*\n*"}, {"a\x1b[2J\nb", "*"},
		{"a->a\nb->c\nc->b", "*"}, {"root->.\nx", "root/root/root/x\nroot/**"}, {"a", strings.Repeat("*", 500) + "b"}, {strings.Repeat("a", 200), strings.Repeat("*a", 99) + "b"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, left, patterns string) {
		bounds.Input(t, left, patterns)
		var task tasks.Task
		for _, row := range lines(patterns, 8) {
			task.Outputs = append(task.Outputs, strings.Join(row, "|"))
		}
		o, root := newOutside(t)
		a := attempt(&task, nil)
		d, err := workdir.Create(root, a)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Remove()
		inside := map[string]bool{}
		for _, row := range lines(left, 8) {
			leave(d.Path(), strings.Join(row, "|"), inside)
		}
		before := o.list(d)
		o.was = before
		defer bounds.Check(t)()
		got, err := d.Collect(t.Context(), a)
		if is := o.list(d); is != before {
			t.Errorf("Collect changed what is outside:\n%s\nwas\n%s", is, before)
		}
		if err != nil && (code(err) != tasks.BadInput || strings.ContainsAny(err.Error(), "\n\x00\x1b")) {
			t.Errorf("Collect = %v %q", code(err), err)
		}
		if strings.ContainsAny(got.Text(), "\n\x00\x1b") {
			t.Errorf("the text is no line: %q", got.Text())
		}
		names := map[string]bool{}
		for _, file := range got.Files {
			if err := tasks.CheckName(file.Name); err != nil || names[file.Name] {
				t.Errorf("%q came back, twice %v: %v", file.Name, names[file.Name], err)
			}
			names[file.Name] = true
			switch mode := fs.FileMode(file.Mode); mode.Type() {
			case 0:
				if !inside[string(file.Inline)] {
					t.Errorf("%q has %q, which the task did not write", file.Name, file.Inline)
				}
			case fs.ModeSymlink:
				at := filepath.Join(filepath.Dir(file.Name), string(file.Inline))
				if filepath.IsAbs(string(file.Inline)) || !filepath.IsLocal(at) {
					t.Errorf("%q is a link to %q", file.Name, file.Inline)
				}
			case fs.ModeDir:
			default:
				t.Errorf("%q is %v", file.Name, mode)
			}
		}
	})
}

// leave makes what tree would make of a name, if it is inside of dir, and notes
// the contents that it writes.
func leave(dir, name string, contents map[string]bool) {
	link, to, isLink := strings.Cut(name, "->")
	root, err := os.OpenRoot(dir)
	if err != nil {
		return
	}
	defer root.Close()
	// Errors: there is no such name.
	switch {
	case isLink:
		root.MkdirAll(filepath.Dir(link), 0o755)
		root.Symlink(to, link)
	case strings.HasSuffix(name, "/"):
		root.MkdirAll(name, 0o755)
	default:
		root.MkdirAll(filepath.Dir(name), 0o755)
		if root.WriteFile(name, []byte(name), 0o640) == nil {
			contents[name] = true
		}
	}
}
