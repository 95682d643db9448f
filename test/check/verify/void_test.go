package verify

import (
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// A task that runs at most once goes to a second worker when the first could not start
// it, and said so.
func TestWhatCouldNotBeStartedMayStartElsewhere(t *testing.T) {
	id := tasks.ID{1}
	for _, why := range []string{"busy", "internal"} {
		m := &material{}
		add := func(node string, e history.Event) {
			e.Node, e.Boot = node, "b"
			e.Mono = int64(len(m.events)+1) * 1e6
			e.Wall = e.Mono
			m.events = append(m.events, e)
		}
		for _, n := range []string{"m", "w1", "w2"} {
			add(n, history.Event{Name: history.Booted, Slots: 1, Host: "host"})
		}
		add("m", history.Event{Name: history.Submitted, Task: id, Kind: tasks.Function, AtMostOnce: true, Ephemeral: true})
		for i, w := range []string{"w1", "w2"} {
			n, failed, hash := uint32(i+1), "", "good"
			if w == "w1" {
				failed, hash = why, "bad"
			}
			for _, name := range []history.Name{history.Offered, history.Accepted, history.Granted} {
				add("m", history.Event{Name: name, Task: id, N: n, Worker: w})
			}
			add(w, history.Event{Name: history.Started, Task: id, N: n, Slots: 1})
			add(w, history.Event{Name: history.Finished, Task: id, N: n, Hash: hash, Why: failed})
			if failed == "" || failed == "busy" { // of another that failed nothing is heard: another attempt was not asked for
				add("m", history.Event{Name: history.ResultReceived, Task: id, N: n, Worker: w, Hash: hash, Why: failed})
			}
		}
		add("m", history.Event{Name: history.Ended, Task: id, State: tasks.StateDone, Hash: "good", N: 2})
		r := check(t, m)
		if why == "busy" && (!r.OK() || r.Duplicates != 0) || why != "busy" && r.Broken[7] == 0 {
			t.Errorf("%s: broken %v, duplicates %d:\n%s", why, r.Broken, r.Duplicates, r.text(t))
		}
	}
}
