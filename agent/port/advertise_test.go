package port

import (
	"net/netip"
	"strings"
	"testing"
)

// addrs makes the addresses of an interface.
func addrs(text ...string) []netip.Addr {
	var list []netip.Addr
	for _, t := range text {
		list = append(list, netip.MustParseAddr(t))
	}
	return list
}

func TestChooseAddr(t *testing.T) {
	var (
		lo     = iface{name: "lo", addrs: addrs("127.0.0.1", "::1")}
		eth0   = iface{name: "eth0", addrs: addrs("192.168.1.7", "fe80::1", "fd00::7")}
		eth1   = iface{name: "eth1", addrs: addrs("10.1.0.7")}
		public = iface{name: "eth2", addrs: addrs("203.0.113.7", "2001:db8::7")}
		only6  = iface{name: "eth3", addrs: addrs("fe80::3", "fd00::3")}
		zero   = iface{name: "eth4", addrs: addrs("169.254.3.4")}
		empty  = iface{name: "eth5", addrs: nil}
		docker = iface{name: "docker0", addrs: addrs("172.17.0.1")}
		wg     = iface{name: "wg0", addrs: addrs("10.8.0.2")}
		br0    = iface{name: "br0", addrs: addrs("192.168.5.7")}
	)
	for _, c := range []struct {
		name       string
		bound      string
		iface      string
		interfaces []iface
		routes     []route
		want       string // or part of an error
	}{
		{"default route", "0.0.0.0", "", []iface{lo, docker, eth1, eth0},
			[]route{{iface: "eth0", metric: 100}}, "192.168.1.7"},
		{"lowest metric", "0.0.0.0", "", []iface{lo, eth1, eth0},
			[]route{{iface: "eth1", metric: 600}, {iface: "eth0", metric: 100}}, "192.168.1.7"},
		{"first of equal metrics", "0.0.0.0", "", []iface{lo, eth0, eth1},
			[]route{{iface: "eth1"}, {iface: "eth0"}}, "10.1.0.7"},
		{"default route through a VPN", "0.0.0.0", "", []iface{lo, wg, eth1, eth0},
			[]route{{iface: "wg0"}, {iface: "eth0", metric: 100}}, "192.168.1.7"},
		{"default route through a VPN alone", "0.0.0.0", "", []iface{lo, wg, eth1},
			[]route{{iface: "wg0"}}, "10.1.0.7"},
		{"default route through a bridge of one's own", "0.0.0.0", "", []iface{lo, eth1, br0},
			[]route{{iface: "br0"}}, "192.168.5.7"},
		{"default route with a public address", "0.0.0.0", "", []iface{lo, eth1, public},
			[]route{{iface: "eth2"}}, "203.0.113.7"},
		{"default route of an interface that is down", "0.0.0.0", "", []iface{lo, eth1},
			[]route{{iface: "gone"}}, "10.1.0.7"},
		{"default route without IPv4", "0.0.0.0", "", []iface{lo, only6, eth1},
			[]route{{iface: "eth3", ipv6: true}}, "10.1.0.7"},
		{"both families", "::", "", []iface{lo, only6, eth1},
			[]route{{iface: "eth3", ipv6: true}, {iface: "eth1", metric: 900}}, "10.1.0.7"},
		{"IPv6 default route alone", "::", "", []iface{lo, only6, eth1},
			[]route{{iface: "eth3", ipv6: true}}, "fd00::3"},
		{"no default route", "0.0.0.0", "", []iface{lo, docker, wg, public, eth1, eth0}, nil, "10.1.0.7"},
		{"no private address", "0.0.0.0", "", []iface{lo, docker, only6, zero}, nil, "169.254.3.4"},
		{"private IPv6", "::", "", []iface{lo, docker, only6, zero}, nil, "fd00::3"},
		{"nothing but loopback", "0.0.0.0", "", []iface{docker, lo}, nil, "127.0.0.1"},
		{"nothing at all", "0.0.0.0", "", []iface{docker}, nil, "write one with -advertise"},
		{"interface named", "0.0.0.0", "eth1", []iface{lo, eth0, eth1}, []route{{iface: "eth0"}}, "10.1.0.7"},
		{"VPN named", "0.0.0.0", "wg0", []iface{lo, eth0, wg}, []route{{iface: "eth0"}}, "10.8.0.2"},
		{"loopback named", "0.0.0.0", "lo", []iface{lo, eth0}, nil, "127.0.0.1"},
		{"IPv6 interface named", "::", "eth3", []iface{lo, only6}, nil, "fd00::3"},
		{"IPv6 interface named for IPv4", "0.0.0.0", "eth3", []iface{lo, only6}, nil, "no address that fits"},
		{"interface without address named", "::", "eth5", []iface{lo, empty}, nil, "no address that fits"},
		{"unknown interface named", "0.0.0.0", "eth9", []iface{lo, eth0}, nil,
			`interface "eth9" is not up or does not exist; up are: lo, eth0`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := chooseAddr(netip.MustParseAddr(c.bound), c.iface, c.interfaces, c.routes)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("chooseAddr = %v, want %s", err, c.want)
				}
			} else if got.String() != c.want {
				t.Errorf("chooseAddr = %s, want %s", got, c.want)
			}
		})
	}
}

func TestAdvertiseAddrOfThisMachine(t *testing.T) {
	for _, bound := range []string{"127.0.0.1", "192.0.2.9", "::1"} {
		if got, err := AdvertiseAddr(netip.MustParseAddr(bound), "no such interface"); err != nil || got.String() != bound {
			t.Errorf("AdvertiseAddr(%s) = %s, %v; want what is bound", bound, got, err)
		}
	}
	for _, bound := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified(), {}} {
		got, err := AdvertiseAddr(bound, "")
		if err != nil || got.IsUnspecified() || (got.Is6() && !bound.Is6()) {
			t.Errorf("AdvertiseAddr(%s) = %s, %v; want an address of this machine", bound, got, err)
		}
	}
	if got, err := AdvertiseAddr(netip.IPv4Unspecified(), "no such interface"); err == nil {
		t.Errorf("AdvertiseAddr of no such interface = %s, want an error", got)
	}
}

func TestIsVirtual(t *testing.T) {
	for name, want := range map[string]bool{
		"docker0": true, "br-3f2a": true, "virbr0": true, "cni0": true, "veth12": true, "tun0": true,
		"tap0": true, "wg0": true, "tailscale0": true, "utun3": true, "zt5u4": true,
		"eth0": false, "enp3s0": false, "wlan0": false, "wlp2s0": false, "en0": false, "br0": false,
		"vmbr0": false, "bond0": false, "lo": false, "": false,
	} {
		if got := IsVirtual(name); got != want {
			t.Errorf("IsVirtual(%q) = %t, want %t", name, got, want)
		}
	}
}
