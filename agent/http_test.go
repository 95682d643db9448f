package agent_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/agenttest"
	"github.com/scagent/scagent/membership"
)

// TestRequestsThatAreNone sends a tracker's port what begins like HTTP and is not
// as it should be. Each is answered with a status or hung up on within a minute,
// announces nobody, and keeps nobody else from being answered.
func TestRequestsThatAreNone(t *testing.T) {
	host := func(i int) string { return fmt.Sprintf(`{"addr":"10.0.9.%d","port":1,"role":"worker"}`, i) }
	post := func(i int, headers string) string {
		return "POST /hostsAvailable HTTP/1.1\r\nHost: t\r\n" + headers + "\r\n" + host(i)
	}
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New(t, 2, agenttest.Option(func(i int, cfg *agent.Config) {
			if i == 1 {
				cfg.Roles = []membership.Role{membership.RoleTracker, membership.RoleMaster}
			}
		}))
		c.WaitMembers(t)
		dial := c.Dialer(1, 2)
		// send returns what is answered until the connection ends.
		send := func(b string, hold bool) (answer string, took time.Duration) {
			t.Helper()
			conn, err := dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			began := time.Now()
			conn.SetDeadline(began.Add(2 * time.Minute))
			go func() {
				io.WriteString(conn, b) // an error: it was hung up
				if !hold {
					if w, ok := conn.(interface{ CloseWrite() error }); ok {
						w.CloseWrite()
					}
				}
			}()
			all, _ := io.ReadAll(conn) // an error: it was reset
			return string(all), time.Since(began)
		}
		length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
		n := len(host(10))
		for i, c := range []struct {
			name, request string
			hold          bool // the connection stays open
			want          string
		}{
			{"lengths that differ", post(10, length(n)+length(n+1)), false, "400"},
			{"a negative length", post(10, length(-1)), false, "400"},
			{"a length that is no number", post(10, "Content-Length: 1e3\r\n"), false, "400"},
			{"a length beyond 2^63", post(10, "Content-Length: 9223372036854775808\r\n"), false, "400"},
			{"a length that promises more", post(10, length(n+100)), false, "400"},
			{"more promised, and silence", post(10, length(n+100)), true, ""},
			{"a length of 100 MB, and silence", post(10, length(100<<20)), true, "400"},
			{"length and chunks", post(10, length(3)+"Transfer-Encoding: chunked\r\n"), false, "400"},
			{"chunks that are none", post(10, "Transfer-Encoding: chunked\r\n"), false, "400"},
			{"chunks without an end", "POST /hostsAvailable HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat(" ", 4096)+"\r\n", 64), true, "413"},
			{"chunks, and silence", "POST /hostsAvailable HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", true, ""},
			{"another transfer encoding", post(10, "Transfer-Encoding: gzip\r\n"), false, "501"},
			{"gzip", post(10, length(n)+"Content-Encoding: gzip\r\n"), false, "415"},
			{"no host", "GET /hostsAvailable HTTP/1.1\r\n\r\n", false, "400"},
			{"two hosts", "GET /hostsAvailable HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", false, "400"},
			{"10,000 headers", "GET /hostsAvailable HTTP/1.1\r\nHost: t\r\n" + strings.Repeat("A: b\r\n", 10_000) + "\r\n", false, "431"},
			{"a header of 1 MB", "GET /hostsAvailable HTTP/1.1\r\nHost: t\r\nA: " + strings.Repeat("b", 1<<20) + "\r\n\r\n", false, "431"},
			{"a query of 1 MB", "GET /hostsAvailable?" + strings.Repeat("b", 1<<20) + " HTTP/1.1\r\nHost: t\r\n\r\n", false, "431"},
			{"a header with a NUL", "GET /hostsAvailable HTTP/1.1\r\nHost: t\r\nA: \x00\r\n\r\n", false, "400"},
			{"a header without an end", "GET /hostsAvailable HTTP/1.1\r\nHost: t\r\nA: b", true, ""},
			{"HTTP/0.9", "GET /hostsAvailable\r\n\r\n", false, "400"},
			{"HTTP/9.9", "GET /hostsAvailable HTTP/9.9\r\nHost: t\r\n\r\n", false, "505"},
			{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08", 1000), false, "400"},
			{"a method of its own", "X\x1b /hostsAvailable HTTP/1.1\r\nHost: t\r\n\r\n", false, "400"},
			{"CONNECT", "CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: t\r\n\r\n", false, "40"},
			{"TRACE", "TRACE /hostsAvailable HTTP/1.1\r\nHost: t\r\n\r\n", false, "405"},
			{"dots", "POST /hostsAvailable/../x HTTP/1.1\r\nHost: t\r\n\r\n", false, "30"},
			{"dots in disguise", "POST /%2e%2e/hostsAvailable/%2e%2e/etc/passwd HTTP/1.1\r\nHost: t\r\n\r\n", false, "404"},
			{"a path that is none", "GET hostsAvailable HTTP/1.1\r\nHost: t\r\n\r\n", false, "400"},
			{"a bare line end", "GET /hostsAvailable HTTP/1.1\nHost: t\nContent-Length: 5\nContent-Length: 6\n\n", false, "400"},
			{"capitals and silence", "GET", true, ""},
		} {
			answer, took := send(c.request, c.hold)
			if status, ok := strings.CutPrefix(answer, "HTTP/1.1 "+c.want); c.want != "" && !ok || c.want == "" && strings.HasPrefix(answer, "HTTP/1.1 2") || took > time.Minute {
				t.Errorf("%s: answered %.80q (%.20q) after %v, want %s", c.name, answer, status, took, c.want)
			}
			if strings.ContainsAny(answer, "\x00\x1b") {
				t.Errorf("%s: the answer has control characters: %q", c.name, answer)
			}
			good := fmt.Sprintf("GET /hostsAvailable HTTP/1.1\r\nHost: t\r\nConnection: close\r\nX-Case: %d\r\n\r\n", i)
			if answer, _ := send(good, false); !strings.HasPrefix(answer, "HTTP/1.1 200") || strings.Contains(answer, "10.0.9.") {
				t.Errorf("after %q the list is %q", c.name, answer)
			}
		}
	})
}
