package beacon

import "golang.org/x/sys/unix"

// shareGroup keeps away what other sockets of the host have joined:
// without it, a socket gets the group's datagrams from all interfaces. Kernels
// that do not know the option are no worse: see socket.receive.
func shareGroup(fd, family int) {
	if family == unix.AF_INET {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	}
}
