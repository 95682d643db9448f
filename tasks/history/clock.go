package history

import "time"

// clock is how a host's monotonic clock is read: it showed mono when time.Now said
// at. Reading it anew for each event would be a system call each. The zero clock is
// the wall's.
type clock struct {
	mono int64
	at   time.Time
}

func (c *clock) now() (mono, wall int64) {
	t := time.Now()
	wall = t.UnixNano()
	if c.at.IsZero() {
		return wall, wall
	}
	return c.mono + int64(t.Sub(c.at)), wall
}
