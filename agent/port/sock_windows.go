package port

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// wildcardSharesPort is false: SO_REUSEADDR here would let anyone take the port.
const wildcardSharesPort = false

func dialOptions(fd uintptr, ipv6 bool) error         { return setHops(fd, ipv6) }
func listenOptions(fd uintptr, ipv6 bool) error       { return setHops(fd, ipv6) }
func packetOptions(fd uintptr, ipv6 bool) error       { return setHops(fd, ipv6) }
func sharedPacketOptions(fd uintptr, ipv6 bool) error { return setHops(fd, ipv6) }

// setHops makes the socket send with the full TTL.
func setHops(fd uintptr, ipv6 bool) error {
	err := windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_IP, windows.IP_TTL, fullHops)
	if ipv6 { // the TTL above is for IPv4 within an IPv6 socket
		err = windows.SetsockoptInt(windows.Handle(fd), windows.IPPROTO_IPV6, windows.IPV6_UNICAST_HOPS, fullHops)
	}
	return os.NewSyscallError("setsockopt TTL", err)
}

// The errors of package syscall are those of memnet; the system has its own.

func isTaken(err error) bool {
	return errors.Is(err, windows.WSAEADDRINUSE) || errors.Is(err, syscall.EADDRINUSE)
}

func isNotOurs(err error) bool {
	return errors.Is(err, windows.WSAEADDRNOTAVAIL) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

func isDenied(err error) bool {
	return errors.Is(err, windows.WSAEACCES) || errors.Is(err, os.ErrPermission)
}
