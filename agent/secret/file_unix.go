//go:build unix

package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const nonBlock = syscall.O_NONBLOCK

// checkMode refuses a file that others can read or write, or that is another's.
func checkMode(path string, st fs.FileInfo) error {
	if st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others than its owner can get at it; run: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() && sys.Uid != 0 && os.Geteuid() != 0 {
		return fmt.Errorf("%s belongs to another user", path)
	}
	return nil
}

// keepOwner gives a new file the owner of the one that it replaces. It is the open
// file that is given: the directory may be that owner's, who could put a link in the
// place of its name.
func keepOwner(old string, new *os.File) error {
	st, err := os.Stat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() {
		return new.Chown(int(sys.Uid), int(sys.Gid))
	}
	return nil
}
