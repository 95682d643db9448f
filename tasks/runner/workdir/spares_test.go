//go:build linux

package workdir_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// lender runs attempts in directories that may be spare ones.
type lender struct {
	t   *testing.T
	cfg workdir.Config
}

func newLender(t *testing.T, u *process.User) *lender {
	root := filepath.Join(t.TempDir(), "root")
	if err := workdir.MakeRoot(root); err != nil {
		t.Fatal(err)
	}
	return &lender{t, workdir.Config{Root: root, User: u, Spares: workdir.NewSpares(root, u)}}
}

// run runs an attempt that does that in its directory, checks that it found it as
// new, and returns the directory's path.
func (l *lender) run(task *tasks.Task, do func(dir string)) (dir string) {
	l.t.Helper()
	out := workdir.Run(l.t.Context(), &l.cfg, attempt(task, nil), func(d *workdir.Dir, s *process.Spec) tasks.Outcome {
		dir = s.Dir
		want := []string{".", d.Tmp()[len(dir)+1:]}
		for _, in := range task.Inputs {
			want = append(want, in.Name)
		}
		var found []string
		filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			name, _ := filepath.Rel(dir, path)
			found = append(found, name)
			return err
		})
		if !slices.Equal(found, want) {
			l.t.Errorf("in %s are %q, want %q", dir, found, want)
		}
		for _, path := range []string{dir, d.Tmp()} {
			st, err := os.Lstat(path)
			if err != nil || st.Mode() != os.ModeDir|0o700 {
				l.t.Errorf("%s: %v, %v, want mode 0700", path, st.Mode(), err)
				continue
			}
			uid := os.Getuid()
			if l.cfg.User != nil {
				uid = int(l.cfg.User.UID)
			}
			if got := int(st.Sys().(*syscall.Stat_t).Uid); got != uid {
				l.t.Errorf("%s is of user %d, want %d", path, got, uid)
			}
			if n, err := unix.Llistxattr(path, nil); err == nil && n > 0 {
				l.t.Errorf("%s has attributes", path)
			}
		}
		if !slices.Contains(s.Env, "HOME="+dir) || !slices.Contains(s.Env, "TMPDIR="+d.Tmp()) {
			l.t.Errorf("the environment of an attempt in %s is %q", dir, s.Env)
		}
		if do != nil {
			do(dir)
		}
		return tasks.Outcome{}
	})
	if out.Code != tasks.OK || out.Text != "" {
		l.t.Errorf("outcome %+v", out)
	}
	return dir
}

func (l *lender) names() (names []string) {
	entries, err := os.ReadDir(l.cfg.Root)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// rested returns once a spare directory can be lent.
func (l *lender) rested() {
	l.run(&tasks.Task{}, nil) // has it made
	time.Sleep(time.Minute)
}

func TestSpareDirectoryIsLentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLender(t, nil)
		first := l.run(&tasks.Task{}, nil)
		if second := l.run(&tasks.Task{}, nil); strings.Contains(first+second, "spare") {
			t.Errorf("%s and %s were lent, want none that was just made", first, second)
		}
		if _, err := os.Stat(first); err == nil {
			t.Errorf("%s is left", first)
		}
		time.Sleep(time.Minute)
		want := l.run(&tasks.Task{}, nil)
		for range 3 {
			if got := l.run(&tasks.Task{}, func(dir string) { os.ReadDir(dir) }); got != want || !strings.Contains(got, "spare") {
				t.Errorf("the directory is %s, want %s again", got, want)
			}
		}
		if got := l.names(); len(got) != 1 {
			t.Errorf("for one attempt at a time there are %q", got)
		}
	})
}

func TestSpareDirectoriesAreAsManyAsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLender(t, nil)
		var nest func(n int) func(string)
		nest = func(n int) func(string) {
			if n == 0 {
				return nil
			}
			return func(string) { l.run(&tasks.Task{}, nest(n-1)) }
		}
		for range 3 {
			l.run(&tasks.Task{}, nest(4))
			if got := l.names(); len(got) != 5 {
				t.Errorf("for five attempts at a time there are %q", got)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestChangedDirectoryIsNotLent(t *testing.T) {
	file := func(path string) {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	for name, change := range map[string]func(dir string) error{
		"a file":                  func(dir string) error { file(dir + "/x"); return nil },
		"a temporary file":        func(dir string) error { file(dir + "/.tmp/x"); return nil },
		"a file that was removed": func(dir string) error { file(dir + "/x"); return os.Remove(dir + "/x") },
		"a directory":             func(dir string) error { return os.Mkdir(dir+"/x", 0o500) },
		"its mode":                func(dir string) error { return os.Chmod(dir, 0o777) },
		"its mode, and back":      func(dir string) error { os.Chmod(dir, 0o777); return os.Chmod(dir, 0o700) },
		"no TMPDIR":               func(dir string) error { return os.Remove(dir + "/.tmp") },
		"another TMPDIR":          func(dir string) error { os.Remove(dir + "/.tmp"); return os.Mkdir(dir+"/.tmp", 0o700) },
		"a link as TMPDIR":        func(dir string) error { os.Remove(dir + "/.tmp"); return os.Symlink("/tmp", dir+"/.tmp") },
		"TMPDIR's mode":           func(dir string) error { return os.Chmod(dir+"/.tmp", 0o755) },
		"an attribute":            func(dir string) error { return unix.Setxattr(dir, "user.x", []byte("y"), 0) },
		"its time":                func(dir string) error { return os.Chtimes(dir, time.Now(), time.Now()) },
		"removed":                 os.RemoveAll,
		"another in its place":    func(dir string) error { os.Rename(dir, dir+"-x"); return os.Mkdir(dir, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLender(t, nil)
				l.rested()
				changed := l.run(&tasks.Task{}, func(dir string) {
					if err := change(dir); err != nil {
						t.Skip(err)
					}
				})
				os.RemoveAll(changed + "-x")
				if got := l.names(); len(got) > 0 {
					t.Errorf("%s was changed, and %q are left", changed, got)
				}
				for range 3 {
					l.rested()
					if got := l.run(&tasks.Task{}, nil); got == changed || !strings.Contains(got, "spare") {
						t.Errorf("the directory is %s, and that was changed", got)
					}
				}

				// One that is changed while nobody has it.
				idle := l.run(&tasks.Task{}, nil)
				if err := change(idle); err != nil {
					t.Fatal(err)
				}
				if got := l.run(&tasks.Task{}, nil); got == idle {
					t.Errorf("%s was changed and lent", got)
				}
			})
		})
	}
}

func TestInputsGetADirectoryOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLender(t, nil)
		l.rested()
		before := l.names()
		if got := l.run(&tasks.Task{Inputs: []tasks.Input{inline("in", "x", 0)}}, nil); strings.Contains(got, "spare") {
			t.Errorf("a task with inputs got %s", got)
		}
		if got := l.names(); !slices.Equal(got, before) {
			t.Errorf("there are %q, want %q", got, before)
		}
	})
}

func TestOutputsComeFromASpareDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLender(t, nil)
		l.rested()
		task := &tasks.Task{Outputs: []string{"out"}}
		out := workdir.Run(t.Context(), &l.cfg, attempt(task, nil), func(_ *workdir.Dir, s *process.Spec) tasks.Outcome {
			if !strings.Contains(s.Dir, "spare") {
				t.Errorf("the directory is %s, want a spare one", s.Dir)
			}
			os.WriteFile(s.Dir+"/out", []byte("text"), 0o600)
			return tasks.Outcome{}
		})
		if len(out.Outputs) != 1 || string(out.Outputs[0].Inline) != "text" {
			t.Errorf("outcome %+v, want the output", out)
		}
		if got := l.names(); len(got) > 0 {
			t.Errorf("%q are left", got)
		}
	})
}

func TestSpareDirectoryIsTheUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run tasks as another user")
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLender(t, &process.User{UID: 65534, GID: 65534})
		l.rested()
		want := l.run(&tasks.Task{}, nil)
		if got := l.run(&tasks.Task{}, nil); got != want || !strings.Contains(got, "spare") {
			t.Errorf("the directory is %s, want %s again", got, want)
		}
	})
}
