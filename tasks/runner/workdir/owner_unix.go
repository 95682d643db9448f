//go:build unix

package workdir

import (
	"io/fs"
	"syscall"
)

// ownedBy reports whether a file is the user's.
func ownedBy(st fs.FileInfo, uid int) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == uid
}
