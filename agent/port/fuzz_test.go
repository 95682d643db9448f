package port_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/test/bounds"
)

// FuzzParseBind: what is accepted is an address that can be a host's, and is read
// again from its own text.
func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"", "0.0.0.0", ":1", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:-1", "[::]:1", "::1", "[fe80::1%eth0]:1", "abc", "1:2:3", "[]:1", "[10.0.0.1]:1", "224.0.0.1", "255.255.255.255:1",
		"10.0.0.1:+1", "10.0.0.1:0x1", ":", "::", "[::1]", "10.0.0.1:1\n", "[::1%\x1b]:1", "0x7f.1", "010.0.0.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		bounds.Input(t, s)
		defer bounds.Check(t)()
		bind, written, err := port.ParseBind(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("ParseBind(%q): %q is no line", s, err)
			}
			return
		}
		if !bind.IsValid() || bind.Addr().IsMulticast() || bind.Addr().Is4In6() || !written && bind.Port() != port.DefaultNumber {
			t.Errorf("ParseBind(%q) = %v, %v", s, bind, written)
		}
		again, written, err := port.ParseBind(bind.String())
		if err != nil || again != bind || !written {
			t.Errorf("ParseBind(%q) = %v, which is read as %v, %v, %v", s, bind, again, written, err)
		}
		if _, err := netip.ParseAddrPort(bind.String()); err != nil {
			t.Errorf("%q: %v", bind, err)
		}
	})
}
