package membership

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// A suspect has some seconds to deny that it is dead, since silence proves nothing.
// When its host says that nobody listens at its address, which memberlist learns
// from its ping over TCP and makes nothing of, that proves it: the process is gone,
// as after kill -9. Then the node that had the suspicion says so at once.

// refusalTTL is how long after a refusal a suspicion may come: memberlist's probe
// interval, which it makes up to 8 times as long while its own host is slow.
const refusalTTL = 10 * time.Second

// refusals are the processes, by name in gossip, at whose addresses nobody listened.
type refusals struct {
	mu sync.Mutex
	at map[string]time.Time
}

// dialled notes the outcome of a dial.
func (r *refusals) dialled(name string, err error) {
	if name == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.at, name)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return
	}
	if r.at == nil {
		r.at = make(map[string]time.Time)
	}
	now := time.Now()
	for name, at := range r.at {
		if now.Sub(at) > refusalTTL {
			delete(r.at, name)
		}
	}
	r.at[name] = now
}

// take reports whether there was one lately, once.
func (r *refusals) take(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.at[name]
	delete(r.at, name)
	return ok && time.Since(at) <= refusalTTL
}

// bury tells memberlist that a process is dead, of which it knows so far only that
// it does not answer. It is called while memberlist sends, and does not wait.
func (p *Pool) bury(name string, incarnation uint32) {
	packet := &memberlist.Packet{
		Buf: p.transport.guard.obituaryOf(name, p.roster.self, incarnation), Timestamp: time.Now(),
		From: net.UDPAddrFromAddrPort(p.config.Advertise),
	}
	p.spawn(func() {
		p.log.Printf("[INFO] membership: nobody listens where a suspect was: node=%s", quote(name))
		select {
		case p.transport.packetCh <- packet:
		case <-p.ctx.Done():
		}
	})
}

// obituaryOf returns the packet by which one process says that another is dead.
func (g *guard) obituaryOf(name, from string, incarnation uint32) []byte {
	b := append(append([]byte{}, g.label...), byte(kindDead), 0x80|3)
	b = append(appendText(b, "Incarnation"), 0xce)
	b = binary.BigEndian.AppendUint32(b, incarnation)
	b = appendText(appendText(b, "Node"), name)
	return appendText(appendText(b, "From"), from)
}

// appendText appends at most 255 bytes as msgpack has them.
func appendText(b []byte, s string) []byte {
	if len(s) < 32 {
		b = append(b, 0xa0|byte(len(s)))
	} else {
		b = append(b, 0xd9, byte(len(s)))
	}
	return append(b, s...)
}
