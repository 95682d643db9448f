package port

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ParseBind reads ADDR or ADDR:PORT: an IPv4 address, or an IPv6 address, which
// needs its brackets only if a port follows. What is left out has its default:
// "" is 0.0.0.0:44201 and ":7000" is 0.0.0.0:7000. Port 0 asks for any free one.
// "[::]" takes IPv4 as well. The second result says whether a port was written,
// which makes it an error when that port is taken (Config.Strict).
func ParseBind(s string) (bind netip.AddrPort, written bool, err error) {
	host, number := s, uint16(DefaultNumber)
	if i := strings.LastIndexByte(s, ':'); i >= 0 && portFollows(s, i) {
		host, written = s[:i], true
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil {
			return bind, false, fmt.Errorf("bind address %q: port %q is not a number from 0 to 65535", s, s[i+1:])
		}
		number = uint16(n)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host, ok = strings.CutSuffix(inner, "]")
		if !ok || !strings.Contains(host, ":") {
			return bind, false, fmt.Errorf("bind address %q: brackets belong around an IPv6 address, as in [::]:%d", s, DefaultNumber)
		}
	}
	addr := netip.IPv4Unspecified()
	if host != "" {
		if addr, err = netip.ParseAddr(host); err != nil {
			return bind, false, fmt.Errorf("bind address %q: %q is not an IP address; write one of this host's, "+
				"or 0.0.0.0 or [::] for all, and :PORT behind it", s, host)
		}
	}
	addr = addr.Unmap()
	if addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return bind, false, fmt.Errorf("bind address %q: a multicast or broadcast address is no host's own; write one of this host's", s)
	}
	return netip.AddrPortFrom(addr, number), written, nil
}

// portFollows reports whether the last colon of s, at i, is followed by a port
// rather than by the end of an IPv6 address.
func portFollows(s string, i int) bool {
	return strings.IndexByte(s, ':') == i || (i > 0 && s[i-1] == ']')
}

// bindError is why an address cannot be had, in words for whoever chose it.
type bindError struct {
	text string
	err  error
}

func (e *bindError) Error() string { return e.text }
func (e *bindError) Unwrap() error { return e.err }

// explain says what to do about err, which Listen returned for bind.
func explain(bind netip.AddrPort, err error) error {
	what := "address " + bind.String()
	if op := (*net.OpError)(nil); errors.As(err, &op) && strings.HasPrefix(op.Net, "udp") {
		what = "UDP " + what
	}
	switch {
	case isTaken(err):
		return &bindError{what + " is taken by another program; choose another port with -bind, or leave the port out", err}
	case isNotOurs(err):
		return &bindError{what + " is not this host's; choose one of its own with -bind, or 0.0.0.0 for all", err}
	case isDenied(err):
		return &bindError{what + " may not be used by this user; choose a port above 1023 with -bind", err}
	}
	return fmt.Errorf("listen on %s: %w", bind, err)
}
