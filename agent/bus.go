package agent

import (
	"context"
	"net/http"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// messageBus is the first byte of a gossip message of the bus; its own format follows.
const messageBus = 3

// newBus joins the bus to the pool, and what comes over it to the feed.
func (a *Agent) newBus() *bus.Bus {
	return bus.New(bus.Config{
		Self:   bus.Peer{ID: a.id.id, Name: a.name, Boot: a.id.boot},
		Gossip: func(msg []byte) error { return a.pool.BroadcastLatest(append([]byte{messageBus}, msg...)) },
		Tell:   func(node string, msg []byte) error { return a.pool.Send(node, append([]byte{messageBus}, msg...)) },
		Client: a.http,
		Peers: func() (peers []bus.Peer) {
			for m := range a.pool.Present() {
				if !m.Self {
					peers = append(peers, peerOf(m))
				}
			}
			return peers
		},
		Peer: func(node string) (bus.Peer, bool) {
			m, ok := a.pool.Member(node)
			return peerOf(&m), ok && m.Status.Present()
		},
		Count:   func() int { return a.present() - 1 },
		While:   a.whilePresent,
		Deliver: a.deliver,
		Answer:  a.answer,
		Logger:  a.cfg.Logger,
	})
}

func peerOf(m *membership.Member) bus.Peer {
	return bus.Peer{ID: m.ID, Name: m.Name, Boot: m.Boot, Known: time.Since(m.Since)}
}

// deliver takes events from the bus, in order. It does not block.
func (a *Agent) deliver(e bus.Event) { a.feed.Append(a.apiEvent(e)) }

func (a *Agent) apiEvent(e bus.Event) api.Event {
	ev := api.Event{Event: e.Name, From: a.name, FromID: e.From, Lamport: e.Lamport, Request: e.Request, Missed: e.Missed}
	if e.From != a.id.id {
		m, _ := a.pool.Member(e.From) // whose name is empty when it has just gone
		ev.From = m.Name
	}
	if e.Missed > 0 {
		ev.Event = api.EventMissed
	}
	if e.Data.Len() > 0 {
		ev.Data = &e.Data
	}
	return ev
}

// answer has a request answered, by the program that has this agent in it or else by a hook.
func (a *Agent) answer(ctx context.Context, e bus.Event) (bus.Data, error) {
	ev := a.apiEvent(e)
	ev.Time = api.Time{Time: time.Now()}
	if f := a.answererOf(e.Name); f != nil {
		return a.call(ctx, f, ev)
	}
	d, answered, err := a.answerHook(ctx, ev)
	if !answered && err == nil {
		err = bus.ErrNoAnswer
	}
	return d, err
}

// sender is the node that a certificate names; empty where there are none.
func (a *Agent) sender(r *http.Request) string {
	if a.keys == nil {
		return ""
	}
	p, err := a.keys.PeerOfTLS(r.TLS)
	if err != nil {
		return "" // the route has refused it already
	}
	return p.Node
}

// taskReceived tells who asks for it of an attempt that starts here. It does not block.
func (a *Agent) taskReceived(master string, l *wire.Link, k wire.Key, run tasks.ID, kind tasks.Kind) {
	if !a.feed.Wants(api.EventReceived) {
		return
	}
	m, _ := a.pool.Member(master)
	if m.Name == "" && l != nil {
		m.Name = l.Peer().Name // gossip has not told of it yet
	}
	st := api.BriefOf(&tasks.Result{ID: k.Task, Run: run, Worker: a.name, Kind: kind, State: tasks.StateRunning, Attempt: k.N})
	a.feed.Append(api.Event{Event: api.EventReceived, Task: &st, From: m.Name, FromID: master})
}
