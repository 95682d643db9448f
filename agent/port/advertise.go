package port

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// AdvertiseAddr returns the address under which others can reach what is bound
// to bound. It is the first of these that there is:
//
//   - bound itself, if it is specific
//   - the address of the interface iface, if one is named; else
//   - that of the interface of the default route (only linux knows it)
//   - a private address of any interface
//   - loopback
//
// Only interfaces that are up count, and unless iface names it, none that
// IsVirtual. IPv4 comes before IPv6, which counts only if bound is [::].
// It reads the system's tables; no packet is sent.
func AdvertiseAddr(bound netip.Addr, iface string) (netip.Addr, error) {
	if bound.IsValid() && !bound.IsUnspecified() {
		return bound.Unmap(), nil
	}
	interfaces, err := upInterfaces()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list network interfaces: %w", err)
	}
	return chooseAddr(bound, iface, interfaces, defaultRoutes())
}

// IsVirtual reports whether an interface of that name is a container's or
// virtual machine's bridge, or a VPN's tunnel: others on the LAN cannot reach
// this host by its address. It goes by the names that such software gives; a
// bridge with a name of a person's choice, as br0, is none.
func IsVirtual(name string) bool {
	return slices.ContainsFunc(virtualPrefixes, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}

var virtualPrefixes = []string{
	// bridges and their ports
	"docker", "br-", "virbr", "cni", "veth", "podman", "lxcbr", "lxdbr", "incusbr",
	"flannel", "cali", "cilium", "kube", "vmnet", "vboxnet", "vnet", "vEthernet",
	// tunnels
	"tun", "tap", "utun", "wg", "tailscale", "zt", "nebula", "ppp", "ipsec",
	// Apple's for its own devices
	"awdl", "llw",
}

// iface is an interface that is up.
type iface struct {
	name     string
	addrs    []netip.Addr   // in the system's order
	prefixes []netip.Prefix // those of addrs
}

// route is a default route.
type route struct {
	iface  string
	ipv6   bool
	metric uint64 // the lowest wins
}

func upInterfaces() ([]iface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var up []iface
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has just gone
		}
		known := iface{name: i.Name}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				known.addrs = append(known.addrs, prefix.Addr().Unmap())
				known.prefixes = append(known.prefixes, prefix)
			}
		}
		up = append(up, known)
	}
	return up, nil
}

// chooseAddr is AdvertiseAddr for given interfaces and routes.
func chooseAddr(bound netip.Addr, name string, interfaces []iface, routes []route) (netip.Addr, error) {
	ipv6 := []bool{false} // the families, best first
	if bound.Is6() {
		ipv6 = append(ipv6, true)
	}
	if name != "" {
		return addrOf(name, interfaces, ipv6)
	}
	interfaces = slices.DeleteFunc(slices.Clone(interfaces), func(i iface) bool { return IsVirtual(i.name) })
	routes = slices.Clone(routes)
	slices.SortStableFunc(routes, func(a, b route) int { return cmp.Compare(a.metric, b.metric) })
	for _, ipv6 := range ipv6 {
		for _, r := range routes {
			i := slices.IndexFunc(interfaces, func(i iface) bool { return i.name == r.iface && r.ipv6 == ipv6 })
			if i < 0 {
				continue
			}
			if a, ok := interfaces[i].first(ipv6, netip.Addr.IsGlobalUnicast); ok {
				return a, nil
			}
		}
	}
	for _, want := range []func(netip.Addr) bool{netip.Addr.IsPrivate, isLinkLocal4, netip.Addr.IsLoopback} {
		for _, ipv6 := range ipv6 {
			for _, i := range interfaces {
				if a, ok := i.first(ipv6, want); ok {
					return a, nil
				}
			}
		}
	}
	return netip.Addr{}, errors.New("no address to announce: no interface is up, not even loopback; write one with -advertise")
}

// addrOf returns the address to announce of the interface that is named.
func addrOf(name string, interfaces []iface, ipv6 []bool) (netip.Addr, error) {
	i := slices.IndexFunc(interfaces, func(i iface) bool { return i.name == name })
	if i < 0 {
		names := make([]string, len(interfaces))
		for i := range interfaces {
			names[i] = interfaces[i].name
		}
		return netip.Addr{}, fmt.Errorf("interface %q is not up or does not exist; up are: %s", name, strings.Join(names, ", "))
	}
	for _, want := range []func(netip.Addr) bool{netip.Addr.IsGlobalUnicast, isLinkLocal4, netip.Addr.IsLoopback} {
		for _, ipv6 := range ipv6 {
			if a, ok := interfaces[i].first(ipv6, want); ok {
				return a, nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %q has no address that fits the one bound to; "+
		"choose another with -iface, or [::] with -bind for IPv6", name)
}

// first returns the first address of a family that is wanted.
func (i iface) first(ipv6 bool, want func(netip.Addr) bool) (netip.Addr, bool) {
	for _, a := range i.addrs {
		if a.Is6() == ipv6 && want(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// isLinkLocal4 leaves out IPv6, whose link-local addresses mean nothing without
// the name of an interface, and that differs from host to host.
func isLinkLocal4(a netip.Addr) bool { return a.Is4() && a.IsLinkLocalUnicast() }
