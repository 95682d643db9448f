package tracker

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// serve runs a tracker on loopback that answers with h.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestAnnounceAndListGoThroughARealServer(t *testing.T) {
	h := NewHandler(Config{})
	url := serve(t, h.ServeHTTP)
	sent := Host{Port: 3000, Roles: []string{Master, Worker}, Data: json.RawMessage(`{"n":9007199254740993}`), ID: "x", Name: "n1", Slots: 4}
	for _, base := range []string{url, url + "/", url + Path} {
		got, err := Announce(t.Context(), nil, base, sent)
		if err != nil || len(got.Masters) != 1 || len(got.Workers) != 1 {
			t.Fatalf("Announce(%q) = %+v, %v; want the host in both lists", base, got, err)
		}
		w := got.Workers[0]
		if w.HostPort() != "127.0.0.1:3000" || string(w.Data) != string(sent.Data) || w.ID != "x" || w.Name != "n1" || w.Slots != 4 || w.Available {
			t.Errorf("Announce(%q) = %+v, want what was sent, from 127.0.0.1", base, w)
		}
	}
	// Of a member: who announced itself is forgotten after some seconds, which may be over.
	url = serve(t, NewHandler(Config{Members: func() []Host {
		return []Host{{Addr: "10.0.0.1", Port: 3000, Roles: []string{Master}, ID: "n1"}}
	}}).ServeHTTP)
	got, err := List(t.Context(), http.DefaultClient, url)
	if err != nil || addrs(got.Masters) != "10.0.0.1:3000" {
		t.Errorf("List() = %+v, %v; want the member", got, err)
	}
}

func TestClientErrorsSayWhatIsWrong(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		says string
	}{
		{"refused", NewHandler(Config{}).ServeHTTP, `"400 Bad Request": "role is missing`},
		{"page", answer(200, "<html>"), "is that a tracker?"},
		{"other JSON", answer(200, `{"a":1}`), "is that a tracker?"},
		{"nothing", answer(204, ""), "204 No Content"},
		{"not found", answer(404, "nope"), "404 Not Found"},
		{"redirect", answer(307, ""), "redirects"},
		{"huge", func(w http.ResponseWriter, r *http.Request) {
			for b := make([]byte, 1<<20); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, "more than 16777216 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := serve(t, c.h)
			_, err := Announce(t.Context(), nil, url, Host{Port: 1})
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "tracker "+url) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Announce() = %v, want one line about %s that says %q", err, url, c.says)
			}
		})
	}
}

func TestBadURLsAreRefused(t *testing.T) {
	for _, u := range []string{"", "tracker:44201", "ftp://x/", "http://", "/x", "http://a b/"} {
		if _, err := List(t.Context(), nil, u); err == nil || !strings.Contains(err.Error(), "want http://host:port") {
			t.Errorf("List(%q) = %v, want an error that says what is wanted", u, err)
		}
	}
}

func TestAPasswordInTheURLIsNotPrinted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := List(ctx, nil, "http://me:hunter2@127.0.0.1:1")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("List() = %v, want an error without the password", err)
	}
}

func TestAnnounceRefusesDataThatDoesNotFit(t *testing.T) {
	h := Host{Port: 1, Data: json.RawMessage(`"` + strings.Repeat("x", MaxDataBytes) + `"`)}
	if _, err := Announce(t.Context(), nil, "http://127.0.0.1:1", h); err == nil || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("Announce(large data) = %v, want an error naming the limit", err)
	}
	h.Data = json.RawMessage(`{`)
	if _, err := Announce(t.Context(), nil, "http://127.0.0.1:1", h); err == nil || !strings.Contains(err.Error(), "not JSON") {
		t.Errorf("Announce(bad data) = %v, want an error", err)
	}
}

func TestImpossibleHostsOfATrackerAreLeftOut(t *testing.T) {
	got, err := parseHosts([]byte(`{"masters":[],"workers":[
		{"addr":"10.0.0.1","port":1,"data":null},
		{"addr":"10.0.0.2","port":0,"data":{}},
		{"addr":"0.0.0.0","port":1},
		{"addr":"evil\u0000","port":1},
		{"addr":"10.0.0.3","port":"80"},
		"text", 5, null,
		{"addr":"10.0.0.4","port":4,"lastSeen":12345,"roles":["boss"],"name":"a\u001b"}
	]}`), "")
	if err != nil || addrs(got.Workers) != "10.0.0.1:1 10.0.0.4:4" {
		t.Fatalf("parseHosts = %+v, %v; want 10.0.0.1 and 10.0.0.4", got, err)
	}
	for _, h := range got.Workers {
		if len(h.Roles) != 1 || h.Roles[0] != Worker || !h.Available || h.Name != "" {
			t.Errorf("host %+v, want an available worker without a name", h)
		}
	}
}
