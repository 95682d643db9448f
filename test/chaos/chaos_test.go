//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
	"time"

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
	if err := o.check(); err != nil {
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
	for _, e := range events(t, res.dir+"/faults.jsonl") {
		if e.Event != "fault" || e.Mono == 0 || e.Node == "m1" || time.Since(e.Wall) > time.Minute {
			t.Errorf("the faults have %+v", e)
		}
		if e.Kind == "kill" {
			kills++
		}
	}
	if kills != res.faults["kill"] {
		t.Errorf("the faults have %d kills, want %d", kills, res.faults["kill"])
	}
}

// event is a line of faults.jsonl.
type event struct {
	Mono  int64     `json:"mono"`
	Wall  time.Time `json:"wall"`
	Event string    `json:"ev"`
	Kind  string    `json:"kind"`
	Node  string    `json:"node"`
	To    string    `json:"to"`
}

func events(t *testing.T, path string) (list []event) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var e event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Fatalf("%v in %q", err, s.Text())
		}
		list = append(list, e)
	}
	return list
}
