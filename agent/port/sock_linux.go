package port

import (
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownGroupsOnly keeps the socket from hearing groups that others have joined.
func ownGroupsOnly(fd int, ipv6 bool) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
	if err == nil && ipv6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
		if err == unix.ENOPROTOOPT { // before linux 4.20
			err = nil
		}
	}
	return os.NewSyscallError("setsockopt MULTICAST_ALL", err)
}

// saveSYN keeps the first packet of each connection for ArrivalHops. Where that
// fails, ArrivalHops says that it does not know.
func saveSYN(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1)
}

// controlBytes is room for what the system says beside a packet: its TTL, twice.
const controlBytes = 64

// tellHops has the system say the TTL or hop limit of each packet.
func tellHops(fd int, ipv6 bool) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
	if ipv6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
	}
	return os.NewSyscallError("setsockopt RECVTTL", err)
}

// packetHops reads the TTL or hop limit out of what the system says of a packet.
func packetHops(control []byte) (hops int, known bool) {
	for len(control) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0, false
		}
		if len(data) >= 4 && (h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL || h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT) {
			return int(*(*int32)(unsafe.Pointer(&data[0]))), true
		}
		control = rest
	}
	return 0, false
}

// ArrivalHops returns the TTL or hop limit with which the first packet of c
// arrived: 255 if it was sent by an agent and no router lies between. It is
// false where that is not known: the system does not tell, c was not accepted
// from Machine, or it was asked before, since the system tells it once.
func ArrivalHops(c net.Conn) (hops int, known bool) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	var headers [120]byte // IP and TCP headers, each at most 60 bytes with their options
	n, err := getsockopt(tcp, unix.IPPROTO_TCP, unix.TCP_SAVED_SYN, headers[:])
	if err != nil || n < 20 {
		return 0, false
	}
	switch headers[0] >> 4 {
	case 4:
		return int(headers[8]), true
	case 6:
		return int(headers[7]), true
	}
	return 0, false
}

// synIsMissing reports whether the first packet of c was to be kept and was not: it was
// answered with a cookie, as the system does when more want to connect than it can
// remember. Who floods it can bring that about.
func synIsMissing(c net.Conn) bool {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	var on [4]byte
	n, err := getsockopt(tcp, unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, on[:])
	return err == nil && n == len(on) && on != [4]byte{}
}

// kernelDrops returns how many packets the system dropped because c was not
// read fast enough.
func kernelDrops(c syscall.Conn) uint64 {
	const drops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h, an index of 32-bit fields
	var info [(drops + 1) * 4]byte
	n, err := getsockopt(c, unix.SOL_SOCKET, unix.SO_MEMINFO, info[:])
	if err != nil || n < len(info) {
		return 0
	}
	return uint64(*(*uint32)(unsafe.Pointer(&info[drops*4])))
}

// getsockopt reads an option that is bytes, for which package unix has no call.
func getsockopt(c syscall.Conn, level, option int, into []byte) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	size := uint32(len(into))
	err = raw.Control(func(fd uintptr) {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), uintptr(option),
			uintptr(unsafe.Pointer(&into[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			n, size = 0, 0
		}
	})
	return int(size), err
}
