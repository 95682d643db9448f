package workdir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scagent/scagent/tasks"
)

// A task can nest directories deeper than the agent can have files open.
func TestRemoveOfADeepTree(t *testing.T) {
	const files = 300
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &was)

	d := mustCreate(t, attempt(&tasks.Task{}, nil))
	deep := filepath.Join(d.Path(), strings.Repeat("a/", 3*files))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir := deep; dir != d.Path(); dir = filepath.Dir(dir) {
		for _, name := range []string{"f", "d/g"} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if len(dir)%7 == 0 {
			if err := os.Chmod(dir, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.Remove(); err != nil {
		t.Errorf("%.200s", err.Error())
	}
	if _, err := os.Lstat(d.Path()); !os.IsNotExist(err) {
		t.Errorf("the directory is there still: %v", err)
	}
}
