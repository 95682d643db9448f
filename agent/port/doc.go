// Package port holds an agent's one address, and sorts what arrives there.
//
// An agent is reachable at a single number, TCP and UDP alike, so that one line
// in a firewall is enough. Open binds both. Everything above gets its share as
// a plain net.Listener or net.PacketConn and need not know that it shares.
//
// # Sorting
//
// The first byte of a TCP connection tells what it is:
//
//	0x16         TLS: one of the others, by ALPN, if Config.TLS is set
//	'A' to 'Z'   HTTP, from Port.HTTP
//	0x5C         a link over which tasks travel, from Port.Links
//	else         gossip, from Port.Gossip
//
// Where the system allows it (linux, darwin and the like) the byte is looked at
// without taking it, and the *net.TCPConn itself is handed on, so that sendfile
// and splice still work. Elsewhere, and for connections that are not TCP (see
// package memnet), a thin wrapper gives the byte back to the first reader.
//
// With Config.TLS the handshake comes first, and whatever is not TLS is closed;
// plain HTTP is answered 400 with the remedy.
//
// UDP is not sorted: Port.Packets is the socket.
//
// # Who may come
//
// Without TLS, Config.Allow and Config.DirectOnly keep to the networks of this
// host, see Neighbours: a source elsewhere is dropped before a byte of it is
// read, and what came through a router is told by its TTL (RFC 5082), whatever
// source it claims.
//
// # Strangers
//
// A connection that has not sent its first byte is a stranger. A stranger has
// Config.FirstByteTimeout to speak, there is room for Config.MaxStrangers of
// them and for Config.MaxStrangersPerSource from one IP address, and each
// listener keeps at most Config.Backlog connections that nobody has accepted
// yet. Whoever is over a limit is closed, with a reset, and counted: see Stats.
// Where there are too many in all, that is not the newcomer but one of those of
// whom there are most, so that a few cannot keep the others out: see Crowd.
// A connection handed on has no deadline set, and belongs to whoever accepts
// it: closing the Port does not close it.
//
// # Sockets
//
// Machine makes real sockets. They send with TTL and hop limit 255, so that the
// other side can tell that no router lies between (RFC 5082; see ArrivalHops for
// TCP). The TCP port is the lock: it is bound first, and who holds it owns the
// UDP port of that number. The UDP socket hears no multicast group that it has
// not joined itself.
//
// The beacon listens on a multicast group at the same UDP number, in every
// agent of the host. Linux and BSD allow such a socket beside one bound to
// 0.0.0.0 or [::] only if both have SO_REUSEADDR, so a wildcard UDP socket has
// it; that no program holds the number for unicast is checked beforehand with
// an exclusive bind on loopback. A socket bound to one address is exclusive. The
// beacon must bind to its group's address; package net binds to the wildcard in
// its place, and such a socket would take our packets.
//
// # Goroutines
//
// Open starts one goroutine that accepts, and each stranger has one until it is
// handed on or closed. Close stops them all and waits for them.
package port
