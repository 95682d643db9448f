package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/tasks"
)

// events are the types of the lines of a stream, and what was written.
func events(t *testing.T, a answer) (types, out string) {
	t.Helper()
	if a.Code != http.StatusOK {
		t.Fatalf("answer is %d %s", a.Code, a.Body)
	}
	for line := range strings.Lines(a.Body.String()) {
		var e api.StreamEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		types += e.Type + " "
		out += string(e.DataBase64)
	}
	return strings.TrimSpace(types), out
}

func TestRunEventsCanBeAskedForInPart(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	s := submitted(t, h, `{"task":{"kind":"command","argv":["hold"]}}`)
	f, err := b.Follow(s.Run)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len("holding\nindeed\n"); { // until all of it has come
		ev, err := f.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += len(ev.Output)
	}
	f.Close()
	path := "/v1/runs/" + s.Run.String() + "/events"
	for query, want := range map[string]string{
		"?follow=0":          "submitted started output output",
		"?follow=0&output=0": "submitted started",
		"?follow=0&output=1": "submitted started output output",
	} {
		if types, _ := events(t, ask(t, h, "GET", path+query, "")); types != want {
			t.Errorf("%s of what runs: %s, want %s", query, types, want)
		}
	}
	time.AfterFunc(50*time.Millisecond, func() { b.Cancel(s.Run, tasks.StopKill) })
	if types, out := events(t, ask(t, h, "GET", path+"?output=0", "")); types != "submitted started result" || out != "" {
		t.Errorf("who only waits is told %s, %q", types, out)
	}
	if types, out := events(t, ask(t, h, "GET", path+"?follow=0", "")); types != "submitted started output output result" || out != "holding\nindeed\n" {
		t.Errorf("of what has ended: %s, %q", types, out)
	}
	ask(t, h, "GET", path+"?follow=2", "").refused(400, "bad_request", "follow", "want 1 or 0")
	ask(t, h, "GET", path+"?output=x", "").refused(400, "bad_request", "output", "want 1 or 0")
}

// owned are the requests about one task or run, for an id in their place.
var owned = []struct{ method, path string }{
	{"GET", "/v1/tasks/ID"}, {"GET", "/v1/tasks/ID/output"}, {"POST", "/v1/tasks/ID/cancel"}, {"GET", "/v1/runs/ID/events"},
}

func TestWhatIsElsewhereIsAskedForThere(t *testing.T) {
	b := apitest.New(t, run)
	var here, away, broken tasks.ID
	asked := 0
	h := api.NewHandler(b, api.Options{Elsewhere: func(w http.ResponseWriter, r *http.Request, id tasks.ID) (bool, error) {
		asked++
		switch id {
		case away:
			w.WriteHeader(http.StatusTeapot)
			return true, nil
		case broken:
			return true, errors.New("no\nway")
		}
		return false, nil
	}})
	s := submitted(t, h, `{"task":{"kind":"command","argv":["echo","x"]}}`)
	ended(t, b, s.Run)
	here, away, broken = s.Tasks[0].ID, tasks.ID{1}, tasks.ID{2}
	for i, o := range owned {
		at := func(id tasks.ID) answer {
			return ask(t, h, o.method, strings.Replace(o.path, "ID", id.String(), 1), "")
		}
		if a := at(here); a.Code != http.StatusOK {
			t.Errorf("%s %s of a task of this agent: %d %s", o.method, o.path, a.Code, a.Body)
		}
		if a := at(away); a.Code != http.StatusTeapot || a.Body.Len() != 0 {
			t.Errorf("%s %s of another's: %d %s", o.method, o.path, a.Code, a.Body)
		}
		at(broken).refused(500, "internal", "no way")
		ask(t, h, o.method, strings.Replace(o.path, "ID", "x", 1), "").refused(400, "bad_id")
		if asked != 3*(i+1) {
			t.Errorf("%s %s: asked about what is elsewhere %d times, want %d", o.method, o.path, asked, 3*(i+1))
		}
	}
}

func TestOtherAgentsAreToldOfSingleTasksAlone(t *testing.T) {
	b := apitest.New(t, run)
	s := submitted(t, api.NewHandler(b, api.Options{}), `{"task":{"kind":"command","argv":["echo","x"]}}`)
	ended(t, b, s.Run)
	h := api.NewTaskHandler(b)
	served := map[string]bool{}
	for _, o := range owned {
		path := strings.Replace(o.path, "ID", s.Run.String(), 1)
		if a := ask(t, h, o.method, path, ""); a.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", o.method, path, a.Code, a.Body)
		}
		ask(t, h, o.method, path, "", "Origin", "http://scagent").refused(403, "bad_origin")
		served[o.method+o.path] = true
	}
	for path, methods := range paths() {
		for _, method := range methods {
			if served[method+strings.Replace(path, tasks.ID{1}.String(), "ID", 1)] {
				continue
			}
			if a := ask(t, h, method, path, ""); a.Code != http.StatusNotFound && a.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s is answered %d", method, path, a.Code)
			}
		}
	}
}
