//go:build !linux && !darwin

package beacon

import "net"

// listenGroup returns a socket that can only send. One that hears the group
// would have to be bound to the wildcard address, and would steal datagrams from
// the gossip's.
func listenGroup(k socketKey, _ *net.UDPAddr) (net.PacketConn, error) {
	return net.ListenUDP("udp", &net.UDPAddr{IP: k.src.AsSlice(), Zone: zoneOf(k)})
}

func zoneOf(k socketKey) string {
	if k.src.Is6() {
		return k.name
	}
	return ""
}
