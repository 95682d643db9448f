package membership

import (
	"container/list"
	"net/netip"
	"time"
)

// Packets per second that are let in, and how many may come at once.
const (
	sourceRate  = 300
	sourceBurst = 600
	totalRate   = 10000
	totalBurst  = 10000
	maxSources  = 8192 // remembered; the one silent for longest is forgotten
)

// bucket is a token bucket. The zero value is full at its first use.
type bucket struct {
	tokens float64
	at     time.Time // when tokens was right; zero: never used
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+rate*max(0, now.Sub(b.at).Seconds()))
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// limiter bounds packets, from each source and in total. Sources are addresses
// with ports, so that many nodes behind one address each have a share. Owned by
// the goroutine that reads packets.
type limiter struct {
	total   bucket
	sources map[netip.AddrPort]*list.Element // of *source
	recent  list.List                        // the source heard last in front
}

type source struct {
	addr netip.AddrPort
	bucket
}

func newLimiter() *limiter { return &limiter{sources: make(map[netip.AddrPort]*list.Element)} }

// allow counts a packet and says whether, and if not why, it is over a limit.
func (l *limiter) allow(from netip.AddrPort, now time.Time) error {
	e, ok := l.sources[from]
	if ok {
		l.recent.MoveToFront(e)
	} else {
		if len(l.sources) >= maxSources {
			oldest := l.recent.Back()
			delete(l.sources, l.recent.Remove(oldest).(*source).addr)
		}
		e = l.recent.PushFront(&source{addr: from})
		l.sources[from] = e
	}
	// The source first: what one source has too much costs the others nothing.
	if !e.Value.(*source).take(now, sourceRate, sourceBurst) {
		return refusal(reasonRate)
	}
	if !l.total.take(now, totalRate, totalBurst) {
		return refusal(reasonTotalRate)
	}
	return nil
}
