package agent

import (
	"context"
	"sync/atomic"
	"time"
)

// busyInterval is how often members are told how many slots are in use, at most:
// small tasks change that many thousand times a second.
const busyInterval = 100 * time.Millisecond

// busy keeps the number of slots in use, to be told now and then.
type busy struct {
	slots   atomic.Int64
	changed chan struct{} // has a token when slots has changed
}

func newBusy() *busy { return &busy{changed: make(chan struct{}, 1)} }

// set does not block.
func (b *busy) set(slots int) {
	b.slots.Store(int64(slots))
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// run calls tell until ctx ends, at once when slots has changed after a while.
func (b *busy) run(ctx context.Context, tell func(slots int)) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-b.changed:
		case <-ctx.Done():
			return
		}
		tell(int(b.slots.Load()))
		t.Reset(busyInterval)
	}
}
