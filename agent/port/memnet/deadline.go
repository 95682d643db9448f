package memnet

import (
	"sync"
	"time"
)

// deadline wakes those who wait on a condition when a time has come. All is
// guarded by cond.L.
type deadline struct {
	cond  *sync.Cond
	at    time.Time // zero: never
	timer *time.Timer
}

// set moves the deadline and wakes the waiting, so that they look again.
func (d *deadline) set(at time.Time) {
	d.stop()
	d.at = at
	if wait := time.Until(at); !at.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			d.cond.L.Lock()
			defer d.cond.L.Unlock()
			d.cond.Broadcast()
		})
	}
	d.cond.Broadcast()
}

// stop frees the timer, when nobody will wait any more.
func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// passed reports whether the time has come.
func (d *deadline) passed() bool {
	return !d.at.IsZero() && !time.Now().Before(d.at)
}
