package tracker

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits on a host.
const (
	MaxDataBytes = 64 << 10 // of Host.Data, as JSON without whitespace
	MaxNameBytes = 256      // of Host.Name and of Host.ID
	maxAddrBytes = 253
	maxSlots     = 1 << 20
)

// The roles of a host.
const (
	Master  = "master"
	Worker  = "worker"
	Tracker = "tracker"
)

// Host is a host as a tracker lists it.
type Host struct {
	Addr      string          `json:"addr"` // IP address without zone, or a host name
	Port      int             `json:"port"`
	Data      json.RawMessage `json:"data"` // any JSON; nil is written as {}
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Roles     []string        `json:"roles,omitempty"`
	Available bool            `json:"available"`
	Slots     int             `json:"slots,omitempty"`
	External  bool            `json:"external,omitempty"` // it announced a service by sc-discovery: no node, not to be joined
	LastSeen  time.Time       `json:"lastSeen,omitzero"`  // when it announced itself, or as the pool has it
}

// Hosts is what a tracker answers. A host with both roles is in both lists.
type Hosts struct {
	Masters []Host `json:"masters"`
	Workers []Host `json:"workers"`
}

// HostPort returns addr:port, brackets around IPv6.
func (h *Host) HostPort() string { return net.JoinHostPort(h.Addr, strconv.Itoa(h.Port)) }

// Validate reports the first field that is out of range. It does not look at
// Data beyond its length; that it is JSON is up to who made it.
func (h *Host) Validate() error {
	if err := checkAddr(h.Addr); err != nil {
		return err
	}
	switch {
	case h.Port < 1 || h.Port > 65535:
		return fmt.Errorf("port is %d; want 1 to 65535", h.Port)
	case len(h.Data) > MaxDataBytes:
		return fmt.Errorf("data takes %d bytes, at most %d", len(h.Data), MaxDataBytes)
	case h.Slots < 0 || h.Slots > maxSlots:
		return fmt.Errorf("slots is %d; want 0 to %d", h.Slots, maxSlots)
	}
	if len(h.Roles) > 3 {
		return fmt.Errorf("roles has %d entries; want at most 3", len(h.Roles))
	}
	for _, r := range h.Roles {
		if r != Master && r != Worker && r != Tracker {
			return fmt.Errorf("role is %.40q; want worker, master or tracker", r)
		}
	}
	if err := checkText("name", h.Name); err != nil {
		return err
	}
	return checkText("id", h.ID)
}

// is reports whether h has the role.
func (h *Host) is(role string) bool { return slices.Contains(h.Roles, role) }

func checkText(field, s string) error {
	if len(s) > MaxNameBytes || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%s is %.40q; want at most %d bytes of UTF-8 without control characters", field, s, MaxNameBytes)
	}
	return nil
}

// checkAddr reports why s is neither an address that can be dialled from other
// hosts nor the name of one.
func checkAddr(s string) error {
	if ip, err := netip.ParseAddr(s); err == nil {
		switch {
		case ip.Zone() != "":
			return fmt.Errorf("addr is %.80q; a zone means nothing to other hosts", s)
		case ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return fmt.Errorf("addr is %q; want the address of one host", s)
		}
		return nil
	}
	if !isHostName(s) {
		return fmt.Errorf("addr is %.80q; want an IP address or a host name", s)
	}
	return nil
}

// isHostName reports whether s is a DNS name, see RFC 1123, section 2.1. Names
// that end in a number are not: some resolvers take 127.1 and 0x7f.1 for an
// address.
func isHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if len(s) > maxAddrBytes {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, c := range []byte(l) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	end := strings.ToLower(labels[len(labels)-1])
	_, err := strconv.ParseUint(strings.TrimPrefix(end, "0x"), 16, 64)
	numeric := strings.Trim(end, "0123456789") == "" || strings.HasPrefix(end, "0x") && (err == nil || end == "0x")
	return !numeric
}
