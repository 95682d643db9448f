package wire

import (
	"net"
	"syscall"
)

// tcpNotSentLowat is TCP_NOTSENT_LOWAT, which package syscall does not name.
const tcpNotSentLowat = 25

// maxUnsentBytes is how much the kernel takes that it cannot send yet. Without
// a bound it is megabytes, and control would wait behind them on a slow
// network.
const maxUnsentBytes = 128 << 10

// tune bounds what the kernel queues for a TCP connection. A connection of
// another kind is left alone, and so is one where it fails: it is a matter of
// delay only.
func tune(conn net.Conn) {
	c, ok := innermost(conn).(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsentBytes)
	})
}
