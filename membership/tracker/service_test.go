package tracker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/test/bounds"
)

// clientService is a service as sc-discovery's client takes it from an answer.
type clientService struct {
	ID, Name  string
	Data      json.RawMessage
	Available *bool
	Rinfo     *struct {
		Address, Family string
		Port            int
	}
}

func (s clientService) String() string {
	return fmt.Sprintf("%s %s %s %t %s %s %d", s.ID, s.Name, s.Data, *s.Available, s.Rinfo.Address, s.Rinfo.Family, s.Rinfo.Port)
}

func readServices(t *testing.T, w *httptest.ResponseRecorder) map[string]string {
	t.Helper()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("POST / = %d %s, want 200 and JSON", w.Code, w.Body)
	}
	var all map[string]clientService
	if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil {
		t.Fatalf("answer %.300q: %v", w.Body, err)
	}
	got := make(map[string]string)
	for id, s := range all {
		if s.ID != id || s.Name == "" || s.Available == nil || s.Rinfo == nil || len(s.Data) == 0 {
			t.Fatalf("answer %s has a service that clients cannot take: %q", w.Body, id)
		}
		got[id] = s.String()
	}
	return got
}

// mustExchange announces services, a map in JSON, and returns what is answered.
func mustExchange(t *testing.T, h http.Handler, services string) map[string]string {
	t.Helper()
	return readServices(t, ask(h, "POST", "/", `{"services":`+services+`}`))
}

func expect(t *testing.T, got map[string]string, want ...string) {
	t.Helper()
	m := make(map[string]string)
	for _, s := range want {
		id, _, _ := strings.Cut(s, " ")
		m[id] = s
	}
	if !reflect.DeepEqual(got, m) {
		t.Errorf("services are %q, want %q", got, m)
	}
}

func TestAnAnnouncedServiceIsInTheMapAndAmongTheHosts(t *testing.T) {
	h := NewHandler(Config{})
	got := mustExchange(t, h, `{"worker:a":{"id":"worker:a","name":"worker","data":{"port": 3000, "x":"<&>"},"available":true,"rinfo":{"address":"6.6.6.6"}},
		"m":{"id":"other","name":"master","available":false}, "w":{"name":"web","data":[1]}}`)
	expect(t, got,
		`worker:a worker {"port":3000,"x":"<&>"} true 192.0.2.7 IPv4 50000`,
		`m master {} false 192.0.2.7 IPv4 50000`,
		`w web [1] false 192.0.2.7 IPv4 50000`)
	hosts := decode(t, ask(h, "GET", Path, ""))
	if addrs(hosts.Workers) != "192.0.2.7:3000" || addrs(hosts.Masters) != "192.0.2.7:50000" {
		t.Errorf("hosts are %+v, want a worker at the port of its data and a master at that of its request", hosts)
	}
	if w := hosts.Workers[0]; w.ID != "worker:a" || w.Name != "worker" || !w.Available || !w.External || string(w.Data) != `{"port":3000,"x":"<&>"}` || w.LastSeen.IsZero() {
		t.Errorf("the worker is %+v, want what was announced", w)
	}
	announced := h.Announced()
	if len(announced) != 3 {
		t.Fatalf("Announced() = %+v, want all three services", announced)
	}
	for _, a := range announced {
		if !a.External {
			t.Errorf("Announced() has %+v, want it external", a)
		}
	}
}

func TestWhoOnlyAsksAnnouncesNothing(t *testing.T) {
	for _, body := range []string{`{}`, `{"services":{}}`, `{"services":null}`, `{"more":1}`} {
		h := NewHandler(Config{})
		w := ask(h, "POST", "/", body)
		if w.Code != 200 || w.Body.String() != "{}\n" || len(h.Announced()) != 0 {
			t.Errorf("POST / %s = %d %s, want an empty map", body, w.Code, w.Body)
		}
	}
}

func TestEveryHostIsAServiceForEachOfItsRoles(t *testing.T) {
	h := NewHandler(Config{Members: func() []Host {
		return []Host{
			{Addr: "10.0.0.1", Port: 44201, Roles: []string{Worker, Master}, ID: "n1", Name: "a", Data: json.RawMessage(`{"gpu":1}`), Available: true},
			{Addr: "fd00::2", Port: 2, Roles: []string{Tracker}, ID: "n2"},
		}
	}})
	mustPost(t, h, `{"addr":"build.example","port":3,"role":"worker"}`)
	mustPost(t, h, `{"addr":"10.0.0.1","port":44201,"role":"master","id":"hidden"}`)
	expect(t, mustExchange(t, h, `{}`),
		`worker:n1 worker {"gpu":1} true 10.0.0.1 IPv4 44201`,
		`master:n1 master {"gpu":1} true 10.0.0.1 IPv4 44201`,
		`tracker:n2 tracker {} false fd00::2 IPv6 2`,
		`worker:build.example:3 worker {} true build.example  3`)
}

func TestAMembersIDIsItsOwn(t *testing.T) {
	h := NewHandler(Config{Members: func() []Host {
		return []Host{{Addr: "10.0.0.1", Port: 1, Roles: []string{Worker}, ID: "n1", Available: true}}
	}})
	got := mustExchange(t, h, `{"worker:n1":{"id":"worker:n1","name":"worker","data":{"port":6},"available":false},
		"w":{"name":"worker","data":{"port":7},"available":true}}`)
	expect(t, got, `worker:n1 worker {} true 10.0.0.1 IPv4 1`, `w worker {"port":7} true 192.0.2.7 IPv4 50000`)
}

func TestAServiceAtAMembersAddressHidesNothing(t *testing.T) {
	h := NewHandler(Config{Members: func() []Host {
		return []Host{{Addr: "192.0.2.7", Port: 44201, Roles: []string{Worker}, ID: "n1", Available: true}}
	}})
	expect(t, mustExchange(t, h, `{"w":{"name":"worker","data":{"port":44201},"available":true}}`),
		`worker:n1 worker {} true 192.0.2.7 IPv4 44201`, `w worker {"port":44201} true 192.0.2.7 IPv4 50000`)
	if got := decode(t, ask(h, "GET", Path, "")); len(got.Workers) != 1 || got.Workers[0].ID != "n1" {
		t.Errorf("workers are %+v, want the member alone at its address", got.Workers)
	}
}

func TestAServiceLivesTwoAndAHalfIntervalsAndIsThenSaidToBeGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(Config{})
		live := `w worker {"a":1} true 192.0.2.7 IPv4 50000`
		gone := `w worker {} false 192.0.2.7 IPv4 50000`
		expect(t, mustExchange(t, h, `{"w":{"name":"worker","data":{"a":1},"available":true}}`), live)
		time.Sleep(TTL - 1)
		expect(t, mustExchange(t, h, `{}`), live)
		time.Sleep(time.Nanosecond)
		if got := h.Announced(); len(got) != 0 {
			t.Errorf("Announced() = %+v after the TTL, want none", got)
		}
		if got := decode(t, ask(h, "GET", Path, "")); len(got.Workers) != 0 {
			t.Errorf("hosts are %+v after the TTL, want none", got)
		}
		expect(t, mustExchange(t, h, `{}`), gone)
		time.Sleep(3 * time.Second) // the next time that a client asks
		expect(t, mustExchange(t, h, `{}`), gone)
		time.Sleep(1500 * time.Millisecond)
		expect(t, mustExchange(t, h, `{}`))
		if n := len(h.farewells.listed); n != 0 {
			t.Errorf("%d services are remembered, want none", n)
		}
		expect(t, mustExchange(t, h, `{"w":{"name":"worker","data":{"a":1},"available":true}}`), live)
	})
}

func TestAMemberThatLeavesIsSaidToBeGoneUntilItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var members []Host
		h := NewHandler(Config{Members: func() []Host { return members }})
		both := []Host{{Addr: "10.0.0.1", Port: 1, Roles: []string{Worker, Master}, ID: "n1", Available: true}}
		w, m := `worker:n1 worker {} true 10.0.0.1 IPv4 1`, `master:n1 master {} true 10.0.0.1 IPv4 1`
		noW, noM := strings.Replace(w, "true", "false", 1), strings.Replace(m, "true", "false", 1)
		members = both
		expect(t, mustExchange(t, h, `{}`), w, m)
		time.Sleep(time.Hour)
		members = nil
		expect(t, mustExchange(t, h, `{}`), noW, noM)
		time.Sleep(time.Second)
		members = []Host{{Addr: "10.0.0.1", Port: 1, Roles: []string{Master}, ID: "n1", Available: true}}
		expect(t, mustExchange(t, h, `{}`), noW, m)
		time.Sleep(4 * time.Second)
		expect(t, mustExchange(t, h, `{}`), m)
		members = nil
		expect(t, mustExchange(t, h, `{}`), noM)
	})
}

// Of two answers at once, the one that began first may not have seen what the
// other lists.
func TestAnAnswerDoesNotTakeWhatALaterOneListsForGone(t *testing.T) {
	var f farewells
	first, second := f.begin(), f.begin()
	w := []service{{ID: "w", Name: "worker", Available: true}}
	if got := f.to(w, second); len(got) != 0 {
		t.Errorf("gone in the second answer: %+v", got)
	}
	if got := f.to(nil, first); len(got) != 0 {
		t.Errorf("gone in the first answer: %+v, want nothing, as it is older", got)
	}
	if got := f.to(nil, f.begin()); len(got) != 1 || got[0].ID != "w" || got[0].Available {
		t.Errorf("gone in the third answer: %+v, want w", got)
	}
}

func TestBadServicesAreRefused(t *testing.T) {
	long := strings.Repeat("x", 257)
	for _, c := range []struct {
		name, body string
		status     int
		code, says string
	}{
		{"empty", "", 400, "bad_json", "empty"},
		{"cut", `{"services":{`, 400, "bad_json", "unexpected end"},
		{"list", "[]", 400, "bad_json", "starts with '['"},
		{"null", "null", 400, "bad_json", "starts with 'n'"},
		{"not UTF-8", "{\"services\":{\"a\xff\":{\"name\":\"w\"}}}", 400, "bad_json", "UTF-8"},
		{"two values", `{}{}`, 400, "bad_json", "after top-level value"},
		{"deep", `{"services":{"a":{"name":"w","data":` + strings.Repeat("[", 60_000), 400, "bad_json", "depth"},
		{"large body", `{"services":{"a":{"name":"` + strings.Repeat("x", MaxBodyBytes) + `"}}}`, 413, "too_large", "131072"},
		{"services a list", `{"services":[]}`, 400, "bad_service", "want a map"},
		{"services a number", `{"services":5}`, 400, "bad_service", "services is a number; want a map"},
		{"service a text", `{"services":{"a":"b"}}`, 400, "bad_service", "want"},
		{"service null", `{"services":{"a":null}}`, 400, "bad_service", `service "a": it is null`},
		{"no name", `{"services":{"a":{"id":"a"}}}`, 400, "bad_service", `service "a": name is missing`},
		{"name a number", `{"services":{"a":{"name":5}}}`, 400, "bad_service", "want"},
		{"long name", `{"services":{"a":{"name":"` + long + `"}}}`, 400, "bad_service", "name is"},
		{"control in name", `{"services":{"a":{"name":"\u001b[2J"}}}`, 400, "bad_service", "name is"},
		{"empty id", `{"services":{"":{"name":"w"}}}`, 400, "bad_service", "another id"},
		{"long id", `{"services":{"` + long + `":{"name":"w"}}}`, 400, "bad_service", "id is"},
		{"control in id", `{"services":{"a\u0000":{"name":"w"}}}`, 400, "bad_service", "id is"},
		{"prototype", `{"services":{"__proto__":{"name":"w"}}}`, 400, "bad_service", "another id"},
		{"method of objects", `{"services":{"constructor":{"name":"w"}}}`, 400, "bad_service", "another id"},
		{"available a text", `{"services":{"a":{"name":"w","available":"no"}}}`, 400, "bad_service", "want"},
		{"large data", `{"services":{"a":{"name":"w","data":"` + strings.Repeat("x", MaxDataBytes) + `"}}}`, 400, "bad_service", "data takes"},
		{"one of two", `{"services":{"a":{"name":"worker"},"b":{}}}`, 400, "bad_service", `service "b"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewHandler(Config{})
			w := ask(h, "POST", "/", c.body)
			var e errorBody
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || strings.Count(w.Body.String(), "\n") != 1 {
				t.Fatalf("answer %q is not one line of JSON: %v", w.Body, err)
			}
			if w.Code != c.status || e.Error.Code != c.code || !strings.Contains(e.Error.Message, c.says) || len(e.Error.Message) > 400 {
				t.Errorf("POST = %d %+v, want %d %s saying %q", w.Code, e.Error, c.status, c.code, c.says)
			}
			if got := h.Announced(); len(got) != 0 {
				t.Errorf("Announced() = %+v, want none", got)
			}
		})
	}
}

func TestOtherRequestsToTheServicesAreRefused(t *testing.T) {
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		code         string
	}{
		{"GET", "/", nil, 404, "not_found"},
		{"HEAD", "/", nil, 404, "not_found"},
		{"PUT", "/", nil, 404, "not_found"},
		{"DELETE", "/", nil, 404, "not_found"},
		{"POST", "", nil, 404, "not_found"},
		{"POST", "//", nil, 404, "not_found"},
		{"POST", "/services", nil, 404, "not_found"},
		{"POST", "/", []string{"Content-Encoding", "gzip"}, 415, "bad_encoding"},
		{"POST", "/", []string{"Origin", "http://evil.example"}, 403, "cross_origin"},
	} {
		h := NewHandler(Config{})
		w := ask(h, c.method, c.path, `{"services":{"a":{"name":"worker","available":true}}}`, c.header...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), `{"error":{"code":"`+c.code+`"`) || len(h.Announced()) != 0 {
			t.Errorf("%s %q = %d %s, want %d %s", c.method, c.path, w.Code, w.Body, c.status, c.code)
		}
	}
}

func TestServicesNeedAnAddress(t *testing.T) {
	h := NewHandler(Config{})
	r := httptest.NewRequest("POST", "/", strings.NewReader(`{"services":{"a":{"name":"worker"}}}`))
	r.RemoteAddr = "@"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "came from no address") {
		t.Errorf("POST over a unix socket = %d %s, want 400", w.Code, w.Body)
	}
}

func TestAFullTrackerRenewsServicesAndTakesNoNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(Config{})
		for i := range MaxHosts - 1 {
			if _, err := h.table.add(hostEntry(Host{Addr: fmt.Sprintf("10.1.%d.%d", i>>8, i&255), Port: 1, Roles: []string{Tracker}})); err != nil {
				t.Fatal(err)
			}
		}
		mustExchange(t, h, `{"b":{"name":"worker","available":true}}`)
		time.Sleep(time.Second)
		w := ask(h, "POST", "/", `{"services":{"a":{"name":"worker"},"b":{"name":"worker","available":false}}}`)
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"full"`) {
			t.Errorf("POST of one service too many = %d %s, want 503 full and Retry-After", w.Code, w.Body)
		}
		time.Sleep(TTL - time.Second)
		if got := h.Announced(); len(got) != 1 || got[0].ID != "b" || got[0].Available {
			t.Errorf("Announced() = %+v, want b alone, renewed", got)
		}
	})
}

func FuzzServices(f *testing.F) {
	for _, s := range []string{`{"services":{"a":{"id":"a","name":"worker","data":{"port":1},"available":true}}}`, `{}`, `{"services":null}`,
		`{"services":{"a":{"name":"x","data":[1e999,"\u2028<"]},"b":{"name":"master"}}}`, `{`, `[]`, `{"services":{"":{}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		bounds.Input(t, body)
		defer bounds.Check(t)()
		h := NewHandler(Config{Members: func() []Host {
			return []Host{{Addr: "10.0.0.1", Port: 1, Roles: []string{Worker}, ID: "n", Available: true}}
		}})
		w := ask(h, "POST", "/", string(body))
		switch w.Code {
		case 200:
			got := readServices(t, w)
			if n := len(h.Announced()); len(got) != n+1 && len(got) != n || got["worker:n"] != "worker:n worker {} true 10.0.0.1 IPv4 1" {
				t.Errorf("POST %q = %s with %d announced", body, w.Body, n)
			}
		case 400, 413:
			if len(h.Announced()) != 0 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("POST %q = %d %s, announced %+v", body, w.Code, w.Body, h.Announced())
			}
		default:
			t.Errorf("POST %q = %d", body, w.Code)
		}
	})
}
