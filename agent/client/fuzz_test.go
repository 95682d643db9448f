package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/test/bounds"
)

// liar answers every request alike.
type liar struct {
	status int
	body   string
}

func (l liar) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: l.status, Status: "503 x", Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(l.body))}, nil
}

// FuzzAnswer has what listens at an agent's address answer anything to each kind
// of request. Reading ends, with an error or with what was there.
func FuzzAnswer(f *testing.F) {
	id := strings.Repeat("a", 26)
	for _, s := range []string{`{"run":"` + id + `","tasks":[{"id":"` + id + `"}]}`, `{"type":"submitted","submitted":{"run":"` + id + `","tasks":null}}` + "\n" + `{"type":"output","data_base64":"*"}`,
		`{"type":"submitted","submitted":{}}{"type":"error","error":{"code":"x","message":"a\u001b\n"}}`, "data:{\"seq\":1,\"event\":\"task\"}\n\ndata: {\n", `{"error":{"code":"full","message":"m"}}`, `{"error":null}`,
		`[{"id":"x","data":[1e999]}]`, `[`, ``, `<html>`, "\xff\x00", strings.Repeat("[", 20_000), `{"type":"submitted","index":-1}`, "data:" + strings.Repeat("x", 60_000)} {
		f.Add(200, s)
		f.Add(503, s)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		bounds.Input(t, body)
		c := newClient("unix:///x", "http://scagent", nil)
		c.http.Transport = liar{status, body}
		ctx := context.Background()
		defer bounds.Check(t)()
		var errs []error
		note := func(err error) {
			if err != nil && err != io.EOF {
				errs = append(errs, err)
			}
		}
		_, err := c.Info(ctx)
		note(err)
		_, err = c.Members(ctx)
		note(err)
		note(c.SetAvailable(ctx, true))
		_, _, err = c.PutBlob(ctx, strings.NewReader("x"))
		note(err)
		if s, err := c.SubmitFollow(ctx, api.SubmitRequest{}); err != nil {
			note(err)
		} else {
			n := 0
			for ; err == nil && n <= len(body); n++ {
				_, err = s.Next()
			}
			note(err)
			if n > len(body) {
				t.Errorf("%d events in %d bytes", n, len(body))
			}
			s.Close()
		}
		if s, err := c.Events(ctx, 0); err != nil {
			note(err)
		} else {
			for n := 0; err == nil && n <= len(body); n++ {
				_, err = s.Next()
			}
			note(err)
			s.Close()
		}
		_, err = c.SendEvent(ctx, api.SendRequest{Event: "x"})
		note(err)
		for _, err := range c.RequestEvent(ctx, api.SendRequest{Event: "x"}) {
			note(err)
		}
		for _, err := range errs {
			var e *api.Error
			if !errors.As(err, &e) && strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("%d %q: %q is no line", status, body, err)
			}
		}
	})
}
