//go:build unix

package secret

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A user who owns the directory, in which root replaces the secret, gets the secret
// and nothing else.
func TestSaveKeepsTheOwnerAndGivesNothingElseAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can")
	}
	owner := func(path string) int {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return int(st.Sys().(*syscall.Stat_t).Uid)
	}
	dir, outside, c := t.TempDir(), filepath.Join(t.TempDir(), "outside"), Chain{{Secret: New()}}
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "secret")
	anew := func() {
		os.Remove(path)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	anew()
	if err := c.Save(path); err != nil || owner(path) != 65534 {
		t.Errorf("Save = %v, and the owner is %d, want 65534", err, owner(path))
	}

	done := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() { // what the user does meanwhile
		link := filepath.Join(filepath.Dir(outside), "link")
		for {
			select {
			case <-done:
				return
			default:
			}
			names, _ := filepath.Glob(dir + "/.secret-*")
			for _, n := range names {
				if st, err := os.Lstat(n); err == nil && st.Mode().IsRegular() {
					os.Symlink(outside, link)
					os.Rename(link, n)
				}
			}
		}
	})
	for range 30 {
		anew()
		c.Save(path) // may fail
	}
	close(done)
	swapping.Wait()
	if got := owner(outside); got != 0 {
		t.Errorf("a file elsewhere was given to user %d", got)
	}
}

func TestAFIFOIsNoSecretAndNoTrap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Load of a FIFO that nobody writes to = %v", err)
	}
}

// A file that may be there and cannot be seen is no reason to run without a secret.
func TestFindFailsClosed(t *testing.T) {
	if os.Geteuid() == 0 {
		// root's place is fixed, and root sees everything: be somebody else.
		if os.Getenv("SCAGENT_TEST_FIND") == "" {
			c := exec.Command("/proc/self/exe", "-test.run", "^TestFindFailsClosed$", "-test.v")
			c.Env = append(os.Environ(), "SCAGENT_TEST_FIND=1", "TMPDIR=/tmp")
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			c.Dir = "/"
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("as nobody: %v\n%s", err, out)
			}
			return
		}
	}
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "scagent"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(closed, 0o700) })
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string]string{closed: filepath.Join(closed, "scagent/secret"), dir: "", file: "", filepath.Join(dir, "none"): ""} {
		got := Find("", func(name string) string {
			if name == "XDG_CONFIG_HOME" {
				return config
			}
			return ""
		})
		if got != want {
			t.Errorf("with %s: Find = %q, want %q", config, got, want)
		}
		if _, err := Load(got); got != "" && (err == nil || !strings.Contains(err.Error(), "permission denied")) {
			t.Errorf("Load(%s) = %v, want that permission is denied", got, err)
		}
	}
}
