package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/tasks"
)

// asJSON is v as it travels.
func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEventsAreSent(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	big := `"` + strings.Repeat("x", api.MaxEventDataBytes-2) + `"`
	for _, c := range []struct{ name, body, want string }{
		{"to all by default", `{"event":"build.done"}`, `{"event":"build.done","target":{"all":true}}`},
		{"to all", `{"event":"a","target":{"all":true}}`, `{"event":"a","target":{"all":true}}`},
		{"to all of an empty target", `{"event":"a","target":{}}`, `{"event":"a","target":{"all":true}}`},
		{"to all but one", `{"event":"a","target":{"except":["n1"]}}`, `{"event":"a","target":{"all":true,"except":["n1"]}}`},
		{"to some by name", `{"event":"a","target":{"on":["n1","n2"],"except":["n2"]}}`, `{"event":"a","target":{"on":["n1","n2"],"except":["n2"]}}`},
		{"to those that match", `{"event":"a","target":{"where":"data.gpu == 1"}}`, `{"event":"a","target":{"where":"data.gpu == 1"}}`},
		{"with data", `{"event":"a","data": {"Any":[1, null, "x"], "UPPER case": 2}}`, `{"event":"a","data":{"Any":[1,null,"x"],"UPPER case":2},"target":{"all":true}}`},
		{"with no data", `{"event":"a","data":null}`, `{"event":"a","target":{"all":true}}`},
		{"with as much data as there may be", `{"event":"a","data":` + big + `}`, `{"event":"a","data":` + big + `,"target":{"all":true}}`},
		{"with data that is smaller than it looks", `{"event":"a","data":[1` + strings.Repeat(" ", api.MaxEventDataBytes) + `]}`, `{"event":"a","data":[1],"target":{"all":true}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := "nothing"
			b.OnSend = func(_ context.Context, r api.SendRequest) (api.Sent, error) {
				got = asJSON(t, r)
				return api.Sent{Sent: 2, Failed: []api.Reply{{ID: "i", Name: "n3", Error: "it is gone"}}}, nil
			}
			a := ask(t, h, "POST", "/v1/events", c.body)
			if want := `{"sent":2,"failed":[{"id":"i","name":"n3","error":"it is gone"}]}` + "\n"; a.Code != 200 || a.Body.String() != want {
				t.Errorf("the answer is %d %.200s, want %s", a.Code, a.Body, want)
			}
			if got != c.want {
				t.Errorf("the agent was given %.200s, want %.200s", got, c.want)
			}
		})
	}
}

func TestEventsThatCannotBeSent(t *testing.T) {
	b := apitest.New(t, run)
	b.OnSend = func(context.Context, api.SendRequest) (api.Sent, error) {
		t.Error("it was sent")
		return api.Sent{}, nil
	}
	b.OnRequest = func(context.Context, api.SendRequest, func(api.Reply) error) error {
		t.Error("it was asked")
		return nil
	}
	h := api.NewHandler(b, api.Options{})
	const bad, event, target = "bad_request", "bad_event", "bad_target"
	for _, c := range []struct {
		body   string
		status int
		code   string
		words  []string
	}{
		{``, 400, bad, []string{"empty"}},
		{`[]`, 400, bad, []string{"the body is a list; want an object"}},
		{`{"event":"a","to":"x"}`, 400, bad, []string{"to"}},
		{`{"Event":"a"}`, 400, bad, []string{"Event", "lower case"}},
		{`{"event":"a","event":"b"}`, 400, bad, []string{"event", "twice"}},
		{`{"event":"a","target":{"nodes":["x"]}}`, 400, bad, []string{"nodes"}},
		{`{"event":"a","data":{]}`, 400, bad, []string{"not JSON"}},
		{`{}`, 400, event, []string{"0 bytes"}},
		{`{"event":"a b"}`, 400, event, []string{`"a b"`, "build.done"}},
		{`{"event":"build.*"}`, 400, event, []string{`"build.*"`}},
		{`{"event":"workerAvailable"}`, 400, event, []string{`"workerAvailable"`, "another name"}},
		{`{"event":"missed"}`, 400, event, []string{`"missed"`, "another name"}},
		{`{"event":"a","target":{"n":1}}`, 400, target, []string{"n, prefer and force", "on, all, where and except"}},
		{`{"event":"a","target":{"where":"true","prefer":"1"}}`, 400, target, []string{"n, prefer and force"}},
		{`{"event":"a","target":{"on":["x"],"force":true}}`, 400, target, []string{"n, prefer and force"}},
		{`{"event":"a","target":{"on":["x"],"all":true}}`, 400, target, []string{"all excludes on"}},
		{`{"event":"a","target":{"on":[""]}}`, 400, target, []string{"empty name"}},
		{`{"event":"a","target":{"where":"data.x =="}}`, 400, target, []string{"where:"}},
		{`{"event":"a","timeout_seconds":5}`, 400, bad, []string{"timeout_seconds", "without request"}},
		{`{"event":"a","request":true,"timeout_seconds":-1}`, 400, bad, []string{"timeout_seconds is -1; want at most 3600"}},
		{`{"event":"a","request":true,"timeout_seconds":3601}`, 400, bad, []string{"timeout_seconds is 3601"}},
		{`{"event":"a","request":1}`, 400, bad, []string{"request is a number; want true or false"}},
		{`{"event":"a","data":"` + strings.Repeat("x", api.MaxEventDataBytes) + `"}`, 413, "too_large", []string{"1 MiB"}},
		{`{"event":"a","data":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "too_large", []string{"1 MiB"}},
	} {
		t.Run(fmt.Sprintf("%.60s", c.body), func(t *testing.T) {
			ask(t, h, "POST", "/v1/events", c.body).refused(c.status, c.code, c.words...)
		})
	}
	ask(t, h, "POST", "/v1/events", `{"event":"a"}`, "Content-Type", "text/plain").refused(415, "bad_content_type", "application/json")
	ask(t, h, "POST", "/v1/events?event=a", `{"event":"a"}`).refused(400, bad, "unknown parameter")
}

func TestErrorsOfSending(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	fails := fmt.Errorf("%w: nobody\nthere", tasks.ErrNoMatch)
	b.OnSend = func(context.Context, api.SendRequest) (api.Sent, error) { return api.Sent{}, fails }
	b.OnRequest = func(context.Context, api.SendRequest, func(api.Reply) error) error { return fails }
	for _, body := range []string{`{"event":"a"}`, `{"event":"a","request":true}`} {
		ask(t, h, "POST", "/v1/events", body).refused(409, "no_match", "nobody there")
	}
}

func TestRepliesComeALineEach(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	text := func(v any) bus.Data {
		d, err := bus.Pack(v)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		name    string
		replies []api.Reply
		want    string
	}{
		{"from all", []api.Reply{{ID: "1", Name: "n1", Data: text(map[string]int{"load": 3})}, {ID: "2", Name: "n2", Error: "it does not answer"}, {ID: "3", Name: "n3"}},
			`{"id":"1","name":"n1","data":{"load":3}}` + "\n" + `{"id":"2","name":"n2","error":"it does not answer"}` + "\n" + `{"id":"3","name":"n3"}` + "\n"},
		{"from nobody", nil, ""},
		{"that JSON cannot say", []api.Reply{{ID: "1", Name: "n1", Data: text(math.NaN())}, {ID: "2", Name: "n2", Data: text("ok")}},
			`{"id":"1","name":"n1","error":"its reply cannot be written as JSON: json: unsupported value: NaN"}` + "\n" + `{"id":"2","name":"n2","data":"ok"}` + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.OnRequest = func(_ context.Context, r api.SendRequest, reply func(api.Reply) error) error {
				if got, want := asJSON(t, r), `{"event":"load","target":{"all":true},"request":true,"timeout_seconds":10}`; got != want {
					t.Errorf("the agent was given %s, want %s", got, want)
				}
				for _, r := range c.replies {
					if err := reply(r); err != nil {
						return err
					}
				}
				return nil
			}
			a := ask(t, h, "POST", "/v1/events", `{"event":"load","request":true}`)
			if kind := a.Header().Get("Content-Type"); a.Code != 200 || kind != api.NDJSON || a.Body.String() != c.want {
				t.Errorf("the answer is %d %s:\n%s\nwant:\n%s", a.Code, kind, a.Body, c.want)
			}
		})
	}
}

// TestRepliesAreFlushed has a client that says when the next node may reply: each
// line is there before the request ends, which it does when the client is gone.
func TestRepliesAreFlushed(t *testing.T) {
	b := apitest.New(t, run)
	next, ended := make(chan struct{}), make(chan error, 1)
	b.OnRequest = func(ctx context.Context, r api.SendRequest, reply func(api.Reply) error) error {
		for i := range 3 {
			if err := reply(api.Reply{Name: fmt.Sprint("n", i)}); err != nil {
				return err
			}
			select {
			case <-next:
			case <-ctx.Done():
				ended <- context.Cause(ctx)
				return context.Cause(ctx)
			}
		}
		return nil
	}
	srv := httptest.NewServer(api.NewHandler(b, api.Options{}))
	defer srv.Close()
	resp, err := http.Post(srv.URL+"/v1/events", "application/json", strings.NewReader(`{"event":"a","request":true}`))
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	for i := range 2 {
		if want := fmt.Sprintf(`{"id":"","name":"n%d"}`, i); !lines.Scan() || lines.Text() != want {
			t.Fatalf("line %d is %q, %v; want %s", i, lines.Text(), lines.Err(), want)
		}
		if i == 0 {
			next <- struct{}{}
		}
	}
	resp.Body.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the request of a client that is gone ends with %v", err)
	}
}

// TestRequestThatBreaksOffIsHungUp: what came of the answer has no end, so that
// nobody takes it for all replies.
func TestRequestThatBreaksOffIsHungUp(t *testing.T) {
	b := apitest.New(t, run)
	b.OnRequest = func(_ context.Context, r api.SendRequest, reply func(api.Reply) error) error {
		reply(api.Reply{Name: "n1"})
		return errors.New("the agent ends")
	}
	srv := httptest.NewServer(api.NewHandler(b, api.Options{}))
	defer srv.Close()
	resp, err := http.Post(srv.URL+"/v1/events", "application/json", strings.NewReader(`{"event":"a","request":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != `{"id":"","name":"n1"}`+"\n" {
		t.Errorf("the answer is %q, %v; want a line, and no end", got, err)
	}
}

// watch reads server-sent events of a route until there are n that are no comments.
func watch(t *testing.T, h http.Handler, target string, n int, then func()) (events []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer w.Close()
		req := httptest.NewRequestWithContext(ctx, "GET", target, nil)
		h.ServeHTTP(&pipeWriter{w: w, header: http.Header{}}, req)
	}()
	defer func() { cancel(); r.Close(); <-done }()
	for lines := bufio.NewScanner(r); len(events) < n && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), ": events follow") {
			then()
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			events = append(events, data)
		}
	}
	return events
}

// pipeWriter is the answer to who reads it as it is written.
type pipeWriter struct {
	w      io.Writer
	header http.Header
}

func (p *pipeWriter) Header() http.Header         { return p.header }
func (p *pipeWriter) WriteHeader(int)             {}
func (p *pipeWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p *pipeWriter) Flush()                      {}

func TestEventsAreFiltered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := apitest.New(t, run)
		h := api.NewHandler(b, api.Options{})
		data, err := bus.FromJSON([]byte(`{"text": "<hi>"}`))
		if err != nil {
			t.Fatal(err)
		}
		odd, err := bus.Pack(math.Inf(1))
		if err != nil {
			t.Fatal(err)
		}
		first := b.Feed().Last() + 1
		at := asJSON(t, api.Time{Time: time.Now()})
		got := watch(t, h, "/v1/events?event=chat.*,build.**", 3, func() {
			for _, e := range []api.Event{{Event: "chat"}, {Event: "task"}, {Event: "chat.hi", From: "n1", FromID: "i1", Lamport: 7, Data: &data}, {Event: "chat.odd", Data: &odd}, {Event: "build.a.b", Request: true}} {
				b.Feed().Append(e)
			}
		})
		want := []string{
			fmt.Sprintf(`{"seq":%d,"time":%s,"event":"chat.hi","from":"n1","from_id":"i1","lamport":7,"data":{"text":"<hi>"}}`, first+2, at),
			fmt.Sprintf(`{"seq":%d,"time":%s,"event":"missed","missed":1}`, first+3, at), // JSON cannot say it
			fmt.Sprintf(`{"seq":%d,"time":%s,"event":"build.a.b","request":true}`, first+4, at),
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("events are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		got = watch(t, h, fmt.Sprintf("/v1/events?event=chat.*&after=%d", first+2), 1, func() {})
		if len(got) != 1 || got[0] != want[1] {
			t.Errorf("who resumes reads %s, want %s", got, want[1])
		}
	})
}

func TestPatternsThatAreNone(t *testing.T) {
	h := api.NewHandler(apitest.New(t, run), api.Options{})
	for _, p := range []string{"", "a,", "a*", "**.a", "a%20b", "a,,b"} {
		ask(t, h, "GET", "/v1/events?event="+p, "").refused(400, "bad_event", "the name of an event")
	}
	ask(t, h, "GET", "/v1/events?event=a"+strings.Repeat(",a", 64), "").refused(400, "bad_request", "65 patterns", "64")
	ask(t, h, "GET", "/v1/events?event=a&event=b", "").refused(400, "bad_request", "2 times")
}

// TestRequestOfNobodyIsHungUp: when the agent ends before there is a reply, whoever is
// there is not told an error of a context.
func TestRequestOfNobodyIsHungUp(t *testing.T) {
	b := apitest.New(t, run)
	b.OnRequest = func(ctx context.Context, _ api.SendRequest, _ func(api.Reply) error) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	defer func() {
		if r := recover(); r != http.ErrAbortHandler || w.Body.Len() > 0 {
			t.Errorf("it panics with %v, and wrote %q; want to hang up", r, w.Body)
		}
	}()
	api.NewHandler(b, api.Options{}).ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/v1/events", strings.NewReader(`{"event":"a","request":true}`)))
}
