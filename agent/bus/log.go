package bus

import (
	"slices"
	"time"
)

// What a node keeps of its events to all, for those that have not got them yet.
const (
	logEvents = 16384
	logBytes  = 16 << 20
	logAge    = 10 * time.Minute
)

// outLog has the last events that this node sent to all, oldest first.
type outLog struct {
	items []item
	bytes int
	last  uint64 // seq of the newest event of all; 0: none
}

// add numbers an event and keeps it.
func (l *outLog) add(it item) uint64 {
	l.last++
	it.seq = l.last
	l.items = append(l.items, it)
	l.bytes += it.size()
	l.trim(it.at)
	return it.seq
}

// trim forgets what is too old or too much, but never the newest event of all while it
// is not too old.
func (l *outLog) trim(now time.Time) {
	n := 0
	for n < len(l.items) && (len(l.items)-n > logEvents || now.Sub(l.items[n].at) > logAge || l.bytes > logBytes && n < len(l.items)-1) {
		l.bytes -= l.items[n].size()
		l.items[n] = item{}
		n++
	}
	l.items = l.items[n:] // append moves what is left when the array is used up
	if len(l.items) == 0 {
		l.items = nil
	}
}

// first is the seq of the oldest event that is kept; the next one's when none is.
func (l *outLog) first() uint64 { return l.last + 1 - uint64(len(l.items)) }

// since returns the kept events with a seq of at least from that were sent within age:
// the first of them, of limit bytes together or one.
func (l *outLog) since(now time.Time, from uint64, age time.Duration, limit int) []item {
	i := 0
	if f := l.first(); from > f {
		i = int(min(from-f, uint64(len(l.items))))
	}
	for i < len(l.items) && now.Sub(l.items[i].at) > age {
		i++
	}
	end := i
	for end < len(l.items) && (end == i || limit >= l.items[end].size()) {
		limit -= l.items[end].size()
		end++
	}
	return slices.Clone(l.items[i:end])
}

// tail returns the newest events that fit into limit bytes together, and how long
// before now the one before them was sent: logAge where none is kept.
func (l *outLog) tail(now time.Time, limit int) (newest []item, quiet time.Duration) {
	i := len(l.items)
	for i > 0 && limit >= l.items[i-1].size() {
		i--
		limit -= l.items[i].size()
	}
	quiet = logAge
	if i > 0 {
		quiet = min(quiet, now.Sub(l.items[i-1].at))
	}
	return slices.Clone(l.items[i:]), quiet
}
