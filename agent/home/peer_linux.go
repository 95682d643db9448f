package home

import (
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peerOf asks SO_PEERCRED and SO_PEERGROUPS, see unix(7) and socket(7).
func peerOf(c *net.UnixConn) (p peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var u *unix.Ucred
		if u, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		p.uid, p.gids = int(u.Uid), []int{int(u.Gid)}
		var more []uint32
		if more, err = peerGroups(fd); err != nil {
			return
		}
		for _, g := range more {
			p.gids = append(p.gids, int(g))
		}
	})
	if err == nil {
		err = cerr
	}
	return p, err
}

// maxGroups is how many groups a process can be in, NGROUPS_MAX.
const maxGroups = 65536

// peerGroups returns the supplementary groups.
func peerGroups(fd uintptr) ([]uint32, error) {
	gids := make([]uint32, 64)
	for {
		size := uint32(len(gids) * 4)
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case e == 0:
			return gids[:size/4], nil
		case e == unix.ERANGE && len(gids) < maxGroups:
			gids = make([]uint32, maxGroups)
		default:
			return nil, e
		}
	}
}
