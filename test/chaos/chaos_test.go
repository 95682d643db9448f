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

// TestNothingIsLostWhileWorkersAreKilled is the short form of what the program does.
func TestNothingIsLostWhileWorkersAreKilled(t *testing.T) {
	need(t)
	o := defaults()
	o.tasks, o.spread, o.work = 500, 12*time.Second, 200*time.Millisecond
	o.seed, o.spareMaster, o.keep = 1, true, true
	o.log = t.Output()
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
	defer os.RemoveAll(res.dir)
	if res.Acknowledged != 500 || res.Done != 500 || res.Starts < 500 || res.faults["kill"] < 5 {
		t.Errorf("%d of 500 are done after %d starts and %v", res.Done, res.Starts, res.faults)
	}
	kills := 0
	for _, e := range events(t, res.dir+"/history-harness.jsonl") {
		if e.Name == history.Fault && e.What == history.Kill {
			kills++
			if len(e.Peer) != 26 || time.Since(time.Unix(0, e.Wall)) > time.Minute {
				t.Errorf("the history has %+v; want the id of a node", e)
			}
		}
	}
	if kills != res.faults["kill"] {
		t.Errorf("the history has %d kills, want %d", kills, res.faults["kill"])
	}
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
