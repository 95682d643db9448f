//go:build unix

package home

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTokenIsMadeOnceAndKept(t *testing.T) {
	e := testEnv(t)
	defer syscall.Umask(syscall.Umask(0))
	h := claim(t, Options{Env: e})
	token, path, err := h.Token()
	if err != nil || len(token) != 64 || path != h.Path("api-token") {
		t.Fatalf("Token = %q, %s, %v; want 256 bits in the state directory", token, path, err)
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%s: %v, %v; want mode 600", path, fi, err)
	}
	if got, err := ReadToken(path); err != nil || got != token {
		t.Errorf("ReadToken = %q, %v; want %q", got, err, token)
	}
	h.Release()
	h = claim(t, Options{Env: e})
	if again, _, err := h.Token(); err != nil || again != token {
		t.Errorf("Token after a restart = %q, %v; want the same", again, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if again, _, err := h.Token(); err != nil || again == token || len(again) != 64 {
		t.Errorf("Token after its file was removed = %q, %v; want another", again, err)
	}
	other := claim(t, Options{Env: e})
	if theirs, _, err := other.Token(); err != nil || theirs == token {
		t.Errorf("Token of another agent = %q, %v; want its own", theirs, err)
	}
}

func TestTokenFilesThatAreNotTaken(t *testing.T) {
	const good = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	write := func(content string, mode fs.FileMode) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name, want string
		make       func(t *testing.T, path string)
	}{
		{"others can read it", "chmod 600", write(good+"\n", 0o644)},
		{"the group can read it", "chmod 600", write(good+"\n", 0o640)},
		{"others can write to it", "chmod 600", write(good+"\n", 0o602)},
		{"empty", "no token", write("", 0o600)},
		{"short", "no token", write(good[:63]+"\n", 0o600)},
		{"long", "no token", write(good+"0\n", 0o600)},
		{"two", "no token", write(good+"\n"+good+"\n", 0o600)},
		{"binary", "no token", write(strings.Repeat("\x00", 64), 0o600)},
		{"large", "no token", write(strings.Repeat("0", 16<<20), 0o600)},
		{"a directory", "not a regular file", func(t *testing.T, path string) { mkdir(t, path, 0o700) }},
		{"a FIFO", "not a regular file", func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := claim(t, Options{Env: testEnv(t)})
			path := h.Path("api-token")
			c.make(t, path)
			_, err := ReadToken(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("ReadToken = %v; want one line with the file and %q", err, c.want)
			}
			if token, _, err := h.Token(); err == nil {
				t.Errorf("Token = %q; want that the file is refused, not replaced", token)
			}
		})
	}
	if _, err := ReadToken(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadToken of no file = %v", err)
	}
}
