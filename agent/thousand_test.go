package agent_test

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/tasks"
)

// Many agents in one process see each other, and a task to all of them brings as
// many results. SCAGENT_TEST_LONG has a thousand, in a minute or two of real time.
func TestAThousandAgents(t *testing.T) {
	n := 100
	if os.Getenv("SCAGENT_TEST_LONG") != "" {
		n = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, n)
		start := time.Now()
		c.WaitMembers(t)
		d := time.Since(start)
		t.Logf("all see all %v after the last start", d)
		if d > 10*time.Second {
			t.Errorf("all see all %v after the last start, want at most 10s", d)
		}
		for range 2 {
			start = time.Now()
			run, err := c.Agent(1).Submit(t.Context(), submission(tasks.Task{Kind: tasks.Function, Name: "scagent.noop"}, tasks.All()))
			if err != nil {
				t.Fatal(err)
			}
			done := 0
			for r := range run.Results(t.Context()) {
				if r.State == tasks.StateDone {
					done++
				}
			}
			t.Logf("%d results after %v", done, time.Since(start))
			if done != n {
				t.Errorf("done on %d, want %d", done, n)
			}
		}
	})
}
