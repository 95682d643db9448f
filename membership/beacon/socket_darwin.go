package beacon

import "golang.org/x/sys/unix"

// shareGroup lets other sockets share the port, which takes one more
// option here; what they have joined is told apart in socket.receive.
func shareGroup(fd, _ int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}
