//go:build darwin || freebsd

package home

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerOf asks LOCAL_PEERCRED, which names the first 16 groups.
func peerOf(c *net.UnixConn) (p peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var u *unix.Xucred
		if u, err = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED); err != nil {
			return
		}
		p.uid = int(u.Uid)
		for _, g := range u.Groups[:min(max(int(u.Ngroups), 0), len(u.Groups))] {
			p.gids = append(p.gids, int(g))
		}
	})
	if err == nil {
		err = cerr
	}
	return p, err
}
