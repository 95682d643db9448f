//go:build linux

package main

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks/history"
	"github.com/scagent/scagent/test/chaos/cluster"
)

// need skips the test when the machine lacks something for clusters; it fails when
// nothing may be skipped.
func need(t *testing.T) {
	t.Helper()
	if lacks := cluster.Lacks(); lacks != "" {
		if os.Getenv("SCAGENT_TEST_NO_SKIP") != "" {
			t.Fatalf("this machine lacks %s, and nothing may be skipped", lacks)
		}
		t.Skipf("SKIPPED: this machine lacks %s", lacks)
	}
}

// chaos runs chaos, and fails the test if there is a problem. The directory is there until
// the test has ended.
func chaos(t *testing.T, change func(*options)) *result {
	t.Helper()
	need(t)
	o := defaults()
	o.seed, o.keep, o.log = 1, true, t.Output()
	change(&o)
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	res, err := run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	res.print(t.Output())
	if len(res.problems) > 0 {
		t.Fatalf("%q; look into %s", res.problems, res.dir)
	}
	t.Cleanup(func() { os.RemoveAll(res.dir) })
	if n := res.Done + res.Poisoned; res.Acknowledged != o.tasks || n != o.tasks || res.checked.Events < 8*o.tasks || res.checked.Sought != o.masters+o.workers {
		t.Errorf("%d tasks are done, of %d acknowledged; %d events were checked, and %d nodes searched", n, res.Acknowledged, res.checked.Events, res.checked.Sought)
	}
	return res
}

// TestWhatWasPromisedHoldsWhileAgentsAreKilled is the short form of what the program
// does: masters and workers are killed about once a second. SCAGENT_TEST_LONG has more
// of it.
func TestWhatWasPromisedHoldsWhileAgentsAreKilled(t *testing.T) {
	n, spread := 1000, 25*time.Second
	if os.Getenv("SCAGENT_TEST_LONG") != "" {
		n, spread = 10_000, 100*time.Second
	}
	res := chaos(t, func(o *options) { o.tasks, o.spread, o.work = n, spread, 100*time.Millisecond })
	kills := map[string]int{}
	for _, e := range events(t, res.dir+"/history-harness.jsonl") {
		if e.Name == history.Fault && e.What == history.Kill {
			kills[e.Peer]++
		}
	}
	// One more of the master when everything has ended.
	if all := sum(kills); all != res.faults["kill"]+1 || all < int(spread/time.Second)/2 || len(kills) != 5 {
		t.Errorf("the history has the kills %v, want as many as were done, %d and one, about one a second, of all 5 nodes", kills, res.faults["kill"])
	}
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// events returns what is in a history.
func events(t *testing.T, path string) (list []history.Event) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := history.NewReader(f)
	for {
		var e history.Event
		switch err := r.Next(&e); err {
		case nil:
			list = append(list, e)
		case io.EOF:
			return list
		default:
			t.Fatal(err)
		}
	}
}
