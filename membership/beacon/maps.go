package beacon

import (
	"math/rand/v2"
	"time"
)

// When maps of services are sent, and how long what they say holds.
const (
	mapEvery     = 3 * time.Second
	mapTTL       = 7500 * time.Millisecond
	mapsAtStart  = 10 * time.Second // so long after the start, whoever is there
	mapsForHeard = time.Minute      // so long after an sc-discovery host was heard
)

// mapTimes says when to send maps and when to look for what has gone. It belongs
// to the goroutine run.
type mapTimes struct {
	speak, expire *time.Timer
	until         time.Time // nobody reads what is sent later
	quiet         bool      // speak does not run
}

func newMapTimes() *mapTimes {
	m := &mapTimes{speak: time.NewTimer(0), expire: time.NewTimer(0), until: time.Now().Add(mapsAtStart)}
	m.expire.Stop()
	return m
}

func (m *mapTimes) stop() {
	m.speak.Stop()
	m.expire.Stop()
}

// next reports whether to send a map now that speak has fired.
func (m *mapTimes) next() bool {
	m.quiet = time.Now().After(m.until)
	if !m.quiet {
		m.speak.Reset(mapEvery)
	}
	return !m.quiet
}

// heard takes note of an sc-discovery host. Not all nodes answer it at once.
func (m *mapTimes) heard() {
	m.until = time.Now().Add(mapsForHeard)
	if m.quiet {
		m.quiet = false
		m.speak.Reset(rand.N(maxAnswer))
	}
}

// follow makes expire fire when the next service goes, if there is one.
func (m *mapTimes) follow(next time.Time) {
	if !next.IsZero() {
		m.expire.Reset(time.Until(next))
	}
}

// sendMap shows this node's services to sc-discovery hosts. A failure is
// counted; send says it.
func (b *Beacon) sendMap(conn Conn) {
	if b.codec.sealed() || b.cfg.Services == nil {
		return
	}
	services := b.cfg.Services()
	if len(services) == 0 {
		return // an empty map means that one only listens
	}
	d, err := encodeMap(b.cfg.Node, services)
	if err == nil {
		err = conn.Send(d)
	}
	if err != nil {
		b.count(&b.stats.SendErrors)
		return
	}
	b.count(&b.stats.MapsSent)
}
