package tracker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// MaxAnswerBytes is the largest answer that the client reads.
const MaxAnswerBytes = 16 << 20

// Announce announces h to the tracker and returns the hosts it lists. Of h,
// LastSeen is not sent; an empty Addr means the one that the tracker sees.
// baseURL is http://host:port or https://host:port. ctx bounds the whole
// exchange. A nil client is http.DefaultClient.
func Announce(ctx context.Context, client *http.Client, baseURL string, h Host) (Hosts, error) {
	body := announcement{Addr: h.Addr, Port: h.Port, Roles: h.Roles, Data: h.Data, ID: h.ID, Name: h.Name, Available: h.Available, Slots: h.Slots}
	b, err := json.Marshal(&body)
	if err != nil {
		return Hosts{}, fmt.Errorf("announce to tracker: data is not JSON: %w", err)
	}
	if len(b) > MaxBodyBytes || len(h.Data) > MaxDataBytes {
		return Hosts{}, fmt.Errorf("announce to tracker: data takes %d bytes, at most %d", len(h.Data), MaxDataBytes)
	}
	return exchange(ctx, client, http.MethodPost, baseURL, b)
}

// List returns the hosts that the tracker lists. See Announce.
func List(ctx context.Context, client *http.Client, baseURL string) (Hosts, error) {
	return exchange(ctx, client, http.MethodGet, baseURL, nil)
}

// announcement is the body that Announce sends.
type announcement struct {
	Addr      string          `json:"addr,omitempty"`
	Port      int             `json:"port"`
	Roles     []string        `json:"roles"`
	Data      json.RawMessage `json:"data,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Available bool            `json:"available"`
	Slots     int             `json:"slots,omitempty"`
}

func exchange(ctx context.Context, client *http.Client, method, baseURL string, body []byte) (Hosts, error) {
	u, err := url.Parse(baseURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return Hosts{}, fmt.Errorf("tracker %q: want http://host:port or https://host:port", baseURL)
	}
	u.RawQuery, u.Fragment = "", ""
	if !strings.HasSuffix(u.Path, Path) {
		u = u.JoinPath(Path)
	}
	hosts, err := roundTrip(ctx, client, method, u.String(), body)
	if err != nil {
		return Hosts{}, fmt.Errorf("tracker %s: %w", u.Redacted(), err)
	}
	return hosts, nil
}

func roundTrip(ctx context.Context, client *http.Client, method, target string, body []byte) (Hosts, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return Hosts{}, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if client == nil {
		client = http.DefaultClient
	}
	c := *client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(req)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // the caller names the URL
		}
		return Hosts{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswerBytes+1))
	switch {
	case err != nil:
		return Hosts{}, fmt.Errorf("read the answer: %w", err)
	case len(b) > MaxAnswerBytes:
		return Hosts{}, fmt.Errorf("the answer is more than %d bytes", MaxAnswerBytes)
	case resp.StatusCode/100 == 3:
		return Hosts{}, fmt.Errorf("it redirects to %.200q; use the address of the tracker itself", resp.Header.Get("Location"))
	case resp.StatusCode != http.StatusOK:
		return Hosts{}, statusError(resp.Status, b)
	}
	return parseHosts(b, resp.Header.Get("Content-Type"))
}

// statusError says what a tracker said that did not answer 200.
func statusError(status string, body []byte) error {
	var e errorBody
	if json.Unmarshal(body, &e) == nil && e.Error.Message != "" {
		return fmt.Errorf("%q: %.200q", status, e.Error.Message)
	}
	return fmt.Errorf("it answered %.100q; is that a tracker?", status)
}

// parseHosts reads the lists. Hosts that could not be dialled are left out.
func parseHosts(b []byte, contentType string) (Hosts, error) {
	var lists struct {
		Masters *[]json.RawMessage `json:"masters"`
		Workers *[]json.RawMessage `json:"workers"`
	}
	if err := json.Unmarshal(b, &lists); err != nil || lists.Masters == nil || lists.Workers == nil {
		return Hosts{}, fmt.Errorf("the answer (%.60q) is no list of masters and workers; is that a tracker?", contentType)
	}
	return Hosts{Masters: usable(*lists.Masters, Master), Workers: usable(*lists.Workers, Worker)}, nil
}

// maxListed bounds each list that the client returns: a pool's members and
// as many announced hosts.
const maxListed = 2 * MaxHosts

func usable(list []json.RawMessage, role string) []Host {
	hosts := make([]Host, 0, min(len(list), maxListed))
	for _, b := range list {
		if len(hosts) == maxListed {
			break
		}
		if h, ok := listed(b); ok {
			if len(h.Roles) == 0 {
				h.Roles = []string{role}
			}
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// listed reads one host of a list. If the additional fields are not like ours,
// it does without them.
func listed(b []byte) (h Host, ok bool) {
	h.Available = true
	if json.Unmarshal(b, &h) == nil && h.Validate() == nil {
		return h, true
	}
	var least struct {
		Addr string
		Port int
		Data json.RawMessage
	}
	if json.Unmarshal(b, &least) != nil {
		return Host{}, false
	}
	h = Host{Addr: least.Addr, Port: least.Port, Data: least.Data, Available: true}
	return h, h.Validate() == nil
}
