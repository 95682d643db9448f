package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

// An announcement asks members to dial a master, for a run that goes to many. It
// travels as a gossip user message:
//
//	offset  size  field
//	0       1     type, messageAnnounce
//	1       16    run
//	17      16    first 16 bytes of the master's node id, decoded from base32
//	33      5·n   first 5 bytes of each node's id that is meant; none: every worker
const (
	messageAnnounce = 1

	announceHead    = 33
	announceNodes   = 180 // in one message, which must stay below 1,000 bytes
	announceDirect  = 64  // up to so many nodes each get a packet of their own
	announceDials   = 16  // dials at once for announcements
	announceTries   = 3   // of each
	announceAgain   = 20 * time.Millisecond
	announceTimeout = 5 * time.Second
	announceAge     = 2 * time.Second // how long after its start others know an agent
)

// nodeBytes decodes the first n bytes of a node id.
func nodeBytes(id string, n int) []byte {
	b, err := idText.DecodeString(id[:min(len(id), (n*8+4)/5)])
	if err != nil || len(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// announce tells nodes that a run waits for them here. An agent that has only
// just joined does not: others would not know yet whom to dial.
func (a *Agent) announce(run tasks.ID, nodes []string) bool {
	if time.Since(a.started) < announceAge {
		return false
	}
	head := append([]byte{messageAnnounce}, run[:]...)
	head = append(head, nodeBytes(a.id.id, 16)...)
	if len(nodes) <= announceDirect {
		for _, n := range nodes {
			if err := a.pool.Send(n, append(head[:announceHead:announceHead], nodeBytes(n, 5)...)); err != nil {
				a.cfg.Logger.Printf("[DEBUG] agent: announcement not sent: node=%s err=%q", n, err)
			}
		}
		return true
	}
	if len(nodes) > 4*announceNodes {
		nodes = nil // fewer broadcasts are worth more than some dials too many
	}
	for {
		msg := head[:announceHead:announceHead]
		k := min(len(nodes), announceNodes)
		for _, n := range nodes[:k] {
			msg = append(msg, nodeBytes(n, 5)...)
		}
		if err := a.pool.Broadcast(msg); err != nil {
			a.cfg.Logger.Printf("[DEBUG] agent: announcement not sent: err=%q", err)
		}
		if nodes = nodes[k:]; len(nodes) == 0 {
			return true
		}
	}
}

// onMessage handles what comes by gossip. It does not block.
func (a *Agent) onMessage(from string, msg []byte) {
	if len(msg) == 1 && msg[0] == messageRotated && a.keys != nil {
		select {
		case a.rotated <- struct{}{}:
		default:
		}
		return
	}
	if len(msg) > 0 && msg[0] == messageBus {
		a.bus.Hear(from, msg[1:])
		return
	}
	if len(msg) < announceHead || msg[0] != messageAnnounce || (len(msg)-announceHead)%5 != 0 {
		a.badMessages.Add(1)
		return
	}
	if !a.cfg.has(membership.RoleWorker) || !a.announced(msg[announceHead:]) {
		return
	}
	prefix := idText.EncodeToString(msg[17:announceHead])[:25]
	for _, m := range a.pool.Members() {
		if m.ID[:25] != prefix || m.Self || !m.Status.Present() {
			continue
		}
		select {
		case a.dials <- struct{}{}:
		default: // enough of them; the master dials when it has waited
			return
		}
		a.wg.Go(func() {
			defer func() { <-a.dials }()
			ctx, cancel := context.WithTimeout(a.ctx, announceTimeout)
			defer cancel()
			if err := a.dialAnnounced(ctx, m.ID); err != nil {
				a.cfg.Logger.Printf("[DEBUG] agent: announced master not reached: node=%s err=%q", m.ID, err)
			}
		})
		return
	}
}

// dialAnnounced dials a master that has asked for it, and likely many others, of
// which it lets in so many at once: who is turned away tries again.
func (a *Agent) dialAnnounced(ctx context.Context, node string) (err error) {
	for i := range announceTries {
		if i > 0 {
			select {
			case <-time.After(announceAgain/2 + rand.N(announceAgain)):
			case <-ctx.Done():
				return err
			}
		}
		if _, err = a.hub.Connect(ctx, node); err == nil {
			break
		}
	}
	return err
}

// announced says whether a list of node prefixes means this node.
func (a *Agent) announced(list []byte) bool {
	own := string(nodeBytes(a.id.id, 5))
	for i := 0; i < len(list); i += 5 {
		if string(list[i:i+5]) == own {
			return true
		}
	}
	return len(list) == 0
}
