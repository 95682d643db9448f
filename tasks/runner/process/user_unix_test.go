//go:build unix

package process

import (
	"os"
	"syscall"
	"testing"
)

func TestMayPass(t *testing.T) {
	dir := t.TempDir()
	st, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	own := st.Sys().(*syscall.Stat_t)
	const stranger = 54321
	for _, c := range []struct {
		name string
		user User
		mode os.FileMode
		want bool
	}{
		{"owner", User{UID: own.Uid, GID: stranger}, 0o100, true},
		{"owner who may not", User{UID: own.Uid, GID: stranger}, 0o011, own.Uid == 0},
		{"group", User{UID: stranger, GID: own.Gid}, 0o010, true},
		{"further group", User{UID: stranger, GID: stranger, Groups: []uint32{7, own.Gid}}, 0o710, true},
		{"group that may not", User{UID: stranger, GID: own.Gid}, 0o701, false},
		{"others", User{UID: stranger, GID: stranger}, 0o711, true},
		{"others who may not", User{UID: stranger, GID: stranger}, 0o770, false},
		{"root", User{}, 0, true},
	} {
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.user.MayPass(st); got != c.want {
			t.Errorf("%s, mode %04o: %t, want %t", c.name, c.mode, got, c.want)
		}
	}
}
