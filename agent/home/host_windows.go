package home

import (
	"errors"
	"io/fs"
	"net"
	"os"
)

func checkSocketPath(string) error { return nil }

// listen makes the socket, in a directory that is the user's alone.
func listen(path string, _ int) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

const nonBlock = 0

func groupID(string) (int, error) {
	return 0, errors.New("sockets have no group on Windows; leave -api-group out")
}

func memberOf(int) bool { return false }

func socketGroup(string) string { return "" }

func ownerOf(fs.FileInfo) (uid int, ok bool) { return 0, false }

func mayOpen(socket string) error {
	_, err := os.Lstat(socket)
	return err
}

// running is asked about processes of other users only, which are not looked at here.
func running(int) bool { return false }
