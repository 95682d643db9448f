package home

import (
	"errors"
	"net"
	"slices"
	"sync/atomic"
)

// Listener is the socket of an agent. It hands out the connections of those who
// may use it and hangs up on others: the mode of the socket keeps them out too,
// but it can be changed, and a socket can be handed on.
type Listener struct {
	l       *net.UnixListener
	path    string
	uid     int // may connect, as root may
	gid     int // whose members may; -1: none
	refused atomic.Uint64
}

// Accept waits for the next connection of who may use the socket.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		p, err := peerOf(c)
		if errors.Is(err, errNoPeers) || err == nil && l.admits(p) {
			return c, nil
		}
		l.refused.Add(1)
		c.Close()
	}
}

// Refused is how many connections were closed because of whose they were.
func (l *Listener) Refused() uint64 { return l.refused.Load() }

// Close closes the socket. The file goes with Home.Release.
func (l *Listener) Close() error { return l.l.Close() }

// Addr is the address of the socket, which was another one when it was made.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *Listener) admits(p peer) bool {
	return p.uid == 0 || p.uid == l.uid || l.gid >= 0 && slices.Contains(p.gids, l.gid)
}

// peer is who opened a connection, as the kernel noted it then.
type peer struct {
	uid  int   // effective
	gids []int // effective and supplementary
}

// errNoPeers says that this system does not tell, so that the mode of the socket
// must do.
var errNoPeers = errors.New("this system does not say who connects")
