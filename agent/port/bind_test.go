package port_test

import (
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/port"
)

func TestParseBind(t *testing.T) {
	for _, c := range []struct {
		text    string
		want    string
		written bool
	}{
		{"", "0.0.0.0:44201", false},
		{"0.0.0.0", "0.0.0.0:44201", false},
		{"192.0.2.7", "192.0.2.7:44201", false},
		{"192.0.2.7:0", "192.0.2.7:0", true},
		{"192.0.2.7:65535", "192.0.2.7:65535", true},
		{":7000", "0.0.0.0:7000", true},
		{"::", "[::]:44201", false},
		{"::1", "[::1]:44201", false},
		{"[::]", "[::]:44201", false},
		{"[::]:7000", "[::]:7000", true},
		{"2001:db8::7", "[2001:db8::7]:44201", false},
		{"[fe80::1%eth0]:7000", "[fe80::1%eth0]:7000", true},
		{"[::ffff:192.0.2.7]:1", "192.0.2.7:1", true},
	} {
		got, written, err := port.ParseBind(c.text)
		if err != nil || got.String() != c.want || written != c.written {
			t.Errorf("ParseBind(%q) = %s, %t, %v; want %s, %t", c.text, got, written, err, c.want, c.written)
		}
	}
}

func TestParseBindRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"192.0.2.7:65536", "not a number from 0 to 65535"},
		{"192.0.2.7:-1", "not a number from 0 to 65535"},
		{"192.0.2.7:", `port "" is not a number`},
		{"192.0.2.7:http", "not a number from 0 to 65535"},
		{"44201", "not an IP address"},
		{"host.example:44201", "not an IP address"},
		{"0x7f.1", "not an IP address"},
		{"192.0.2.7/24", "not an IP address"},
		{" 192.0.2.7", "not an IP address"},
		{"192.0.2.7:1:2", "not an IP address"},
		{"[::1", "brackets belong around"},
		{"[192.0.2.7]:1", "brackets belong around"},
		{"[]:1", "brackets belong around"},
		{"[::1]x", "brackets belong around"},
		{"224.0.0.234:44201", "multicast or broadcast"},
		{"[ff02::1]:44201", "multicast or broadcast"},
		{"255.255.255.255", "multicast or broadcast"},
	} {
		_, _, err := port.ParseBind(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseBind(%q) = %v; want one line with %q", c.text, err, c.want)
		}
	}
}
