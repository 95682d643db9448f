//go:build unix

package blob

import (
	"io/fs"
	"os"
	"syscall"
)

// ours reports whether a file can be changed through nothing that others have: a
// second name, or what its owner still has open.
func ours(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Nlink == 1 && int(sys.Uid) == os.Geteuid()
}
