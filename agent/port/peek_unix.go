//go:build unix

package port

import (
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// firstByte waits for the first byte of c and returns it with the connection to
// go on with, on which it is still to be read.
func firstByte(c net.Conn) (byte, net.Conn, error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return readFirst(c)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, c, err
	}
	var b [1]byte
	var n int
	var peekErr error
	err = raw.Read(func(fd uintptr) (done bool) {
		for {
			n, _, peekErr = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK)
			if peekErr != unix.EINTR {
				return peekErr != unix.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return 0, c, err
	case peekErr != nil:
		return 0, c, os.NewSyscallError("recvfrom", peekErr)
	case n == 0:
		return 0, c, io.EOF
	}
	return b[0], c, nil
}
