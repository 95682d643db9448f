package membership

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. Most calls come under memberlist's lock:
// they take Pool.mu for a moment, wait for nothing, and never call back.
type delegate struct{ pool *Pool }

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
	_ memberlist.MergeDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
)

// NodeMeta returns this node's metadata.
func (d *delegate) NodeMeta(int) []byte { return d.pool.local.encodedMeta() }

// NotifyMsg takes a message that another node sent.
func (d *delegate) NotifyMsg(b []byte) { d.pool.mail.receive(b) }

// GetBroadcasts returns messages to send along with gossip.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	msgs := d.pool.mail.queue.GetBroadcasts(overhead, limit)
	for _, m := range msgs {
		limit -= overhead + len(m)
	}
	return append(msgs, d.pool.mail.latest.take(overhead, limit, d.pool.alive()+1)...)
}

// LocalState adds nothing to push/pulls.
func (d *delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState ignores what later versions may add to push/pulls.
func (d *delegate) MergeRemoteState([]byte, bool) {}

// NotifyAlive refuses members that cannot be: an error keeps memberlist from
// taking up what it heard.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	p := d.pool
	if n.Name == p.roster.self { // constant
		return nil // memberlist answers what others say about this node
	}
	if !validGossipName([]byte(n.Name)) {
		return p.refuse(reasonName)
	}
	if _, err := decodeMeta(n.Meta); err != nil {
		p.counters.add(reasonMeta)
		return err
	}
	at := nodeAddr(n)
	if err := p.checkAddr(at); err != nil {
		p.counters.add(reasonAddress)
		return fmt.Errorf("address %v: %w", at, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc := p.roster.find(n.Name); p.roster.names >= MaxMembers-1 && (proc == nil || !proc.alive) {
		return p.refuse(reasonFull)
	}
	return nil
}

func (p *Pool) refuse(r reason) error {
	p.counters.add(r)
	return refusal(r)
}

// checkAddr says what speaks against a member at an address.
func (p *Pool) checkAddr(at netip.AddrPort) error {
	if err := checkHostAddr(at); err != nil {
		return err
	}
	if at.Addr().IsLoopback() && !p.config.Advertise.Addr().IsLoopback() {
		return fmt.Errorf("loopback, but this node is at %v", p.config.Advertise.Addr())
	}
	if p.config.Allow != nil {
		return p.config.Allow(at.Addr())
	}
	return nil
}

// NotifyMerge refuses a pool that is too large to join.
func (d *delegate) NotifyMerge(nodes []*memberlist.Node) error {
	if len(nodes) > maxStreamNodes {
		return d.pool.refuse(reasonFull)
	}
	return nil
}

// NotifyConflict notes that two addresses claim one process.
func (d *delegate) NotifyConflict(_, _ *memberlist.Node) { d.pool.counters.add(reasonConflict) }

// NotifyJoin notes a member that came, or came back.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return // checked in NotifyAlive; this can only be our own
	}
	p := d.pool
	p.mu.Lock()
	p.roster.join(n.Name, nodeAddr(n), m, time.Now())
	p.mu.Unlock()
	signal(p.wake)
	signal(p.grown)
}

// NotifyUpdate notes a member's new metadata.
func (d *delegate) NotifyUpdate(n *memberlist.Node) {
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return
	}
	p := d.pool
	p.mu.Lock()
	p.roster.update(n.Name, nodeAddr(n), m)
	p.mu.Unlock()
	signal(p.wake)
}

// NotifyLeave notes a member that is gone, whatever the reason.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	p := d.pool
	p.mu.Lock()
	p.roster.gone(n.Name, time.Now())
	alone := p.roster.names == 0
	p.mu.Unlock()
	signal(p.wake)
	if alone {
		signal(p.lonely)
	}
}

// rumour notes a suspicion that memberlist has taken up, or a sign of life that
// it is about to believe.
func (p *Pool) rumour(k kind, name, from []byte, incarnation uint32) {
	if k == kindSuspect && string(from) == p.roster.self && p.transport.refusals.take(string(name)) {
		p.bury(string(name), incarnation)
	}
	p.mu.Lock()
	if k == kindSuspect {
		p.roster.suspected(string(name), incarnation)
	} else {
		p.roster.cleared(string(name), incarnation)
	}
	dirty := len(p.roster.dirty) > 0
	p.mu.Unlock()
	if dirty {
		signal(p.wake)
	}
}

func nodeAddr(n *memberlist.Node) netip.AddrPort { return addrPort(n.Addr, uint64(n.Port)) }
