//go:build linux || darwin

package beacon

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenGroup returns a socket that is bound to the group's address, and so
// receives nothing else, and that shares its port. Package net cannot make one:
// it binds to the wildcard address instead.
func listenGroup(k socketKey, group *net.UDPAddr) (net.PacketConn, error) {
	family := unix.AF_INET6
	var addr unix.Sockaddr = &unix.SockaddrInet6{Port: group.Port, Addr: Group6.As16(), ZoneId: uint32(k.index)}
	if k.src.Is4() {
		family = unix.AF_INET
		addr = &unix.SockaddrInet4{Port: group.Port, Addr: Group4.As4()}
	}
	fail := func(what string, err error) (net.PacketConn, error) {
		return nil, fmt.Errorf("%s for %v: %w", what, group, err)
	}
	syscall.ForkLock.RLock() // darwin cannot open a socket that is closed on exec in one step
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return fail("socket", err)
	}
	f := os.NewFile(uintptr(fd), "beacon")
	defer f.Close() // FilePacketConn has a duplicate
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fail("set SO_REUSEADDR", err)
	}
	shareGroup(fd, family)
	if err := unix.Bind(fd, addr); err != nil {
		return fail("bind", err)
	}
	return net.FilePacketConn(f)
}
