package agent_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/home"
)

// localAPI are the doors of the local API. It asks for nothing of the cluster: it is
// this host's.
var localAPI = []door{
	{"local API over TCP with the token", func(t *testing.T, h *host, c *caller) bool {
		return byAPI(t, h, http.DefaultClient, h.Info().HTTP, "Bearer "+h.token)
	}},
	{"local API over TCP with what the caller has", func(t *testing.T, h *host, c *caller) bool {
		for _, auth := range c.claims() {
			if byAPI(t, h, http.DefaultClient, h.Info().HTTP, auth) {
				return true
			}
		}
		return false
	}},
	{"local API over its socket as the agent's user", func(t *testing.T, h *host, c *caller) bool {
		return byAPI(t, h, socketClient(h.socket), "http://agent", "")
	}},
	{"local API over its socket as another user", func(t *testing.T, h *host, c *caller) bool {
		return asNobody(t, "SCAGENT_TEST_SOCKET="+h.socket)
	}},
}

// openAPI reads the token, and gives the host a socket, which a temporary agent has
// not, where no client looks for one.
func (h *host) openAPI(t *testing.T) {
	t.Helper()
	token, err := os.ReadFile(h.Info().TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	h.token = strings.TrimSpace(string(token))
	env := home.OSEnv()
	env.Root, env.Getenv = t.TempDir(), func(string) string { return "" }
	place, err := home.Claim(home.Options{Env: &env, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	l, err := place.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s := api.NewServer(h.APIHandler())
	go s.Serve(l)
	t.Cleanup(func() { s.Close(); place.Release() })
	h.socket = place.Socket
}

// claims are what a caller could put into the Authorization header.
func (c *caller) claims() []string {
	if c.secret == nil {
		return []string{"", "Bearer ", "Bearer x"}
	}
	return []string{c.secret.SignRequest("GET", "/v1/info", nil, time.Now()), "Bearer " + c.secret.Text(), "Bearer " + c.secret.Cluster()}
}

// byAPI asks the local API who the agent is.
func byAPI(t *testing.T, h *host, client *http.Client, url, auth string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/v1/info", nil)
	if err != nil {
		t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK && res.StatusCode != http.StatusUnauthorized {
		t.Errorf("GET /v1/info: %s %q, %v; want 200 or 401", res.Status, b, err)
	}
	return strings.Contains(string(b), h.Self().ID)
}

func socketClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) },
	}}
}

// TestOpenSocket is what asNobody runs.
func TestOpenSocket(t *testing.T) {
	path := os.Getenv("SCAGENT_TEST_SOCKET")
	if path == "" {
		return
	}
	res, err := socketClient(path).Get("http://agent/v1/info")
	if err != nil {
		t.Fatal("refused: ", err)
	}
	res.Body.Close()
	t.Log("opened: ", res.Status)
}
