package port

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// LinkMagic is the first byte of a link.
const LinkMagic = 0x5C

// tlsHandshake is the first byte of a TLS connection: the content type of its
// first record (RFC 8446, section 5.1).
const tlsHandshake = 0x16

// Sort is what a connection is.
type Sort int

// The sorts of connections.
const (
	SortGossip Sort = iota // memberlist's
	SortLink               // tasks
	SortHTTP               // plain HTTP
	SortTLS                // any of the above within TLS
	sorts      = iota
)

// String returns the name of the sort.
func (s Sort) String() string {
	names := [sorts]string{"gossip", "link", "http", "tls"}
	if s < 0 || s >= sorts {
		return fmt.Sprintf("sort(%d)", int(s))
	}
	return names[s]
}

// sortOf tells what begins with the byte first.
func sortOf(first byte) Sort {
	switch {
	case first == tlsHandshake:
		return SortTLS
	case 'A' <= first && first <= 'Z':
		return SortHTTP
	case first == LinkMagic:
		return SortLink
	}
	return SortGossip
}

// accept takes connections until the Port is closed.
func (p *Port) accept() {
	const longest = time.Second
	pause := time.Duration(0)
	for {
		c, err := p.tcp.Accept()
		if err == nil {
			pause = 0
			p.admit(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Most likely no file descriptor is free. The connection waits in the
		// system's queue, and trying at once would only burn CPU.
		p.counts.acceptErrors.Add(1)
		if pause == 0 {
			p.config.Logger.Printf("[WARN] port: cannot accept, trying again: err=%q", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), longest)
		select {
		case <-time.After(pause):
		case <-p.closing:
			return
		}
	}
}

// admit lets c in as a stranger if it may come and there is room.
func (p *Port) admit(c net.Conn) {
	if p.config.Allow != nil && !p.config.Allow(addrPortOf(c.RemoteAddr()).Addr()) {
		p.refuse(c, RefusedOffLink)
		return
	}
	if reason, ok := p.strangers.Enter(c); !ok {
		p.refuse(c, reason)
		return
	}
	p.wg.Go(func() { p.sort(c) })
}

// sort waits for the first byte of c, and for the end of the handshake if that
// begins one, and hands c on by what it is.
func (p *Port) sort(c net.Conn) {
	first, sorted, err := byte(0), c, c.SetReadDeadline(time.Now().Add(p.config.FirstByteTimeout))
	if err == nil {
		first, sorted, err = firstByte(c)
	}
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	sort, shaking := sortOf(first), false
	if err == nil {
		p.counts.sorted[sort].Add(1)
		if shaking = sort == SortTLS && p.config.TLS != nil; shaking {
			if sorted, sort, err = p.shake(sorted); err == nil {
				p.counts.sorted[sort].Add(1)
			}
		}
	}
	plain := err == nil && p.config.TLS != nil && !shaking
	if plain {
		p.refusePlain(sorted, sort) // it takes a moment, in which c is a stranger still
	}
	expelled := p.strangers.Leave(c)
	switch {
	case plain:
	case expelled:
		p.refuse(c, RefusedStrangers)
	case shaking && err != nil:
		p.warnStranger(c, err)
		p.refuse(c, RefusedHandshake)
	case isTimeout(err):
		p.refuse(c, RefusedSilent)
	case err != nil:
		p.refuse(c, RefusedGone)
	case p.config.DirectOnly && sort != SortHTTP && !direct(c):
		p.refuse(c, RefusedHops)
	default:
		p.handOn(sort, sorted)
	}
}

// direct reports whether no router lies between, as far as the system tells.
func direct(c net.Conn) bool {
	hops, known := ArrivalHops(c)
	return known && hops == fullHops || !known && !synIsMissing(c)
}

// handOn gives c to the listener of its sort.
func (p *Port) handOn(sort Sort, c net.Conn) {
	var l *listener
	switch sort {
	case SortTLS:
		p.refuse(c, RefusedTLS)
		return
	case SortHTTP:
		l = p.http
	case SortLink:
		l = p.links
	default:
		l = p.gossip
	}
	if reason, ok := l.push(c); !ok {
		p.refuse(c, reason)
	}
}

// refuse closes c at once and counts why.
func (p *Port) refuse(c net.Conn, reason Reason) {
	p.counts.refused[reason].Add(1)
	drop(c)
	if reason.isLimit() {
		p.refusals.Do(func() {
			p.config.Logger.Printf("[WARN] port: too many connections, closed: limit=%s from=%s total=%d",
				reason, c.RemoteAddr(), p.counts.refused[reason].Load())
		})
	}
}

// drop closes c, with a reset where that can be asked for, so that a flood of
// connections leaves nothing behind in the system. It does not wait: TLS would, for
// its goodbye to be written, which who does not read holds up for seconds.
func drop(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if t, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
