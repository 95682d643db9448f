package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/net/netutil"
)

// maxConns is how many connections of clients over TCP there can be, where every
// user of the host can make some. More wait until others end, and those without
// the token end soon.
const maxConns = 256

// ErrNotLoopback says that an address is not one of this host alone.
var ErrNotLoopback = errors.New("it is not a loopback address")

// ParseTCP reads an address for the API over TCP. localhost is 127.0.0.1 without
// being looked up: the token goes to who is there.
func ParseTCP(addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil {
		return netip.AddrPort{}, errors.New("want 127.0.0.1:PORT, [::1]:PORT or localhost:PORT")
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if ip = ip.Unmap(); err != nil || !ip.IsLoopback() || ip.Zone() != "" {
		return netip.AddrPort{}, ErrNotLoopback
	}
	return netip.AddrPortFrom(ip, uint16(n)), nil
}

// ListenTCP opens the port of the API over TCP. Port 0 is any free one.
func ListenTCP(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, network, addr.String())
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken; give another port, or 0 for any free one", addr)
	}
	if err != nil {
		return nil, err
	}
	return netutil.LimitListener(l, maxConns), nil
}

// Hosts are the values of the Host header for the API at a bound address, see
// Options.Hosts.
func Hosts(bound netip.AddrPort) []string {
	port := strconv.Itoa(int(bound.Port()))
	hosts := []string{"127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port}
	if own := bound.String(); !slices.Contains(hosts, own) {
		hosts = append(hosts, own)
	}
	if port == "80" { // which clients leave out
		for _, h := range slices.Clone(hosts) {
			hosts = append(hosts, strings.TrimSuffix(h, ":80"))
		}
	}
	return hosts
}
