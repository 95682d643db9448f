package port

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// nic makes an interface of its name and prefixes.
func nic(name string, prefixes ...string) iface {
	i := iface{name: name}
	for _, text := range prefixes {
		p := netip.MustParsePrefix(text)
		i.addrs, i.prefixes = append(i.addrs, p.Addr()), append(i.prefixes, p)
	}
	return i
}

// A mask that is too short does not make neighbours of public addresses.
func TestNeighboursArePrivate(t *testing.T) {
	n := &Neighbours{read: func() ([]iface, error) { return []iface{nic("eth0", "192.168.77.1/8", "10.0.0.1/7")}, nil }}
	for addr, want := range map[string]bool{"192.168.200.1": true, "192.0.2.1": false, "10.9.9.9": true, "11.1.1.1": false} {
		if got := n.Has(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Has(%s) = %t, want %t", addr, got, want)
		}
	}
}

func TestNeighbours(t *testing.T) {
	all := []iface{
		nic("lo", "127.0.0.1/8", "::1/128"),
		nic("eth0", "192.168.1.7/24", "fe80::1/64", "fd00::7/64", "2001:db8::7/64"),
		nic("eth1", "203.0.113.7/24"), nic("eth2", "10.128.0.2/32"), nic("eth3", "100.64.1.1/10"), nic("eth4", "169.254.9.9/16"),
		nic("docker0", "172.17.0.1/16", "fe80::2/64"), nic("wg0", "10.8.0.2/24"),
	}
	for _, c := range []struct {
		iface, addr string
		want        bool
	}{
		{"", "192.168.1.200", true},
		{"", "192.168.2.1", false},
		{"", "::ffff:192.168.1.200", true},
		{"", "fd00::99", true},
		{"", "fe80::99", true},
		{"", "fe80::99%eth0", true},
		{"", "fe80::99%docker0", false}, // every link has these addresses
		{"", "fe80::99%wg0", false},
		{"", "fe80::1%docker0", false},
		{"docker0", "fe80::99%docker0", true},
		{"docker0", "fe80::99%eth0", false},
		{"", "2001:db8::99", false}, // public
		{"", "2001:db8::7", true},   // our own
		{"", "203.0.113.8", false},
		{"", "203.0.113.7", true},
		{"", "10.128.0.3", false}, // a prefix of one address
		{"", "10.128.0.2", true},
		{"", "100.64.1.2", false}, // carriers' and overlays'
		{"", "169.254.1.1", true},
		{"", "172.17.0.5", false}, // containers
		{"", "172.17.0.1", true},
		{"", "10.8.0.9", false}, // a tunnel
		{"", "127.9.9.9", true},
		{"", "::1", true},
		{"", "8.8.8.8", false},
		{"", "0.0.0.0", false},
		{"wg0", "10.8.0.9", true},
		{"wg0", "192.168.1.200", false},
		{"wg0", "127.0.0.1", true},
	} {
		n := &Neighbours{iface: c.iface, read: func() ([]iface, error) { return all, nil }}
		if got := n.Has(netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("with -iface %q Has(%s) = %t, want %t", c.iface, c.addr, got, c.want)
		}
		err := n.Check(netip.MustParseAddr(c.addr))
		if (err == nil) != c.want || err != nil && (!strings.Contains(err.Error(), "scagent secret new") || !strings.Contains(err.Error(), "-insecure") || strings.Contains(err.Error(), "\n")) {
			t.Errorf("Check(%s) = %v; want one line with the remedy", c.addr, err)
		}
	}
	n := &Neighbours{read: func() ([]iface, error) { return all, nil }}
	for addr, want := range map[string]bool{"192.168.1.7": true, "127.0.0.1": true, "203.0.113.7": false, "10.128.0.2": false, "172.17.0.1": false, "8.8.8.8": false} {
		if err := n.CheckOwn(netip.MustParseAddr(addr)); (err == nil) != want {
			t.Errorf("CheckOwn(%s) = %v, want it fit: %t", addr, err, want)
		}
	}
	if got, want := n.Networks(), "192.168.1.0/24, fd00::/64, 169.254.0.0/16"; got != want {
		t.Errorf("Networks() = %q, want %q", got, want)
	}
}

func TestNeighboursFollowTheInterfaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, reads, broken := []iface{nic("eth0", "10.1.0.7/24")}, 0, false
		n := &Neighbours{read: func() ([]iface, error) {
			reads++
			if broken {
				return nil, errors.New("no")
			}
			return now, nil
		}}
		old, new := netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("10.2.0.9")
		if !n.Has(old) || n.Has(new) {
			t.Fatal("before the change the wrong ones are neighbours")
		}
		now = []iface{nic("eth0", "10.2.0.7/24")}
		for range 1000 {
			n.Has(new)
		}
		if reads != 1 {
			t.Errorf("1000 strangers at once had the interfaces read %d times, want 1", reads)
		}
		time.Sleep(neighboursRetry + 1)
		if !n.Has(new) {
			t.Error("a second after an address came its network is not known")
		}
		if n.Has(old) {
			t.Error("the network of an address that went is still known")
		}
		broken = true
		time.Sleep(neighboursAge + 1)
		if !n.Has(new) {
			t.Error("what cannot be read any more was forgotten")
		}
		broken, now = false, nil
		time.Sleep(neighboursAge + 1)
		if n.Has(new) {
			t.Error("five seconds after an interface went down its network is still known")
		}
	})
}
