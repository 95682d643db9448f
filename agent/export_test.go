package agent

import (
	"context"
	"net"
	"net/http"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/blob"
)

// BlobStats counts the contents that are here.
func (a *Agent) BlobStats() blob.Stats { return a.blobs.Stats() }

// Benching reports whether a bench is under way.
func (a *Agent) Benching() bool { return a.benching.Load() }

// OnMessage hands the agent a message of gossip, as its pool does, and reports
// whether it meant something.
func (a *Agent) OnMessage(msg []byte) bool {
	before := a.badMessages.Load()
	a.onMessage("", msg)
	return a.badMessages.Load() == before
}

// MessageAnnounce begins an announcement of a run.
const MessageAnnounce = messageAnnounce

// AnswerHook has a request answered by a hook.
func (a *Agent) AnswerHook(ctx context.Context, e api.Event) (bus.Data, bool, error) {
	return a.answerHook(ctx, e)
}

// OwnersOf returns the members that may have submitted a task.
var OwnersOf = ownersOf

// AskOwners asks nodes about a task at the other ends of the connections that dial
// opens.
func (a *Agent) AskOwners(w http.ResponseWriter, r *http.Request, owners []string, id tasks.ID, dial func(node string) (net.Conn, error)) error {
	a.owners.DialContext = func(_ context.Context, _, addr string) (net.Conn, error) {
		node, _, _ := net.SplitHostPort(addr)
		return dial(node)
	}
	return a.askOwners(w, r, owners, id)
}

// EventPeers are the ids of the members that a target of an event means.
func (a *Agent) EventPeers(to tasks.Target, event string) (ids []string, err error) {
	peers, err := a.eventPeers(to, event)
	for _, p := range peers {
		ids = append(ids, p.ID)
	}
	return ids, err
}

// Wants is that of the feed.
func (a *Agent) Wants(event string) bool { return a.feed.Wants(event) }
