package beacon

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The groups of announcements.
var (
	Group4 = netip.AddrFrom4([4]byte{224, 0, 0, 234})
	Group6 = netip.MustParseAddr("ff02::5ca6")
)

// Port is the UDP port of announcements.
const Port = 44201

const (
	rescanEvery = 3 * time.Second
	maxSockets  = 64 // a host of containers has hundreds of interfaces; the first ones are its own
	sendTimeout = 100 * time.Millisecond
)

// Multicast returns the machine's network. Its Open does not fail: what cannot
// be used now is tried again every 3 s.
func Multicast() Network { return MulticastPort(Port) }

// MulticastPort returns the machine's network as Multicast does, on another UDP
// port than Port: nodes on different ports do not hear each other.
func MulticastPort(port uint16) Network { return multicast{port: port} }

type multicast struct{ port uint16 }

// Open implements Network.
func (m multicast) Open(o Options) (Conn, error) {
	c := &multicastConn{
		port:    m.port,
		options: o,
		in:      make(chan Packet, 64),
		done:    make(chan struct{}),
		warned:  make(map[string]bool),
		sockets: make(map[socketKey]*socket),
	}
	c.view.Store(&view{})
	c.rescan()
	c.wg.Go(c.follow)
	return c, nil
}

// multicastConn has a socket per interface and family.
type multicastConn struct {
	port    uint16        // constant
	options Options       // constant
	in      chan Packet   // full: readers wait, and the kernel drops
	done    chan struct{} // closed by Close
	close   sync.Once
	wg      sync.WaitGroup // follow, and a reader per socket
	view    atomic.Pointer[view]
	warned  map[string]bool // what was logged; belongs to Open, then to follow

	// mu guards sockets, which only follow changes. It is not held over I/O.
	mu      sync.Mutex
	sockets map[socketKey]*socket
}

// socketKey is what a socket is for; when any of it changes, the socket is
// replaced.
type socketKey struct {
	index int
	name  string
	src   netip.Addr // source of what is sent; without zone
}

// view is what the interfaces say about addresses. It is constant.
type view struct {
	own      map[netip.Addr]bool
	prefixes []netip.Prefix // of the interfaces in use
}

func (v *view) local(ip netip.Addr) bool { return ip.IsLoopback() || v.own[ip.WithZone("")] }

// OnLink implements Conn.
func (c *multicastConn) OnLink(ip netip.Addr) bool {
	v := c.view.Load()
	return v.local(ip) || slices.ContainsFunc(v.prefixes, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// Receive implements Conn.
func (c *multicastConn) Receive() <-chan Packet { return c.in }

// Close implements Conn.
func (c *multicastConn) Close() error {
	c.close.Do(func() { close(c.done) })
	c.wg.Wait()
	return nil
}

// Send implements Conn.
func (c *multicastConn) Send(b []byte) error {
	c.mu.Lock()
	all := slices.Collect(maps.Values(c.sockets))
	c.mu.Unlock()
	sent, err := false, errors.New("no interface can multicast")
	for _, s := range all {
		if e := s.send(b); e == nil {
			sent = true
		} else {
			err = e
		}
	}
	if sent {
		return nil
	}
	return err
}

// follow keeps the sockets in step with the interfaces until Close.
func (c *multicastConn) follow() {
	tick := time.NewTicker(rescanEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			c.use(nil)
			return
		case <-tick.C:
			c.rescan()
		}
	}
}

// rescan looks at the interfaces and opens and closes sockets accordingly.
func (c *multicastConn) rescan() {
	interfaces, err := net.Interfaces()
	if err != nil {
		c.warn("list interfaces", err)
		return
	}
	v := &view{own: make(map[netip.Addr]bool)}
	var want []socketKey
	for _, ifi := range interfaces {
		addrs, err := ifi.Addrs()
		if err != nil || ifi.Flags&net.FlagUp == 0 {
			continue
		}
		prefixes := prefixesOf(addrs)
		for _, p := range prefixes {
			v.own[p.Addr()] = true
		}
		if len(c.options.Interfaces) == 0 || slices.Contains(c.options.Interfaces, ifi.Name) {
			v.prefixes = append(v.prefixes, prefixes...)
			want = append(want, socketsOf(&ifi, prefixes)...)
		}
	}
	c.view.Store(v)
	if !slices.ContainsFunc(want, func(k socketKey) bool { return len(c.options.Interfaces) > 0 || !k.src.IsLoopback() }) {
		c.warn("reach other hosts", errors.New("no network interface can multicast"))
	}
	c.use(want[:min(len(want), maxSockets)])
}

// prefixesOf returns an interface's addresses with their networks.
func prefixesOf(addrs []net.Addr) []netip.Prefix {
	var all []netip.Prefix
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		ones, _ := n.Mask.Size()
		if p := netip.PrefixFrom(ip.Unmap(), ones); ok && ones > 0 && p.IsValid() {
			all = append(all, p)
		}
	}
	return all
}

// socketsOf returns what an interface is used for: its first IPv4 address and
// its first link-local IPv6 address.
func socketsOf(ifi *net.Interface, prefixes []netip.Prefix) []socketKey {
	loopback := ifi.Flags&net.FlagLoopback != 0
	if !loopback && ifi.Flags&net.FlagMulticast == 0 {
		return nil
	}
	var keys []socketKey
	add := func(usable func(netip.Addr) bool) {
		for _, p := range prefixes {
			if usable(p.Addr()) {
				keys = append(keys, socketKey{index: ifi.Index, name: ifi.Name, src: p.Addr()})
				return
			}
		}
	}
	add(netip.Addr.Is4)
	if !loopback {
		add(func(ip netip.Addr) bool { return ip.Is6() && ip.IsLinkLocalUnicast() })
	}
	return keys
}

// use closes the sockets that are not wanted or broken and opens those that
// are missing.
func (c *multicastConn) use(want []socketKey) {
	next := make(map[socketKey]*socket, len(want))
	for _, k := range want {
		if s := c.sockets[k]; s != nil && !s.broken.Load() {
			next[k] = s
			continue
		}
		s, err := openSocket(k, c.port)
		if err != nil {
			c.warn("multicast on "+k.name, err)
			continue
		}
		next[k] = s
		c.wg.Go(func() { c.read(s) })
	}
	c.mu.Lock()
	old := c.sockets
	c.sockets = next
	c.mu.Unlock()
	for k, s := range old {
		if next[k] != s {
			s.close()
		}
	}
}

// warn logs, once, what cannot be done.
func (c *multicastConn) warn(what string, err error) {
	text := fmt.Sprintf("[WARN] beacon: cannot %s, will try again every %v: error=%q", what, rescanEvery, err)
	if !c.warned[text] && len(c.warned) < 1000 {
		c.warned[text] = true
		c.options.Logger.Print(text)
	}
}

// read hands on what arrives at s until it is closed.
func (c *multicastConn) read(s *socket) {
	buf := make([]byte, MaxMapBytes+1)
	for {
		n, from, ttl, err := s.receive(buf)
		if err != nil {
			s.broken.Store(true) // or closed by us; if not, the next rescan opens another
			return
		}
		if !from.IsValid() {
			continue
		}
		if !isMap(buf[:n]) {
			n = min(n, MaxBytes+1)
		}
		p := Packet{Data: slices.Clone(buf[:n]), From: from, TTL: ttl, Local: c.view.Load().local(from)}
		select {
		case c.in <- p:
		case <-c.done:
			return
		}
	}
}
