package agent

import "github.com/scagent/scagent/tasks/blob"

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
