package fabric

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/scagent/scagent/test/hosts"
	"golang.org/x/sys/unix"
)

// OpenTAP makes a TAP device in the network namespace of the calling thread. It
// goes when the file is closed.
func OpenTAP(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make TAP device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), "tap "+name), nil
}

// Attach connects a host to the switch: it gets an interface eth0, eth1 and so on
// with an address on a network of 24 bits.
func Attach(s *Switch, name string, h *hosts.Host, addr netip.Addr) error {
	nic := h.NextNIC()
	var dev *os.File
	var err error
	if e := h.Inside(func() { dev, err = OpenTAP(nic) }); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	if err := h.Attach(nic, addr); err != nil {
		dev.Close()
		return err
	}
	s.Add(name, dev)
	return nil
}
