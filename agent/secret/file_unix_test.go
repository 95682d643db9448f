//go:build unix

package secret

import (
	"os"
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
