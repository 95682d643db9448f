package memnet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Network is a network with all its machines. Its methods may be called from
// any goroutine. They take IP addresses as text and panic on anything else.
type Network struct {
	mu       sync.Mutex // guards all below, and what machines and hosts say it does
	machines map[netip.Addr]*machine
	cuts     map[direction]bool
	delay    time.Duration
	loss     float64
	random   *rand.Rand
	changed  chan struct{} // closed and replaced when a dial that got no answer may get one
}

// machine is what has an IP address. Its fields are guarded by Network.mu.
type machine struct {
	addr     netip.Addr
	hosts    map[*Host]bool // the processes, also those that vanished with it
	current  *Host          // what Network.Host returns; nil if there is none
	vanished bool
	tcp      map[uint16]*listener
	udp      map[uint16]*packetConn
	lastFree uint16 // the port that was last given out for port 0
}

type direction struct{ from, to netip.Addr }

// New returns a network without machines, delay or loss.
func New() *Network {
	return &Network{
		machines: make(map[netip.Addr]*machine),
		cuts:     make(map[direction]bool),
		changed:  make(chan struct{}),
	}
}

// Host returns the process on the machine with address ip, which it makes if
// there is none. After Kill or Vanish that is a new process: the program was
// started again, and a machine that had vanished is back, as after a reboot.
func (n *Network) Host(ip string) *Host {
	addr := mustParse(ip)
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.machines[addr]
	if m == nil {
		m = &machine{
			addr:     addr,
			hosts:    make(map[*Host]bool),
			tcp:      make(map[uint16]*listener),
			udp:      make(map[uint16]*packetConn),
			lastFree: firstFreePort - 1,
		}
		n.machines[addr] = m
	}
	if m.vanished {
		for h := range m.hosts {
			h.killLocked()
		}
		m.vanished = false
		n.refreshLocked()
	}
	if m.current == nil {
		m.current = n.newHostLocked(m)
	}
	return m.current
}

func (n *Network) newHostLocked(m *machine) *Host {
	h := &Host{
		network:   n,
		machine:   m,
		conns:     make(map[*Conn]bool),
		listeners: make(map[*listener]bool),
		packets:   make(map[*packetConn]bool),
	}
	m.hosts[h] = true
	return h
}

// Cut silences all that goes between a and b: packets are lost, dials get no
// answer, and what is written to connections waits for Heal without an error.
func (n *Network) Cut(a, b string) {
	n.cut(true, direction{mustParse(a), mustParse(b)}, direction{mustParse(b), mustParse(a)})
}

// CutOneWay silences what goes from one to the other. No connection can be made
// either way, since that needs an answer.
func (n *Network) CutOneWay(from, to string) {
	n.cut(true, direction{mustParse(from), mustParse(to)})
}

// Heal undoes Cut and CutOneWay between a and b, in both directions. Streams go
// on where they were, and dials that still wait get through.
func (n *Network) Heal(a, b string) {
	n.cut(false, direction{mustParse(a), mustParse(b)}, direction{mustParse(b), mustParse(a)})
}

// HealAll undoes every Cut and CutOneWay. Machines that vanished stay away.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	n.refreshLocked()
}

func (n *Network) cut(cut bool, directions ...direction) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range directions {
		if cut {
			n.cuts[d] = true
		} else {
			delete(n.cuts, d)
		}
	}
	n.refreshLocked()
}

// Reset breaks every connection between the two machines: both ends get
// ECONNRESET at once, even through a cut. New ones can be made.
func (n *Network) Reset(a, b string) {
	from, to := mustParse(a), mustParse(b)
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.machines[from]
	if m == nil {
		return
	}
	for h := range m.hosts {
		for c := range h.conns {
			if c.remote.Addr() == to {
				n.resetLocked(c.stream)
			}
		}
	}
}

// SetDelay makes everything between machines arrive d later than it is sent,
// from now on. Order is kept. Dialing takes two of them.
func (n *Network) SetDelay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = max(0, d)
	n.refreshLocked()
}

// SetLoss makes each packet between machines get lost with probability
// fraction, from 0 to 1. Equal seeds draw equal numbers.
func (n *Network) SetLoss(fraction float64, seed uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = fraction
	n.random = rand.New(rand.NewPCG(seed, 0))
}

// blockedLocked reports whether nothing gets from one machine to the other.
func (n *Network) blockedLocked(from, to *machine) bool {
	return from != to && (from.vanished || to.vanished || n.cuts[direction{from.addr, to.addr}])
}

// delayLocked is how long something takes from one machine to the other.
func (n *Network) delayLocked(from, to *machine) time.Duration {
	if from == to {
		return 0
	}
	return n.delay
}

// refreshLocked applies what has changed to streams and to waiting dials.
func (n *Network) refreshLocked() {
	seen := make(map[*stream]bool)
	for _, m := range n.machines {
		for h := range m.hosts {
			for c := range h.conns {
				if !seen[c.stream] {
					seen[c.stream] = true
					n.refreshStreamLocked(c.stream)
				}
			}
		}
	}
	n.wakeLocked()
}

// wakeLocked makes dials that wait look again.
func (n *Network) wakeLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func mustParse(ip string) netip.Addr {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		panic(fmt.Sprintf("memnet: %q is not an IP address", ip))
	}
	return addr.Unmap()
}
