package api_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
)

func TestParseTCP(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080", "127.0.0.1:0": "127.0.0.1:0", "localhost:1": "127.0.0.1:1", "LocalHost:1": "127.0.0.1:1",
		"[::1]:65535": "[::1]:65535", "127.1.2.3:1": "127.1.2.3:1", "[::ffff:127.0.0.1]:1": "127.0.0.1:1",
	} {
		if got, err := api.ParseTCP(addr); err != nil || got.String() != want {
			t.Errorf("ParseTCP(%q) = %v, %v; want %s", addr, got, err, want)
		}
	}
	for _, addr := range []string{"0.0.0.0:80", ":80", "[::]:80", "10.0.0.1:80", "[fe80::1]:80", "example.com:80", "localhost.:80", "localhost.example:80", "127.1:80", "0x7f.0.0.1:80",
		"2130706433:80", "[::1%lo]:80", "[::ffff:10.0.0.1]:80", "128.0.0.1:80", "127.0.0.1.:80", "127.0.0.01:80", " 127.0.0.1:80", "unix:80", "*:80"} {
		if got, err := api.ParseTCP(addr); !errors.Is(err, api.ErrNotLoopback) {
			t.Errorf("ParseTCP(%q) = %v, %v; want that it is not this host's alone", addr, got, err)
		}
	}
	for _, addr := range []string{"", "8080", "127.0.0.1", "::1:80", "[::1]", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:http", "127.0.0.1:80:80", "http://127.0.0.1:80", "127.0.0.1:80/", "localhost"} {
		if got, err := api.ParseTCP(addr); err == nil || errors.Is(err, api.ErrNotLoopback) || !strings.Contains(err.Error(), "127.0.0.1:PORT") {
			t.Errorf("ParseTCP(%q) = %v, %v; want what an address looks like", addr, got, err)
		}
	}
}

func TestHosts(t *testing.T) {
	for bound, want := range map[string][]string{
		"127.0.0.1:8080": {"127.0.0.1:8080", "localhost:8080", "[::1]:8080"},
		"[::1]:8080":     {"127.0.0.1:8080", "localhost:8080", "[::1]:8080"},
		"127.0.0.2:8080": {"127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.0.0.2:8080"},
		"127.0.0.1:80":   {"127.0.0.1:80", "localhost:80", "[::1]:80", "127.0.0.1", "localhost", "[::1]"},
	} {
		if got := api.Hosts(netip.MustParseAddrPort(bound)); !slices.Equal(got, want) {
			t.Errorf("Hosts(%s) = %q, want %q", bound, got, want)
		}
	}
}

func listenTCP(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := api.ListenTCP(t.Context(), netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListenTCP(t *testing.T) {
	l := listenTCP(t, "127.0.0.1:0")
	addr := netip.MustParseAddrPort(l.Addr().String())
	if !addr.Addr().IsLoopback() || addr.Port() == 0 {
		t.Errorf("port 0 is bound to %s, want a free port of 127.0.0.1", addr)
	}
	if _, err := api.ListenTCP(t.Context(), addr); err == nil || !strings.Contains(err.Error(), addr.String()+" is taken; give another port") {
		t.Errorf("ListenTCP of a taken port = %v; want that it is taken, and what to do", err)
	}
	if probe, err := net.Listen("tcp6", "[::1]:0"); err == nil { // this host has it
		probe.Close()
		if got := listenTCP(t, "[::1]:0").Addr().String(); !strings.HasPrefix(got, "[::1]:") {
			t.Errorf("[::1]:0 is bound to %s", got)
		}
	}
}
