//go:build !linux

package port

import (
	"net"
	"syscall"
)

func ownGroupsOnly(int, bool) error { return nil }
func saveSYN(int)                   {}

const controlBytes = 1

func tellHops(int, bool) error { return nil }

func packetHops([]byte) (hops int, known bool) { return 0, false }

// ArrivalHops returns the TTL or hop limit with which the first packet of c
// arrived. This system does not tell.
func ArrivalHops(net.Conn) (hops int, known bool) { return 0, false }

func synIsMissing(net.Conn) bool { return false }

func kernelDrops(syscall.Conn) uint64 { return 0 }
