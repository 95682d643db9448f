package port

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// neighboursAge is how long what was read of the interfaces is good.
	neighboursAge = 5 * time.Second
	// neighboursRetry is how long at least between two reads because an address
	// was not known: a network may just have come up.
	neighboursRetry = time.Second
)

// Neighbours knows which addresses are on a network of this host:
//
//   - loopback, and the host's own addresses
//   - those in a private (RFC 1918, RFC 4193) or link-local prefix of an interface
//     that is up and not IsVirtual; if an interface was named, of that one alone
//
// A link-local address with the name of an interface must be on one of those:
// every link has the same prefix. A prefix of one address says nothing about
// others. The interfaces are read again when they may have changed. Its methods
// may be called from any goroutine.
type Neighbours struct {
	iface string                  // constant; empty: all that are not virtual
	read  func() ([]iface, error) // constant
	state atomic.Pointer[neighbourhood]
}

// neighbourhood is what was read at a time. It is constant.
type neighbourhood struct {
	at       time.Time
	own      []netip.Addr
	prefixes []netip.Prefix
	links    []string // names of the interfaces that prefixes are of
}

// NewNeighbours returns the neighbours on the interface of the name, or on all.
func NewNeighbours(iface string) *Neighbours {
	return &Neighbours{iface: iface, read: upInterfaces}
}

// Has reports whether a is on a network of this host.
func (n *Neighbours) Has(a netip.Addr) bool {
	a = a.Unmap()
	if a.IsLoopback() {
		return true
	}
	now := time.Now()
	st := n.state.Load()
	if st == nil || now.Sub(st.at) > neighboursAge {
		st = n.refresh(now)
	}
	if st.has(a) {
		return true
	}
	if now.Sub(st.at) > neighboursRetry {
		st = n.refresh(now)
	}
	return st.has(a)
}

// Check is Has as an error of one line that says what to do.
func (n *Neighbours) Check(a netip.Addr) error {
	if n.Has(a) {
		return nil
	}
	return n.refusal(a)
}

func (n *Neighbours) refusal(a netip.Addr) error {
	return fmt.Errorf("%s is not on a private network of this host; to go further, give all nodes one secret (scagent secret new), or insist with -insecure", a)
}

// CheckOwn says what keeps neighbours from reaching this host under a, one of its
// own addresses: it must be loopback, or on one of the networks.
func (n *Neighbours) CheckOwn(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	n.Has(a) // reads
	if a.IsLoopback() || n.state.Load().attached(a) {
		return nil
	}
	return n.refusal(a)
}

// Networks returns the prefixes, for people, without that of IPv6 link-local
// addresses, which every link has; empty: this host alone.
func (n *Neighbours) Networks() string {
	n.Has(netip.IPv4Unspecified()) // reads
	var text []string
	for _, p := range n.state.Load().prefixes {
		if !p.Addr().Is6() || !p.Addr().IsLinkLocalUnicast() {
			text = append(text, p.String())
		}
	}
	return strings.Join(text, ", ")
}

func (h *neighbourhood) has(a netip.Addr) bool {
	if a.Zone() != "" && !slices.Contains(h.links, a.Zone()) {
		return false
	}
	a = a.WithZone("")
	return slices.Contains(h.own, a) || h.attached(a)
}

func (h *neighbourhood) attached(a netip.Addr) bool {
	return (a.IsPrivate() || a.IsLinkLocalUnicast()) && slices.ContainsFunc(h.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// refresh reads the interfaces. What cannot be read changes nothing.
func (n *Neighbours) refresh(now time.Time) *neighbourhood {
	h := &neighbourhood{at: now}
	up, err := n.read()
	if old := n.state.Load(); err != nil && old != nil {
		h.own, h.prefixes, h.links = old.own, old.prefixes, old.links
	}
	for _, i := range up {
		h.own = append(h.own, i.addrs...)
		if n.iface != "" && i.name != n.iface || n.iface == "" && IsVirtual(i.name) {
			continue
		}
		h.links = append(h.links, i.name)
		for _, p := range i.prefixes {
			if a := p.Addr(); (a.IsPrivate() || a.IsLinkLocalUnicast()) && !p.IsSingleIP() && !slices.Contains(h.prefixes, p.Masked()) {
				h.prefixes = append(h.prefixes, p.Masked())
			}
		}
	}
	n.state.Store(h)
	return h
}
