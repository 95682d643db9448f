//go:build linux

package test

import (
	enc "encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawSocket sends UDP packets over IPv4 as whoever it likes.
type rawSocket int

func openRaw() (rawSocket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	return rawSocket(fd), os.NewSyscallError("socket", err)
}

func (s rawSocket) close() { unix.Close(int(s)) }

// send sends one packet with a source and a TTL. What the system has no room for
// is lost, as on a network.
func (s rawSocket) send(from, to netip.AddrPort, ttl int, payload []byte) error {
	const headers = 20 + 8
	b := make([]byte, headers, headers+len(payload))
	b[0], b[8], b[9] = 4<<4|5, byte(ttl), unix.IPPROTO_UDP // the system fills in length, id and checksum
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	enc.BigEndian.PutUint16(b[20:], from.Port())
	enc.BigEndian.PutUint16(b[22:], to.Port())
	enc.BigEndian.PutUint16(b[24:], uint16(8+len(payload))) // and no checksum, which is allowed
	err := unix.Sendto(int(s), append(b, payload...), 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
	return unlessFull(os.NewSyscallError("sendto", err))
}

// unlessFull drops errors that say that there is no room for a packet now, or
// that it, or one before it, was refused somewhere.
func unlessFull(err error) error {
	for _, e := range []error{syscall.ENOBUFS, syscall.EAGAIN, syscall.ECONNREFUSED, syscall.EPERM, syscall.EHOSTUNREACH} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// datagram is a UDP packet that was heard.
type datagram struct {
	from, to netip.AddrPort
	payload  []byte
}

// sniffer hears all that passes the interfaces of the host, whomever it is for.
type sniffer int

func openSniffer(nic string) (sniffer, error) {
	const proto = unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	ifi, err := net.InterfaceByName(nic)
	if err == nil {
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_PROMISC})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return sniffer(fd), nil
}

func (s sniffer) close() { unix.Close(int(s)) }

// next returns the next UDP packet; false: there was none for a while, or it was
// something else, which is noted too.
func (s sniffer) next(a *attacker) (datagram, bool) {
	var b [65536]byte
	n, _, err := unix.Recvfrom(int(s), b[:], 0)
	if err != nil || n < 28 || b[0]>>4 != 4 {
		return datagram{}, false
	}
	a.hear(b[:n])
	if b[9] != unix.IPPROTO_UDP {
		return datagram{}, false
	}
	head := int(b[0]&15) * 4
	if n < head+8 {
		return datagram{}, false
	}
	end := func(ip, port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[ip:ip+4])), enc.BigEndian.Uint16(b[port:]))
	}
	return datagram{end(12, head), end(16, head+2), append([]byte(nil), b[head+8:n]...)}, true
}
