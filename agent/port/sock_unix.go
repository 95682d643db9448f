//go:build unix

package port

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// wildcardSharesPort says that a socket of a multicast group and a wildcard one
// have the same UDP port only if both have SO_REUSEADDR.
const wildcardSharesPort = true

func dialOptions(fd uintptr, ipv6 bool) error { return setHops(int(fd), ipv6) }

func listenOptions(fd uintptr, ipv6 bool) error {
	saveSYN(int(fd))
	return setHops(int(fd), ipv6)
}

func packetOptions(fd uintptr, ipv6 bool) error {
	if err := ownGroupsOnly(int(fd), ipv6); err != nil {
		return err
	}
	if err := tellHops(int(fd), ipv6); err != nil {
		return err
	}
	return setHops(int(fd), ipv6)
}

func sharedPacketOptions(fd uintptr, ipv6 bool) error {
	if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	return packetOptions(fd, ipv6)
}

// setHops makes the socket send with the full TTL, and what it accepts too.
func setHops(fd int, ipv6 bool) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, fullHops)
	if ipv6 { // the TTL above is for IPv4 within an IPv6 socket, which not every system has
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, fullHops)
	}
	return os.NewSyscallError("setsockopt TTL", err)
}

func isTaken(err error) bool   { return errors.Is(err, syscall.EADDRINUSE) }
func isNotOurs(err error) bool { return errors.Is(err, syscall.EADDRNOTAVAIL) }
func isDenied(err error) bool  { return errors.Is(err, os.ErrPermission) }
