package port

import (
	"fmt"
	"sync/atomic"
	"syscall"
)

// Reason is why a connection was closed rather than handed on.
type Reason int

// The reasons, in the order in which a connection meets them.
const (
	RefusedOffLink   Reason = iota // Config.Allow did not allow its source
	RefusedStrangers               // Config.MaxStrangers were waiting, and its place was given to another
	RefusedSource                  // Config.MaxStrangersPerSource of its source were waiting
	RefusedSilent                  // no first byte in Config.FirstByteTimeout
	RefusedGone                    // ended or reset before the first byte
	RefusedTLS                     // TLS, for which there is no server
	RefusedHandshake               // TLS without what Config.TLS demands, or not in time
	RefusedPlain                   // no TLS, which Config.TLS demands
	RefusedHops                    // it came through a router, see Config.DirectOnly
	RefusedBacklog                 // Config.Backlog of its sort were not accepted yet
	RefusedClosed                  // the listener of its sort, or the Port, was closed
	reasons          = iota
)

// String returns the reason as one word, fit for a metric's label.
func (r Reason) String() string {
	names := [reasons]string{"off_link", "strangers", "source", "silent", "gone", "tls", "handshake", "plain", "hops", "backlog", "closed"}
	if r < 0 || r >= reasons {
		return fmt.Sprintf("reason(%d)", int(r))
	}
	return names[r]
}

// isLimit reports whether an operator may want to hear of it.
func (r Reason) isLimit() bool {
	return r == RefusedStrangers || r == RefusedSource || r == RefusedBacklog
}

// Stats are counts since Open.
type Stats struct {
	Sorted         map[Sort]uint64   // connections by what they turned out to be, refused afterwards or not; those within TLS count as both
	Refused        map[Reason]uint64 // connections closed by us
	PacketsRefused map[Reason]uint64 // packets dropped by us: RefusedOffLink and RefusedHops
	Strangers      int               // connections waiting for their first byte, or shaking hands, now
	AcceptErrors   uint64            // failed accepts; each is tried again
	PacketsDropped uint64            // packets lost because Packets was not read in time; linux and memnet
}

// counts are what Stats is made of.
type counts struct {
	sorted       [sorts]atomic.Uint64
	refused      [reasons]atomic.Uint64
	packets      packetCounts
	acceptErrors atomic.Uint64
}

// Stats returns the counts as of now; every Sort and Reason is in its map.
func (p *Port) Stats() Stats {
	s := Stats{
		Sorted:         make(map[Sort]uint64, sorts),
		Refused:        make(map[Reason]uint64, reasons),
		Strangers:      p.strangers.Len(),
		AcceptErrors:   p.counts.acceptErrors.Load(),
		PacketsDropped: p.packetsDropped(),
	}
	for i := range p.counts.sorted {
		s.Sorted[Sort(i)] = p.counts.sorted[i].Load()
	}
	for i := range p.counts.refused {
		s.Refused[Reason(i)] = p.counts.refused[i].Load()
	}
	s.PacketsRefused = map[Reason]uint64{}
	for _, r := range []Reason{RefusedOffLink, RefusedHops} {
		s.PacketsRefused[r] = p.counts.packets[r].Load()
	}
	return s
}

func (p *Port) packetsDropped() uint64 {
	switch c := p.packets.(type) {
	case interface{ Dropped() uint64 }: // memnet's
		return c.Dropped()
	case syscall.Conn:
		return kernelDrops(c)
	}
	return 0
}
