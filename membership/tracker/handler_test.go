package tracker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/test/bounds"
)

// ask sends a request to h as from 192.0.2.7 and returns the answer.
func ask(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://tracker.example:44201/", strings.NewReader(body))
	r.URL.Path = path
	r.RemoteAddr = "192.0.2.7:50000"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func mustPost(t *testing.T, h http.Handler, body string) Hosts {
	t.Helper()
	w := ask(h, "POST", Path, body)
	if w.Code != http.StatusOK {
		t.Fatalf("POST %.200s = %d %s, want 200", body, w.Code, w.Body)
	}
	return decode(t, w)
}

func decode(t *testing.T, w *httptest.ResponseRecorder) Hosts {
	t.Helper()
	var hosts Hosts
	if err := json.Unmarshal(w.Body.Bytes(), &hosts); err != nil {
		t.Fatalf("answer %.200q: %v", w.Body, err)
	}
	return hosts
}

func addrs(hosts []Host) string {
	var all []string
	for _, h := range hosts {
		all = append(all, h.HostPort())
	}
	return strings.Join(all, " ")
}

func TestAnEmptyTrackerHasTwoEmptyLists(t *testing.T) {
	w := ask(NewHandler(Config{}), "GET", Path, "")
	if got, want := w.Body.String(), `{"masters":[],"workers":[]}`+"\n"; w.Code != 200 || got != want {
		t.Errorf("GET = %d %q, want 200 %q", w.Code, got, want)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q, want application/json", got)
	}
}

func TestMembersAreListedByRole(t *testing.T) {
	h := NewHandler(Config{Members: func() []Host {
		return []Host{
			{Addr: "10.0.0.1", Port: 1, Roles: []string{Worker, Master}, Data: json.RawMessage(`{"gpu":1}`), Name: "a", ID: "x", Available: true, Slots: 2},
			{Addr: "10.0.0.2", Port: 2, Roles: []string{Worker}},
			{Addr: "10.0.0.3", Port: 3, Roles: []string{Tracker}},
		}
	}})
	got := ask(h, "GET", Path, "").Body.String()
	a := `{"addr":"10.0.0.1","port":1,"data":{"gpu":1},"id":"x","name":"a","roles":["worker","master"],"available":true,"slots":2}`
	b := `{"addr":"10.0.0.2","port":2,"data":{},"roles":["worker"],"available":false}`
	if want := `{"masters":[` + a + `],"workers":[` + a + `,` + b + `]}` + "\n"; got != want {
		t.Errorf("GET = %s, want %s", got, want)
	}
}

func TestAnAnnouncedHostIsListed(t *testing.T) {
	h := NewHandler(Config{})
	got := mustPost(t, h, `{"addr":"10.0.0.9","port":3000,"role":"worker","data":{"os":"linux"},"name":"n9","unknown":1}`)
	if len(got.Masters) != 0 || len(got.Workers) != 1 {
		t.Fatalf("POST = %+v, want one worker", got)
	}
	w := got.Workers[0]
	if w.HostPort() != "10.0.0.9:3000" || w.Name != "n9" || string(w.Data) != `{"os":"linux"}` || !w.Available || w.LastSeen.IsZero() {
		t.Errorf("POST = %+v, want what was announced, available and seen", w)
	}
	if got := decode(t, ask(h, "GET", Path, "")); addrs(got.Workers) != "10.0.0.9:3000" {
		t.Errorf("GET = %+v, want the announced host", got)
	}
	if got := h.Announced(); addrs(got) != "10.0.0.9:3000" {
		t.Errorf("Announced() = %+v, want the announced host", got)
	}
}

func TestAHostWithoutAddrIsWhereItsRequestCameFrom(t *testing.T) {
	got := mustPost(t, NewHandler(Config{}), `{"port":3000,"roles":["master","worker"]}`)
	if addrs(got.Masters) != "192.0.2.7:3000" || addrs(got.Workers) != "192.0.2.7:3000" {
		t.Errorf("POST = %+v, want 192.0.2.7:3000 in both lists", got)
	}
	if string(got.Masters[0].Data) != "{}" {
		t.Errorf("data = %s, want {}", got.Masters[0].Data)
	}
}

func TestAHostLivesTwoAndAHalfIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(Config{})
		mustPost(t, h, `{"addr":"10.0.0.1","port":1,"role":"worker"}`)
		time.Sleep(3 * time.Second)
		mustPost(t, h, `{"addr":"10.0.0.2","port":2,"role":"worker"}`)
		time.Sleep(TTL - 3*time.Second - 1)
		if got := addrs(h.Announced()); got != "10.0.0.1:1 10.0.0.2:2" {
			t.Errorf("just before the TTL: %q, want both hosts", got)
		}
		mustPost(t, h, `{"addr":"10.0.0.2","port":2,"role":"worker"}`)
		time.Sleep(time.Nanosecond)
		if got := addrs(h.Announced()); got != "10.0.0.2:2" {
			t.Errorf("after the first host's TTL: %q, want the second only", got)
		}
		time.Sleep(TTL - 2)
		if got := addrs(h.Announced()); got != "10.0.0.2:2" {
			t.Errorf("a repeated announcement did not renew: %q", got)
		}
		time.Sleep(time.Nanosecond)
		if got := h.Announced(); len(got) != 0 || h.table.data != 0 || len(h.table.byKey) != 0 {
			t.Errorf("after all TTLs: %+v, %d bytes of data, %d keys; want nothing", got, h.table.data, len(h.table.byKey))
		}
	})
}

func TestAMemberHidesAnAnnouncementOfItsAddress(t *testing.T) {
	h := NewHandler(Config{Members: func() []Host {
		return []Host{{Addr: "10.0.0.1", Port: 1, Roles: []string{Worker}, Name: "real"}}
	}})
	got := mustPost(t, h, `{"addr":"10.0.0.1","port":1,"role":"worker","name":"fake"}`)
	if len(got.Workers) != 1 || got.Workers[0].Name != "real" {
		t.Errorf("POST = %+v, want the member alone", got)
	}
}

func TestSpellingsOfAnAddressAreOneHost(t *testing.T) {
	h := NewHandler(Config{})
	for _, a := range []string{"10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:DB8:0::1", "Host.example", "host.EXAMPLE"} {
		mustPost(t, h, fmt.Sprintf(`{"addr":%q,"port":1,"role":"worker"}`, a))
	}
	if got, want := addrs(h.Announced()), "10.0.0.1:1 [2001:db8::1]:1 host.example:1"; got != want {
		t.Errorf("Announced() = %q, want %q", got, want)
	}
}

func TestDataIsAnyJSONAndKept(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"object", `{ "a" : [1, 2] }`, `{"a":[1,2]}`},
		{"string", `"x"`, `"x"`},
		{"number beyond 2^53", `9007199254740993`, `9007199254740993`},
		{"number beyond float", `1e999`, `1e999`},
		{"null", `null`, `null`},
		{"list", `[]`, `[]`},
		{"dangerous key", `{"__proto__":{"a":1}}`, `{"__proto__":{"a":1}}`},
		{"duplicate keys", `{"a":1,"a":2}`, `{"a":1,"a":2}`},
		{"markup", `"<b>&"`, `"<b>&"`},
		{"lone surrogate", `"\ud800"`, `"\ud800"`},
		{"as large as allowed", `"` + strings.Repeat("x", MaxDataBytes-2) + `"`, `"` + strings.Repeat("x", MaxDataBytes-2) + `"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewHandler(Config{})
			w := ask(h, "POST", Path, `{"port":1,"role":"worker","data":`+c.data+`}`)
			if w.Code != 200 || !strings.Contains(w.Body.String(), `"data":`+c.want+`,`) {
				t.Errorf("POST data %.80s = %d %.200s, want the data as %.80s", c.data, w.Code, w.Body, c.want)
			}
		})
	}
}

func TestBadAnnouncementsAreRefused(t *testing.T) {
	host := func(fields string) string { return `{"role":"worker",` + fields + `}` }
	addr := func(a string) string { return host(fmt.Sprintf(`"port":1,"addr":%s`, a)) }
	for _, c := range []struct {
		name, body string
		status     int
		code, says string
	}{
		{"empty", "", 400, "bad_json", "empty"},
		{"cut", "{", 400, "bad_json", "unexpected end"},
		{"list", "[]", 400, "bad_json", "starts with '['"},
		{"null", "null", 400, "bad_json", "starts with 'n'"},
		{"byte order mark", "\ufeff{}", 400, "bad_json", "starts with"},
		{"NaN", host(`"port":NaN`), 400, "bad_json", "invalid character"},
		{"NUL", host("\"port\":1,\"name\":\"a\x00\""), 400, "bad_json", "invalid character"},
		{"not UTF-8", host("\"port\":1,\"data\":\"\xff\""), 400, "bad_json", "UTF-8"},
		{"two values", host(`"port":1`) + "{}", 400, "bad_json", "after top-level value"},
		{"deep", host(`"port":1,"data":` + strings.Repeat("[", 60_000) + strings.Repeat("]", 60_000)), 400, "bad_json", "depth"},
		{"large body", host(`"port":1,"name":"` + strings.Repeat("x", MaxBodyBytes) + `"`), 413, "too_large", "131072"},
		{"large data", host(`"port":1,"data":"` + strings.Repeat("x", MaxDataBytes-1) + `"`), 400, "bad_host", "data takes 65537 bytes"},
		{"no port", `{"role":"worker"}`, 400, "bad_host", "port is missing"},
		{"port null", host(`"port":null`), 400, "bad_host", "port is missing"},
		{"port 0", host(`"port":0`), 400, "bad_host", "port is 0"},
		{"port negative", host(`"port":-1`), 400, "bad_host", "port is -1"},
		{"port too large", host(`"port":65536`), 400, "bad_host", "port is 65536"},
		{"port fraction", host(`"port":1.5`), 400, "bad_host", "port is a number 1.5; want a whole number"},
		{"port text", host(`"port":"80"`), 400, "bad_host", "port is a string; want a whole number"},
		{"no role", `{"port":1}`, 400, "bad_host", "role is missing"},
		{"only tracker", `{"port":1,"role":"tracker"}`, 400, "bad_host", "role is missing"},
		{"unknown role", `{"port":1,"role":"boss"}`, 400, "bad_host", `role is "boss"`},
		{"roles not a list", `{"port":1,"roles":"worker"}`, 400, "bad_host", "roles is a string; want a list"},
		{"roles of numbers", `{"port":1,"roles":[1]}`, 400, "bad_host", "want a list"},
		{"slots negative", host(`"port":1,"slots":-1`), 400, "bad_host", "slots is -1"},
		{"name with control characters", host(`"port":1,"name":"a\u001b[2J"`), 400, "bad_host", "name is"},
		{"name too long", host(`"port":1,"name":"` + strings.Repeat("x", 257) + `"`), 400, "bad_host", "name is"},
		{"id with control characters", host(`"port":1,"id":"a\n"`), 400, "bad_host", "id is"},
		{"addr empty", addr(`""`), 400, "bad_host", "addr is"},
		{"addr with port", addr(`"10.0.0.1:80"`), 400, "bad_host", "addr is"},
		{"addr with zone", addr(`"fe80::1%eth0"`), 400, "bad_host", "zone"},
		{"addr hexadecimal", addr(`"0x7f.1"`), 400, "bad_host", "addr is"},
		{"addr hexadecimal at its end", addr(`"127.0x1"`), 400, "bad_host", "addr is"},
		{"addr short", addr(`"127.1"`), 400, "bad_host", "addr is"},
		{"addr unspecified", addr(`"::"`), 400, "bad_host", "addr is"},
		{"addr multicast", addr(`"224.0.0.1"`), 400, "bad_host", "addr is"},
		{"addr broadcast", addr(`"255.255.255.255"`), 400, "bad_host", "addr is"},
		{"addr with control characters", addr(`"a\u0000b"`), 400, "bad_host", "addr is"},
		{"addr with space", addr(`"a b"`), 400, "bad_host", "addr is"},
		{"addr a URL", addr(`"http://x/"`), 400, "bad_host", "addr is"},
		{"addr a number", addr(`1`), 400, "bad_host", "addr is a number; want a string"},
		{"addr too long", addr(`"` + strings.Repeat("a.", 200) + `b"`), 400, "bad_host", "addr is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewHandler(Config{})
			w := ask(h, "POST", Path, c.body)
			var e errorBody
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || strings.Count(w.Body.String(), "\n") != 1 {
				t.Fatalf("answer %q is not one line of JSON: %v", w.Body, err)
			}
			if w.Code != c.status || e.Error.Code != c.code || !strings.Contains(e.Error.Message, c.says) {
				t.Errorf("POST = %d %+v, want %d %s saying %q", w.Code, e.Error, c.status, c.code, c.says)
			}
			if len(e.Error.Message) > 400 || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("message of %d bytes, Content-Type %q", len(e.Error.Message), w.Header().Get("Content-Type"))
			}
			if got := h.Announced(); len(got) != 0 {
				t.Errorf("Announced() = %+v, want none", got)
			}
		})
	}
}

func TestHostNamesAreTaken(t *testing.T) {
	for _, a := range []string{"n1", "n1.example", "n1.example.", "a-b.c_d", "1.example", "0xg", "fd00::1"} {
		if err := checkAddr(a); err != nil {
			t.Errorf("checkAddr(%q) = %v, want nil", a, err)
		}
	}
}

func TestOtherRequestsAreRefused(t *testing.T) {
	good := `{"port":1,"role":"worker"}`
	for _, c := range []struct {
		name, method, path string
		header             []string
		status             int
		code               string
	}{
		{"PUT", "PUT", Path, nil, 405, "method_not_allowed"},
		{"DELETE", "DELETE", Path, nil, 405, "method_not_allowed"},
		{"TRACE", "TRACE", Path, nil, 405, "method_not_allowed"},
		{"CONNECT", "CONNECT", Path, nil, 405, "method_not_allowed"},
		{"OPTIONS", "OPTIONS", Path, nil, 405, "method_not_allowed"},
		{"root", "GET", "/", nil, 404, "not_found"},
		{"two slashes", "GET", "//hostsAvailable", nil, 404, "not_found"},
		{"slash after", "GET", Path + "/", nil, 404, "not_found"},
		{"dots", "GET", Path + "/../x", nil, 404, "not_found"},
		{"PUT elsewhere", "PUT", "/x", nil, 404, "not_found"},
		{"compressed", "POST", Path, []string{"Content-Encoding", "gzip"}, 415, "bad_encoding"},
		{"page of another site", "POST", Path, []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross_origin"},
		{"another origin", "POST", Path, []string{"Origin", "http://evil.example"}, 403, "cross_origin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewHandler(Config{})
			w := ask(h, c.method, c.path, good, c.header...)
			if w.Code != c.status || !strings.Contains(w.Body.String(), `{"error":{"code":"`+c.code+`"`) {
				t.Errorf("%s %s = %d %s, want %d %s", c.method, c.path, w.Code, w.Body, c.status, c.code)
			}
			if allow := w.Header().Get("Allow"); (allow == "GET, HEAD, POST") != (c.status == 405) {
				t.Errorf("Allow = %q with status %d", allow, w.Code)
			}
			if len(h.Announced()) != 0 {
				t.Error("the host was announced all the same")
			}
		})
	}
}

func TestAnyContentTypeWillDo(t *testing.T) {
	for _, ct := range []string{"", "application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain"} {
		if w := ask(NewHandler(Config{}), "POST", Path, `{"port":1,"role":"worker"}`, "Content-Type", ct); w.Code != 200 {
			t.Errorf("POST as %q = %d %s, want 200", ct, w.Code, w.Body)
		}
	}
}

func TestAFullTrackerTakesNoNewHostsUntilSomeExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHandler(Config{})
		for i := range MaxHosts {
			if _, err := h.table.add(hostEntry(Host{Addr: fmt.Sprintf("10.1.%d.%d", i>>8, i&255), Port: 1, Roles: []string{Tracker}})); err != nil {
				t.Fatalf("put of host %d = %v", i, err)
			}
		}
		w := ask(h, "POST", Path, `{"port":1,"role":"worker"}`)
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"full"`) {
			t.Errorf("POST of one host too many = %d %s, want 503 full and Retry-After", w.Code, w.Body)
		}
		mustPost(t, h, `{"addr":"10.1.0.0","port":1,"role":"worker"}`) // is there: only renewed
		time.Sleep(TTL)
		mustPost(t, h, `{"port":1,"role":"worker"}`)
	})
}

func TestAllDataTogetherIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tab table
		put := func(port, dataBytes int) (bool, error) {
			return tab.add(hostEntry(Host{Addr: "h", Port: port, Data: json.RawMessage(strings.Repeat("1", dataBytes))}))
		}
		for port := range 3 {
			if _, err := put(port+1, 10); err != nil {
				t.Fatal(err)
			}
		}
		tab.data += MaxTotalDataBytes - 30 // as if the three had that much
		if _, err := put(4, 1); err == nil {
			t.Error("put of a host beyond all data = nil, want an error")
		}
		if _, err := put(1, 11); err == nil {
			t.Error("put of a known host with more data = nil, want an error")
		}
		if isNew, err := put(1, 9); isNew || err != nil {
			t.Errorf("put of a known host with less data = %v, %v; want false, nil", isNew, err)
		}
		if isNew, err := put(4, 1); !isNew || err != nil {
			t.Errorf("put after another host gave data up = %v, %v; want true, nil", isNew, err)
		}
		if tab.data != MaxTotalDataBytes {
			t.Errorf("%d bytes are counted, want %d", tab.data, MaxTotalDataBytes)
		}
	})
}

func FuzzHandler(f *testing.F) {
	for _, s := range []string{`{"port":1,"role":"worker"}`, `{"addr":"a","port":2,"roles":["master"],"data":[1e999]}`, `{`, `[]`, `{"port":"1"}`,
		`{"addr":"0x7f.1","port":1,"role":"worker","name":"\u0000"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		bounds.Input(t, body)
		defer bounds.Check(t)()
		h := NewHandler(Config{})
		w := ask(h, "POST", Path, string(body))
		switch w.Code {
		case 200:
			got, err := parseHosts(w.Body.Bytes(), "")
			if err != nil || len(h.Announced()) != 1 || len(got.Masters)+len(got.Workers) == 0 {
				t.Errorf("POST %q was taken but the client reads %+v, %v", body, got, err)
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
