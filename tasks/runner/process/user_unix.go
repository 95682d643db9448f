//go:build unix

package process

import (
	"io/fs"
	"slices"
	"syscall"
)

// MayPass reports whether the user may go through a directory, by its owner, group
// and mode.
func (u *User) MayPass(dir fs.FileInfo) bool {
	execute := fs.FileMode(0o001)
	if st, ok := dir.Sys().(*syscall.Stat_t); ok {
		switch {
		case u.UID == 0:
			return true
		case st.Uid == u.UID:
			execute = 0o100
		case st.Gid == u.GID || slices.Contains(u.Groups, st.Gid):
			execute = 0o010
		}
	}
	return dir.Mode()&execute != 0
}
