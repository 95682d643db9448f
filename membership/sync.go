package membership

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// syncLoop exchanges the whole state with a random member, soon and repeatedly,
// while the pool grows fast: many nodes that join one seed at once, or two
// halves that find each other. Gossip alone carries some dozens of announcements
// a second, and the first to join knows only the seed. A pool that does not grow
// pays nothing for it.
func (p *Pool) syncLoop() {
	synced := 0 // members known before the last exchange
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.grown:
		}
		for quiet := quietSyncs; ; {
			n := p.alive()
			synced = min(synced, n)
			var wait time.Duration
			switch {
			case n-synced >= growth(synced):
				// Larger pools exchange more, and spread it more.
				wait, quiet = min(100*time.Millisecond+time.Duration(n)*time.Millisecond, 3*time.Second), 0
			case n > synced && quiet < quietSyncs:
				wait, quiet = time.Second, 0 // those who came last
			default:
				wait = time.Second
				quiet++
			}
			if quiet > quietSyncs {
				break
			}
			if !p.sleep(jitter(wait)) {
				return
			}
			synced = p.alive()
			p.syncOnce()
		}
	}
}

// quietSyncs is how many exchanges that bring nobody new end a time of growth. Each is
// with another member: one has heard of those who came last.
const quietSyncs = 2

// growth is how many new members are too many to leave to gossip.
func growth(n int) int {
	if n == 0 {
		return 1 // this node just found the pool
	}
	return 2 + n/16
}

// syncOnce exchanges the whole state with one member, chosen at random.
func (p *Pool) syncOnce() {
	addrs := make([]netip.AddrPort, 0, 64)
	for a := range p.presentAddrs() {
		addrs = append(addrs, a)
	}
	if len(addrs) == 0 {
		return
	}
	p.contact(addrs[rand.IntN(len(addrs))]) // counted; the next exchange is as good
}
