package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
)

func TestMonitorPrintsEventsOfTheBus(t *testing.T) {
	at := api.Time{Time: time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)}
	data, err := bus.Pack(json.RawMessage(`{"text": "<hi>", "to": ["all"]}`))
	if err != nil {
		t.Fatal(err)
	}
	big, err := bus.Pack(strings.Repeat("b", 2*maxEventData))
	if err != nil {
		t.Fatal(err)
	}
	for want, e := range map[string]api.Event{
		`chat.hi from n1 {"text":"<hi>","to":["all"]}`:              {Event: "chat.hi", From: "n1", FromID: "abc", Lamport: 7, Data: &data},
		`chat.bye from n\x1b1`:                                      {Event: "chat.bye", From: "n\x1b1"},
		`big from n1 "` + strings.Repeat("b", maxEventData-1) + "…": {Event: "big", From: "n1", Data: &big},
		`load from n1 (wants a reply)`:                              {Event: "load", From: "n1", Request: true},
		`missed 17 events`:                                          {Event: "missed", Missed: 17},
		`missed 1 event`:                                            {Event: "missed", Missed: 1},
		`missed events`:                                             {Event: "missed"},
		`missed 2 events from n1`:                                   {Event: "missed", Missed: 2, From: "n1"},
	} {
		e.Time = at
		if got := formatEvent(&e); got != "05:06:07.008 "+want {
			t.Errorf("%+v is printed as %q, want %q", e, got, "05:06:07.008 "+want)
		}
	}
}

func TestMonitorFilters(t *testing.T) {
	b, addr := newAgent(t, script)
	c := newConsole("")
	ended := make(chan int)
	go func() { ended <- Run(&c.Env, []string{"monitor", "-addr", addr, "chat.*", "-json", "build.**"}) }()
	waitFor(t, func() bool { // until the monitor has seen one, events may be from before it was there
		b.Feed().Append(api.Event{Event: "chat.first"})
		return c.out.String() != ""
	})
	for _, name := range []string{"task", "chat", "build.a.b", "workerAvailable", "chat.last"} {
		b.Feed().Append(api.Event{Event: name, From: "n1"})
	}
	waitFor(t, func() bool { return strings.Contains(c.out.String(), "chat.last") })
	c.signals <- os.Interrupt
	if status := <-ended; status != 0 || c.err.String() != "" {
		t.Errorf("monitor = %d, stderr %q; want 0 and nothing", status, c.err.String())
	}
	var got []string
	for line := range strings.Lines(c.out.String()) {
		var e api.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("line %s: %v", line, err)
		}
		if e.From == "n1" {
			got = append(got, e.Event)
		}
	}
	if fmt.Sprint(got) != "[build.a.b chat.last]" {
		t.Errorf("it prints %v", got)
	}
	newConsole("").want(t, []string{"monitor", "build*"}, 2, "",
		"scagent monitor: not the name of an event: \"build*\"; * stands for a whole part, and ** for one or more at the end, as in build.* and build.** (see: scagent monitor -h)\n")
}

// TestMonitorComesBack: it goes on after the last event that it printed, with its
// patterns, and gives up where it was sent nothing.
func TestMonitorComesBack(t *testing.T) {
	var queries []string
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.RawQuery)
		if n := len(queries); n < 3 {
			fmt.Fprintf(w, "id: %d\nevent: a.b\ndata: {\"seq\":%d,\"time\":\"2026-01-01T00:00:00Z\",\"event\":\"a.b\",\"from\":\"n%d\"}\n\n", n, n, n)
		}
	}))
	newConsole("").want(t, []string{"monitor", "-addr", addr, "a.*"}, 1, "00:00:00.000 a.b from n1\n00:00:00.000 a.b from n2\n", "scagent: the agent hung up\n")
	if got, want := strings.Join(queries, " "), "event=a.%2A after=1&event=a.%2A after=2&event=a.%2A"; got != want {
		t.Errorf("it asked for %s, want %s", got, want)
	}
}
