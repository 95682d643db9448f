package tracker

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/scagent/scagent/test/bounds"
)

// answers is a tracker that answers every request alike.
type answers struct {
	status   int
	kind, to string
	body     string
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	h := http.Header{"Content-Type": {a.kind}, "Location": {a.to}}
	return &http.Response{StatusCode: a.status, Status: http.StatusText(a.status), Header: h, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

// FuzzAnswer has a tracker answer anything to the client. The hosts that it takes
// from that can be dialled, and errors are one line.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{`{"masters":[],"workers":[{"addr":"10.0.0.1","port":1,"data":{"a":[1e999]}}]}`, `{"masters":null,"workers":[]}`,
		`{"masters":[{"addr":"h","port":1,"roles":["x"],"slots":-1,"lastSeen":"never"}],"workers":[{"addr":"0x7f.1","port":1},{"addr":"h","port":"1"},7,null]}`,
		`{"error":{"code":"full","message":"a\u001b[2J\nb"}}`, `<html>`, ``, `{`, `[]`, "\xff", `{"masters":[{"Addr":"fe80::1%eth0","port":1}],"workers":[]}`} {
		f.Add(200, "application/json", body)
		f.Add(503, "text/html\x1b", body)
	}
	f.Add(302, "", "")
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		bounds.Input(t, kind, body)
		client := &http.Client{Transport: answers{status, kind, kind, body}}
		defer bounds.Check(t)()
		hosts, err := List(t.Context(), client, "http://tracker:1")
		if err != nil {
			if len(hosts.Masters)+len(hosts.Workers) > 0 || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("List = %+v, %q", hosts, err)
			}
			return
		}
		for _, h := range append(hosts.Masters, hosts.Workers...) {
			if err := h.Validate(); err != nil || strings.ContainsAny(h.HostPort(), "\n \x1b/") || len(h.Roles) == 0 {
				t.Errorf("%q has %+v: %v", body, h, err)
			}
		}
	})
}
