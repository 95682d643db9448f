package agent_test

import (
	"slices"
	"testing"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/test/bounds"
)

// FuzzMessage hands an agent messages of gossip. None makes it panic or dial
// anybody but a member, and what is no announcement is counted.
func FuzzMessage(f *testing.F) {
	c := agenttest.New(f, 1)
	a := c.Agent(1)
	f.Add([]byte{})
	f.Add(make([]byte, 33))
	f.Add(append([]byte{agent.MessageAnnounce}, make([]byte, 32)...))
	f.Add(append([]byte{agent.MessageAnnounce}, make([]byte, 32+5*180)...))
	f.Add(append([]byte{agent.MessageAnnounce}, make([]byte, 32+4)...))
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounds.Input(t, b)
		defer bounds.Check(t)()
		meant := a.OnMessage(slices.Clone(b))
		if want := len(b) >= 33 && b[0] == agent.MessageAnnounce && (len(b)-33)%5 == 0; meant != want {
			t.Errorf("OnMessage(%x) means something: %v, want %v", b, meant, want)
		}
		if !a.Ready() {
			t.Error("the agent is not up any more")
		}
	})
}
