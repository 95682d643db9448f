package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
)

func TestBenchAnswersALineAFigure(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	p50 := api.Figure{Metric: "noop_latency_p50", Value: 61.2, Unit: "us", N: 20000}
	for _, c := range []struct {
		name, body string
		figures    int
		err        error
		status     int
		want       string // begins the answer
	}{
		{"figures", `{"only":["latency"],"n":20000}`, 2, nil, 200, `{"metric":"noop_latency_p50","value":61.2,"unit":"us","n":20000}` + "\n" + `{"metric":`},
		{"an error first", `{}`, 0, &api.Error{Code: "full", Message: "no", Status: 503}, 503, `{"error":{"code":"full","message":"no"}}`},
		{"an error later", `{}`, 1, errors.New("broke\noff"), 200, `{"metric":"noop_latency_p50","value":61.2,"unit":"us","n":20000}` + "\n" + `{"error":{"code":"internal","message":"broke off"}}` + "\n"},
		{"no body", ``, 1, nil, 400, `{"error":{"code":"bad_request","message":"the body is empty; want JSON"}}`},
		{"unknown field", `{"sizes":1}`, 1, nil, 400, `{"error":{"code":"bad_request","message":"unknown field \"sizes\"`},
		{"another type", `{"n":"7"}`, 1, nil, 400, `{"error":{"code":"bad_request","message":"`},
	} {
		b.OnBench = func(_ context.Context, r api.BenchRequest, report func(api.Figure) error) error {
			for range c.figures {
				if err := report(p50); err != nil {
					return err
				}
			}
			return c.err
		}
		a := ask(t, h, "POST", "/v1/bench", c.body)
		if a.Code != c.status || !strings.HasPrefix(a.Body.String(), c.want) {
			t.Errorf("%s: %d %s; want %d %s", c.name, a.Code, a.Body, c.status, c.want)
		}
		if kind := a.Header().Get("Content-Type"); (kind == "application/x-ndjson") != (c.status == 200) {
			t.Errorf("%s: the answer is %q", c.name, kind)
		}
	}
}
