package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/tasks"
)

const (
	ownHost    = "127.0.0.1:8080"
	ownToken   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	otherToken = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
)

var (
	ownHosts = []string{ownHost, "localhost:8080", "[::1]:8080"}
	methods  = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"}
)

// oddPaths are not routes.
var oddPaths = []string{"/", "/v1", "/v1/", "/v1/nothing", "//v1/info", "/v1/../v1/info", "/v1/./info", "/v1/info/", "/v1/info;x", "/V1/INFO", "/metrics",
	"/ui/../../etc/passwd", "/ui/..%2f..%2fetc/passwd", "/ui/..%5c..%5cetc", "/..;/v1/info", "/healthz/../v1/info", "/healthz/", "//healthz", "/healthz%2f..%2fv1%2finfo",
	"/v1/blobs/../../etc/passwd", "/v1/tasks/%2e%2e/output", "/%00", "/\\v1\\info"}

// paths returns the paths of all routes, with things in the place of ids, and the
// methods that each has.
func paths() map[string][]string {
	fill := strings.NewReplacer("{id}", tasks.ID{1}.String(), "{hash}", strings.Repeat("0", 64))
	all := map[string][]string{}
	for _, r := range api.Routes() {
		p := fill.Replace(r.Pattern)
		all[p] = append(all[p], r.Method)
	}
	return all
}

// open reports whether a path needs no token.
func open(path string) bool { return path == "/healthz" || path == "/readyz" }

// attack is how a request goes wrong that has all that it needs otherwise.
type attack struct {
	name   string
	change func(r *http.Request)
	status int
	code   string
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

func host(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }

func requestURI(uri string) func(*http.Request) {
	return func(r *http.Request) { r.RequestURI = uri }
}

func without(name string, change func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) { r.Header.Del(name); change(r) }
}

// withoutToken are requests of who does not have this agent's token.
var withoutToken = []attack{
	{"no token", without("Authorization", func(*http.Request) {}), 401, "unauthorized"},
	{"an empty header", header("Authorization", ""), 401, "unauthorized"},
	{"an empty token", header("Authorization", "Bearer "), 401, "unauthorized"},
	{"a wrong token", header("Authorization", "Bearer "+strings.Repeat("0", 64)), 401, "unauthorized"},
	{"another agent's token", header("Authorization", "Bearer "+otherToken), 401, "unauthorized"},
	{"a short token", header("Authorization", "Bearer "+ownToken[:63]), 401, "unauthorized"},
	{"a long token", header("Authorization", "Bearer "+ownToken+"0"), 401, "unauthorized"},
	{"the token in upper case", header("Authorization", "Bearer "+strings.ToUpper(ownToken)), 401, "unauthorized"},
	{"the token twice", header("Authorization", "Bearer "+ownToken+" "+ownToken), 401, "unauthorized"},
	{"a wrong token and the right one", header("Authorization", "Bearer "+otherToken, "Bearer "+ownToken), 401, "unauthorized"},
	{"the right token and a wrong one", header("Authorization", "Bearer "+ownToken, "Bearer "+otherToken), 401, "unauthorized"},
	{"the token without its scheme", header("Authorization", ownToken), 401, "unauthorized"},
	{"the token as a password", func(r *http.Request) { r.SetBasicAuth("x", ownToken) }, 401, "unauthorized"},
	{"the token in the query", without("Authorization", func(r *http.Request) { r.URL.RawQuery = "token=" + ownToken }), 401, "unauthorized"},
	{"the token in the query, as RFC 6750 has it", without("Authorization", func(r *http.Request) { r.URL.RawQuery = "access_token=" + ownToken }), 401, "unauthorized"},
	{"the token in a cookie", without("Authorization", header("Cookie", "token="+ownToken)), 401, "unauthorized"},
	{"the token in another header", without("Authorization", header("X-Auth-Token", ownToken)), 401, "unauthorized"},
	{"the token for a proxy", without("Authorization", header("Proxy-Authorization", "Bearer "+ownToken)), 401, "unauthorized"},
}

// fromElsewhere are requests that a browser was made to send. They have the token:
// the day on which one gets out, pages of other sites must still not get in.
var fromElsewhere = func() (as []attack) {
	add := func(kind, code string, status int, change func(string) func(*http.Request), values ...string) {
		for _, v := range values {
			as = append(as, attack{fmt.Sprintf("%s %q", kind, v), change(v), status, code})
		}
	}
	add("Host", "bad_host", 421, host, "", "evil.example", "evil.example:8080", "127.0.0.1.nip.io:8080", "localhost.evil.example:8080", "127.0.0.1", "localhost",
		"127.0.0.1:80", "127.0.0.1:8081", "127.0.0.1:08080", "127.0.0.1:8080.evil.example", "127.0.0.2:8080", "0.0.0.0:8080", "0:8080", "127.1:8080", "2130706433:8080",
		"0x7f.0.0.1:8080", "[::1]", "::1:8080", "[::1]:8081", "[0:0:0:0:0:0:0:1]:8080", "[::ffff:127.0.0.1]:8080", "[::1%25lo]:8080", "localhost.:8080", "x@127.0.0.1:8080", "127.0.0.1:8080, evil.example")
	add("Origin", "bad_origin", 403, func(o string) func(*http.Request) { return header("Origin", o) }, "", "null", "file://", "http://evil.example", "http://evil.example:8080",
		"https://127.0.0.1:8080", "http://127.0.0.1", "http://127.0.0.1:3000", "http://localhost:8080", "http://[::1]:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080.evil.example",
		"http://127.0.0.1:8080 http://evil.example", "127.0.0.1:8080", "//127.0.0.1:8080", "ws://127.0.0.1:8080")
	add("Sec-Fetch-Site", "bad_origin", 403, func(s string) func(*http.Request) { return header("Sec-Fetch-Site", s) }, "", "cross-site", "same-site", "CROSS-SITE", "same-origin, cross-site")
	add("request for", "bad_host", 421, requestURI, "*", "evil.example:443", "http://evil.example/v1/info", "http://"+ownHost+"/v1/info", "https://"+ownHost+"/v1/info")
	return append(as,
		attack{"two Origins", header("Origin", "http://"+ownHost, "http://evil.example"), 403, "bad_origin"},
		attack{"two Sec-Fetch-Sites", header("Sec-Fetch-Site", "same-origin", "cross-site"), 403, "bad_origin"},
		attack{"a form of another site", func(r *http.Request) {
			r.Header.Set("Origin", "http://evil.example")
			r.Header.Set("Content-Type", "text/plain")
			r.Body = io.NopCloser(strings.NewReader(`{"task":{"kind":"command","argv":["id"]}}`))
		}, 403, "bad_origin"},
		attack{"a preflight", func(r *http.Request) {
			r.Header.Set("Origin", "http://evil.example")
			r.Header.Set("Access-Control-Request-Method", "POST")
			r.Header.Set("Access-Control-Request-Headers", "authorization, content-type")
			r.Header.Set("Access-Control-Request-Private-Network", "true")
		}, 403, "bad_origin"},
		attack{"a socket for messages", func(r *http.Request) {
			r.Header.Set("Origin", "http://evil.example")
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
		}, 403, "bad_origin"},
		attack{"events for a page", func(r *http.Request) {
			r.Header.Set("Origin", "http://evil.example")
			r.Header.Set("Accept", "text/event-stream")
		}, 403, "bad_origin"},
	)
}()

// send sends a request that has all that it needs, but for what change changes,
// to a handler that has no agent: whoever gets through to that panics.
func send(t *testing.T, h http.Handler, method, path string, change func(*http.Request)) (a answer, through bool) {
	t.Helper()
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // so that streams end at once
	r := (&http.Request{Method: method, URL: u, RequestURI: path, Host: ownHost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Authorization": {"Bearer " + ownToken}}, Body: http.NoBody}).WithContext(ctx)
	change(r)
	a = answer{t, httptest.NewRecorder()}
	defer func() { through = recover() != nil }()
	h.ServeHTTP(a.ResponseRecorder, r)
	return a, false
}

// everywhere calls f for all methods of all paths that there are, and of some that
// there are not.
func everywhere(f func(method, path string)) {
	for _, m := range methods {
		for p := range paths() {
			f(m, p)
		}
		for _, p := range oddPaths {
			f(m, p)
		}
	}
}

func TestNothingGetsPastTheGuard(t *testing.T) {
	refused := 0
	h := api.NewHandler(nil, api.Options{Token: ownToken, Hosts: ownHosts, Refused: func() { refused++ }})
	sent := 0
	try := func(t *testing.T, a attack, method, path string) {
		t.Helper()
		w, through := send(t, h, method, path, a.change)
		sent++
		switch {
		case through:
			t.Fatalf("%s %s got through to the agent", method, path)
		case w.Code != a.status:
			t.Errorf("%s %s is answered %d %s; want %d", method, path, w.Code, w.Body, a.status)
		default:
			w.refused(a.status, a.code)
		}
		if refused != sent {
			t.Errorf("%s %s: %d requests were counted, want %d", method, path, refused, sent)
			refused = sent
		}
		if got := w.Header().Get("WWW-Authenticate"); a.status == 401 && got != "Bearer" {
			t.Errorf("%s %s: WWW-Authenticate is %q, want Bearer", method, path, got)
		}
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s %s is answered with %s: %q; want nothing for other sites", method, path, name, w.Header()[name])
			}
		}
		if text := w.Body.String() + fmt.Sprint(w.Header()); strings.Contains(text, ownToken[:16]) || strings.Contains(text, otherToken[:16]) {
			t.Errorf("%s %s: the answer repeats a token: %s", method, path, text)
		}
	}
	for _, a := range withoutToken {
		t.Run(a.name, func(t *testing.T) {
			everywhere(func(method, path string) {
				if !open(path) {
					try(t, a, method, path)
				}
			})
		})
	}
	for _, a := range fromElsewhere {
		t.Run(a.name, func(t *testing.T) {
			everywhere(func(method, path string) { try(t, a, method, path) })
		})
	}
	t.Logf("%d requests", sent)
}

// TestTheGuardLetsTheRightOnesThrough is the other half of the test above: what
// is refused there is good but for what was changed.
func TestTheGuardLetsTheRightOnesThrough(t *testing.T) {
	h := api.NewHandler(nil, api.Options{Token: ownToken, Hosts: ownHosts, Refused: func() { t.Error("a good request was refused") }})
	for name, change := range map[string]func(*http.Request){
		"a program":            func(*http.Request) {},
		"a scheme in any case": header("Authorization", "bearer "+ownToken),
		"another name":         host("localhost:8080"),
		"IPv6":                 host("[::1]:8080"),
		"a page of its own": func(r *http.Request) {
			r.Header.Set("Origin", "http://"+ownHost)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		},
		"an address typed in": header("Sec-Fetch-Site", "none"),
	} {
		t.Run(name, func(t *testing.T) {
			for path, has := range paths() {
				for _, method := range methods {
					a, through := send(t, h, method, path, change)
					has := slices.Contains(has, method)
					if bad := a.Code == 401 || a.Code == 403 || a.Code == 421; !through && (bad || has == (a.Code == 405)) {
						t.Errorf("%s %s is answered %d %s", method, path, a.Code, a.Body)
					}
				}
			}
			for _, path := range oddPaths {
				if a, through := send(t, h, "GET", path, change); through || a.Code != 404 {
					t.Errorf("GET %s is answered %d %s, got through: %t; want 404", path, a.Code, a.Body, through)
				}
			}
		})
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if a, through := send(t, h, "GET", path, without("Authorization", func(*http.Request) {})); through || a.Code != 200 || a.Body.String() != "ok\n" {
			t.Errorf("GET %s without a token: %d %s; want ok", path, a.Code, a.Body)
		}
	}
}

// TestNoBrowserSpeaksOverASocket is for those who put a socket where a browser can
// reach it, as with socat.
func TestNoBrowserSpeaksOverASocket(t *testing.T) {
	refused := 0
	h := api.NewHandler(nil, api.Options{Refused: func() { refused++ }})
	for _, a := range []attack{
		{"a page", header("Origin", "http://"+ownHost), 403, "bad_origin"},
		{"a page of a file", header("Origin", "null"), 403, "bad_origin"},
		{"a page of the same site", header("Sec-Fetch-Site", "same-origin"), 403, "bad_origin"},
		{"a link", header("Sec-Fetch-Site", "none"), 403, "bad_origin"},
		{"a picture of another site", header("Sec-Fetch-Site", "cross-site"), 403, "bad_origin"},
		{"a proxy's form", requestURI("http://" + ownHost + "/v1/info"), 421, "bad_host"},
		{"no path", requestURI("*"), 421, "bad_host"},
	} {
		t.Run(a.name, func(t *testing.T) {
			everywhere(func(method, path string) {
				w, through := send(t, h, method, path, a.change)
				if through {
					t.Fatalf("%s %s got through to the agent", method, path)
				}
				w.refused(a.status, a.code)
			})
		})
	}
	if refused == 0 {
		t.Error("no refusal was counted")
	}
	if a, through := send(t, h, "GET", "/v1/info", without("Authorization", host("anything"))); !through {
		t.Errorf("a program is answered %d %s", a.Code, a.Body)
	}
}

func TestUnknownParametersAreRefusedEverywhere(t *testing.T) {
	h := api.NewHandler(nil, api.Options{Token: ownToken, Hosts: ownHosts})
	for _, r := range api.Routes() {
		path := strings.NewReplacer("{id}", tasks.ID{1}.String(), "{hash}", strings.Repeat("0", 64)).Replace(r.Pattern)
		for _, query := range []string{"token=" + ownToken, "access_token=x", "x", "=", "a=%zz", "state=done;limit=1"} {
			a, through := send(t, h, r.Method, path, func(r *http.Request) { r.URL.RawQuery = query })
			if through {
				t.Errorf("%s %s?%s got through to the agent", r.Method, path, query)
				continue
			}
			a.refused(400, "bad_request")
			if strings.Contains(a.Body.String(), ownToken) {
				t.Errorf("%s %s?%s: the answer repeats the token: %s", r.Method, path, query, a.Body)
			}
		}
	}
}

// TestBodiesThatFormsCanSend goes through all that changes something: where
// browsers come, nothing is read that a form, or a script without asking first,
// can send.
func TestBodiesThatFormsCanSend(t *testing.T) {
	h := api.NewHandler(nil, api.Options{Token: ownToken, Hosts: ownHosts})
	for _, r := range api.Routes() {
		if r.Method == "GET" || r.Method == "HEAD" || r.Pattern == "/v1/blobs" { // which takes any bytes, by PUT
			continue
		}
		status, code := 415, "bad_content_type"
		if r.Pattern == "/v1/leave" || r.Pattern == "/v1/drain" { // take no body at all
			status, code = 400, "bad_request"
		}
		path := strings.Replace(r.Pattern, "{id}", tasks.ID{1}.String(), 1)
		for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json-patch+json", "text/json", "*/*"} {
			a, through := send(t, h, r.Method, path, func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{}`)), 2
				r.Header.Set("Content-Type", kind)
			})
			if through {
				t.Errorf("%s %s as %q got through to the agent", r.Method, path, kind)
				continue
			}
			a.refused(status, code)
		}
	}
}

func TestWhatIsReadChangesNothing(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{Token: ownToken, Hosts: ownHosts})
	var s api.Submitted
	ask(t, api.NewHandler(b, api.Options{}), "POST", "/v1/tasks", `{"task":{"kind":"command","argv":["hold"]}}`).into(&s)
	hash, _, err := b.PutBlob(t.Context(), strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	state := func() string {
		return fmt.Sprint(len(b.List(tasks.ID{}, nil, 100)), b.Stats().Cancelled, string(b.Data()), b.Available(), b.Joined(), b.Left(), b.Store.Stats().Blobs)
	}
	before := state()
	for _, r := range api.Routes() {
		if r.Method != "GET" && r.Method != "HEAD" {
			continue
		}
		for _, id := range []tasks.ID{s.Run, s.Tasks[0].ID} {
			a, through := send(t, h, r.Method, strings.NewReplacer("{id}", id.String(), "{hash}", hash).Replace(r.Pattern), func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"available":false,"addrs":["a"]}`)), 33
				r.Header.Set("Content-Type", "application/json")
			})
			endless := r.Pattern == "/v1/runs/{id}/events" // the task does not end: its client is hung up on when it is gone
			if through != endless || a.Code != 200 {
				t.Errorf("%s %s: %d %s, panicked: %t; want an answer", r.Method, r.Pattern, a.Code, a.Body, through)
			}
		}
	}
	if after := state(); after != before {
		t.Errorf("reading has changed %s to %s", before, after)
	}
	b.Cancel(s.Run, tasks.StopKill)
	ended(t, b, s.Run)
}

// TestOnTheWire sends what no library does.
func TestOnTheWire(t *testing.T) {
	b := apitest.New(t, run)
	l := listenTCP(t, "127.0.0.1:0")
	addr := l.Addr().String()
	srv := api.NewServer(api.NewHandler(b, api.Options{Token: ownToken, Hosts: api.Hosts(netip.MustParseAddrPort(addr))}))
	go srv.Serve(l)
	defer srv.Close()
	auth := "Authorization: Bearer " + ownToken + "\r\n"
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"a good one", "GET /v1/info HTTP/1.1\r\nHost: " + addr + "\r\n" + auth, 200},
		{"no Host", "GET /v1/info HTTP/1.1\r\n" + auth, 400},
		{"no Host, before it was wanted", "GET /v1/info HTTP/1.0\r\n" + auth, 421},
		{"no version", "GET /v1/info\r\n", 400},
		{"an empty Host", "GET /v1/info HTTP/1.1\r\nHost:\r\n" + auth, 421},
		{"two Hosts", "GET /v1/info HTTP/1.1\r\nHost: " + addr + "\r\nHost: evil.example\r\n" + auth, 400},
		{"a proxy's form, for another host", "GET http://evil.example/v1/info HTTP/1.1\r\nHost: " + addr + "\r\n" + auth, 421},
		{"a proxy's form, with another Host", "GET http://" + addr + "/v1/info HTTP/1.1\r\nHost: evil.example\r\n" + auth, 421},
		{"a proxy's form", "GET http://" + addr + "/v1/info HTTP/1.1\r\nHost: " + addr + "\r\n" + auth, 421},
		{"a tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n" + auth, 421},
		{"options of the server", "OPTIONS * HTTP/1.1\r\nHost: " + addr + "\r\n" + auth, 421},
		{"HTTP/2", "PRI * HTTP/2.0\r\n", 421},
		{"two lengths", "PUT /v1/data HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + auth, 400},
		{"a negative length", "PUT /v1/data HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: -1\r\n" + auth, 400},
		{"an unknown coding", "PUT /v1/data HTTP/1.1\r\nHost: " + addr + "\r\nTransfer-Encoding: gzip, chunked\r\n" + auth, 501},
		{"a large head", "GET /v1/info HTTP/1.1\r\nHost: " + addr + "\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n" + auth, 431},
		{"a long path", "GET /" + strings.Repeat("x", 32<<10) + " HTTP/1.1\r\nHost: " + addr + "\r\n" + auth, 431},
		{"a header over two lines", "GET /v1/info HTTP/1.1\r\nHost: " + addr + "\r\nAuthorization:\r\n Bearer " + otherToken + "\r\n", 401},
		{"a name with a space", "GET /v1/info HTTP/1.1\r\nHost: " + addr + "\r\nAuthorization : Bearer " + ownToken + "\r\n", 400},
		{"events for another site", "GET /v1/events HTTP/1.1\r\nHost: " + addr + "\r\nOrigin: http://evil.example\r\n" + auth, 403},
		{"events", "GET /v1/events HTTP/1.1\r\nHost: " + addr + "\r\nOrigin: http://" + addr + "\r\n" + auth, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, c.request+"\r\n")                     // an error: it was refused before it was read
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil) // events do not end, so the body is left
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Errorf("status is %s, want %d", resp.Status, c.status)
			}
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("the answer has %s", name)
				}
			}
		})
	}
	if b.Data() != nil {
		t.Errorf("data is %s", b.Data())
	}
}
