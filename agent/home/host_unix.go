//go:build unix

package home

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketPath is how long the name of a socket may be, see unix(7).
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

func checkSocketPath(path string) error {
	// The socket is made under a name that is somewhat longer.
	if n := len(path) + len(bindSuffix); n > maxSocketPath {
		return fmt.Errorf("the path of the agent's socket, %s, is %d bytes too long for a socket; set XDG_RUNTIME_DIR to a shorter one", path, n-maxSocketPath)
	}
	return nil
}

const bindSuffix = ".new/s"

// listen makes a socket that nobody else can open at any moment: inside a
// directory of its own, where it gets its mode before it gets its name. Members
// of the group gid can open it, unless that is -1.
func listen(path string, gid int) (*net.UnixListener, error) {
	dir := filepath.Dir(path + bindSuffix)
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + bindSuffix, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it will not have that name
	mode := fs.FileMode(0o600)
	if gid >= 0 {
		mode = 0o660
		if cerr := os.Chown(path+bindSuffix, -1, gid); cerr != nil {
			err = fmt.Errorf("%w: %w", errNotGiven, cerr)
		}
	}
	if err == nil {
		err = os.Chmod(path+bindSuffix, mode)
	}
	if err == nil {
		err = os.Rename(path+bindSuffix, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// nonBlock opens a FIFO without waiting for its writer.
const nonBlock = unix.O_NONBLOCK

// groupID returns the number of a group, which need not have a name.
func groupID(group string) (int, error) {
	number := group
	if g, err := user.LookupGroup(group); err == nil {
		number = g.Gid
	}
	// Not the largest: chown(2) takes that for "leave it as it is".
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q; make it, or give another with -api-group", group)
	}
	return int(n), nil
}

// memberOf reports whether this process is in a group.
func memberOf(gid int) bool {
	if gid == os.Getegid() {
		return true
	}
	gids, err := os.Getgroups()
	return err == nil && slices.Contains(gids, gid)
}

// socketGroup returns the group that may open the socket besides its owner, empty
// if there is none.
func socketGroup(path string) string {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Perm()&0o020 == 0 {
		return ""
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	gid := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(gid); err == nil {
		return g.Name
	}
	return gid
}

// ownerOf returns the user that a file belongs to.
func ownerOf(fi fs.FileInfo) (uid int, ok bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// mayOpen reports why this process may not connect to a socket.
func mayOpen(socket string) error {
	return unix.Faccessat(unix.AT_FDCWD, socket, unix.W_OK, unix.AT_EACCESS)
}

// running reports whether there is a process of that number.
func running(pid int) bool {
	return pid > 0 && !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
