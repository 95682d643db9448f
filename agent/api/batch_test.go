package api_test

import (
	"net/http"
	"testing"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
)

// What else there is to batches is tested from the client's side.
func TestBadBatches(t *testing.T) {
	h := api.NewHandler(apitest.New(t, run), api.Options{})
	for _, c := range []struct {
		name, body string
		words      string
	}{
		{"nothing", "", "empty"},
		{"no JSON", "{\n", "ends too early"},
		{"an unknown field", `{"task":{}}` + "\n", "unknown field"},
		{"two on a line", "{}{}\n", "goes on after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask(t, h, "POST", "/v1/batches", c.body).refused(http.StatusBadRequest, api.CodeBadRequest, c.words)
		})
	}
	ask(t, h, "POST", "/v1/batches", "{}\n", "Content-Type", "application/json").refused(http.StatusUnsupportedMediaType, api.CodeBadType, api.NDJSON)
	h = api.NewHandler(apitest.New(t, run), api.Options{Hosts: []string{"scagent"}})
	ask(t, h, "POST", "/v1/batches", "{}\n", "Content-Type", "application/x-www-form-urlencoded").refused(http.StatusUnsupportedMediaType, api.CodeBadType, api.NDJSON)
}

func TestCancelOfWhatWaitsHasNoReason(t *testing.T) {
	b := apitest.New(t, run)
	h := api.NewHandler(b, api.Options{})
	s := submitted(t, h, `{"task":{"kind":"command","argv":["echo"]}}`)
	ask(t, h, "POST", "/v1/tasks/"+s.Run.String()+"/cancel", `{"queued":true,"reason":"kill"}`).refused(http.StatusBadRequest, api.CodeBadRequest, "exclude each other")
}
