package membership

import (
	"context"
	"net/netip"
	"sync"
)

// streamLimiter bounds the streams that others open. When there are too many in
// all, new ones wait in the kernel's queue; one address that has too many is
// refused. Nodes on this host share an address, so it is exempt from that.
type streamLimiter struct {
	slots chan struct{} // a token per stream of others; cap is maxStreams

	mu     sync.Mutex
	from   map[netip.Addr]*streamCount // addresses with streams
	live   map[*stream]struct{}        // all that are open, ours as well
	closed bool
}

type streamCount struct{ open, unread int }

func newStreamLimiter() *streamLimiter {
	return &streamLimiter{
		slots: make(chan struct{}, maxStreams),
		from:  make(map[netip.Addr]*streamCount),
		live:  make(map[*stream]struct{}),
	}
}

func (l *streamLimiter) open() int { return len(l.slots) }

// wait takes a token; false means that ctx ended first.
func (l *streamLimiter) wait(ctx context.Context) bool {
	select {
	case l.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *streamLimiter) release() { <-l.slots }

// enter counts a new stream for its address, unless that has too many.
func (l *streamLimiter) enter(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.from[a]
	if n == nil {
		n = &streamCount{}
		l.from[a] = n
	}
	if !a.IsLoopback() && (n.open >= maxSourceStreams || n.unread >= maxUnreadPerSource) {
		return false
	}
	n.open++
	n.unread++
	return true
}

// started notes that a stream brought its first message, or will never.
func (l *streamLimiter) started(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from[a].unread--
}

// leave gives a stream's place back. started was called before.
func (l *streamLimiter) leave(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.from[a]; n.open > 1 {
		n.open--
	} else {
		delete(l.from, a)
	}
	<-l.slots
}

// track remembers an open stream for closeAll, and reports whether that has not
// happened yet.
func (l *streamLimiter) track(s *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.live[s] = struct{}{}
	}
	return !l.closed
}

func (l *streamLimiter) forget(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, s)
}

// closeAll closes every stream, and those that come later.
func (l *streamLimiter) closeAll() {
	l.mu.Lock()
	l.closed = true
	all := make([]*stream, 0, len(l.live))
	for s := range l.live {
		all = append(all, s)
	}
	l.mu.Unlock()
	for _, s := range all {
		s.Close()
	}
}
