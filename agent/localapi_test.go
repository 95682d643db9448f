package agent_test

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/agent/api"
)

func TestAPIOverTCP(t *testing.T) {
	c := agenttest.Loopback(t, 1, agenttest.Option(func(_ int, cfg *agent.Config) { cfg.HTTP = "localhost:0" }))
	a := c.Agent(1)
	info := a.Info()
	if !strings.HasPrefix(info.HTTP, "http://127.0.0.1:") || strings.HasSuffix(info.HTTP, ":0") {
		t.Fatalf("info says HTTP is at %q, want a port of 127.0.0.1", info.HTTP)
	}
	token, err := os.ReadFile(info.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	get := func(token string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", info.HTTP+"/v1/info", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		return http.DefaultTransport.RoundTrip(r)
	}
	resp, err := get(strings.TrimSpace(string(token)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got api.Info
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.ID != info.ID || got.Counters["api_refused"] != 0 {
		t.Errorf("GET /v1/info with the token = %+v, %v; want this agent", got, err)
	}
	if resp, err := get("x"); err != nil || resp.StatusCode != 401 || a.Info().Counters["api_refused"] != 1 {
		t.Errorf("GET /v1/info without the token = %v, %v, counted %d; want 401, and 1", resp, err, a.Info().Counters["api_refused"])
	}
	// Who wants the same port is told before it takes part in anything.
	cfg := agent.DefaultConfig()
	cfg.Temporary, cfg.Multicast, cfg.Bind, cfg.HTTP = true, false, "127.0.0.1:0", strings.TrimPrefix(info.HTTP, "http://")
	cfg.Logger = log.New(failing{t}, "", 0)
	second, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "-http: "+cfg.HTTP+" is taken") {
		t.Errorf("Start of a second agent = %v; want that the port is taken", err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if resp, err := get("x"); err == nil {
		t.Errorf("after Close the port still answers: %s", resp.Status)
	}
}

// failing is a log in which nothing should be written.
type failing struct{ t *testing.T }

func (f failing) Write(b []byte) (int, error) {
	f.t.Errorf("logged %s", b)
	return len(b), nil
}

func TestWhereTheAPICannotBe(t *testing.T) {
	for _, c := range []struct {
		http, group string
		temporary   bool
		want        string
	}{
		{http: "0.0.0.0:8080", want: `-http is "0.0.0.0:8080": it is not a loopback address, and the API is for this host alone; want 127.0.0.1:PORT, and from elsewhere: ssh -L`},
		{http: ":8080", want: "not a loopback address"},
		{http: "192.168.1.1:8080", want: "not a loopback address"},
		{http: "myhost:8080", want: "not a loopback address"},
		{http: "8080", want: `-http is "8080"; want 127.0.0.1:PORT, [::1]:PORT or localhost:PORT`},
		{http: "127.0.0.1:99999", want: "want 127.0.0.1:PORT"},
		{group: "users", temporary: true, want: `APIGroup is "users", and Temporary`},
	} {
		cfg := agent.DefaultConfig()
		cfg.HTTP, cfg.APIGroup, cfg.Temporary = c.http, c.group, c.temporary
		if _, err := agent.New(cfg); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("New with HTTP %q, APIGroup %q = %v; want one line with %q", c.http, c.group, err, c.want)
		}
	}
}
