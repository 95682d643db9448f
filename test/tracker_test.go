//go:build linux

package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostList is what a tracker answers.
type hostList struct {
	Masters, Workers []struct {
		Addr string          `json:"addr"`
		Port int             `json:"port"`
		Data json.RawMessage `json:"data"`
	}
}

func (l *hostList) masters() (s []string) {
	for _, h := range l.Masters {
		s = append(s, fmt.Sprintf("%s:%d %s", h.Addr, h.Port, h.Data))
	}
	slices.Sort(s)
	return s
}

func (l *hostList) workers() (s []string) {
	for _, h := range l.Workers {
		s = append(s, fmt.Sprintf("%s:%d %s", h.Addr, h.Port, h.Data))
	}
	slices.Sort(s)
	return s
}

func TestATrackerAnswersPlainHTTP(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	l := newLab(t)
	hosts := l.hosts(4)
	tracker := hosts[0].agent("-name", "t", "-role", "tracker")
	both := hosts[1].agent("-name", "both", "-data", `{"gpu":"a100"}`)
	worker := hosts[2].agent("-name", "worker", "-role", "worker", "-bind", "10.77.0.3:5000", "-data", "[1]")
	assemble(t, patience, tracker, both, worker)
	plain := hosts[3] // without an agent
	const url = "http://10.77.0.1:44201/hostsAvailable"

	wantMasters := []string{`10.77.0.2:44201 {"gpu":"a100"}`}
	wantWorkers := []string{`10.77.0.2:44201 {"gpu":"a100"}`, `10.77.0.3:5000 [1]`}
	check := func(t *testing.T, text string) {
		t.Helper()
		list := decode[hostList](t, text)
		if !slices.Equal(list.masters(), wantMasters) || !slices.Equal(list.workers(), wantWorkers) {
			t.Errorf("the tracker answers %s\nwant masters %q, workers %q", text, wantMasters, wantWorkers)
		}
	}
	l.run(t, "curl", func(t *testing.T) { check(t, plain.sh("curl -sS -f "+url).ok(t)) })
	l.run(t, "HTTP/1.0", func(t *testing.T) {
		var answer []byte
		var err error
		plain.inside(func() {
			var c net.Conn
			if c, err = net.DialTimeout("tcp", "10.77.0.1:44201", patience); err != nil {
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, "GET /hostsAvailable HTTP/1.0\r\n\r\n")
			answer, err = io.ReadAll(c)
		})
		head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
		if err != nil || !strings.HasPrefix(head, "HTTP/1.0 200 ") && !strings.HasPrefix(head, "HTTP/1.1 200 ") {
			t.Fatalf("the answer is %q, %v", answer, err)
		}
		check(t, body)
	})
	l.run(t, "a worker out of use is not listed", func(t *testing.T) {
		for i, on := range []string{"off", "on"} {
			want := wantWorkers[:1+i]
			worker.call("available", on).want(t, 0, "")
			eventually(t, patience, "the tracker says so", func() (bool, any) {
				list := decode[hostList](t, plain.sh("curl -sS -f "+url).ok(t))
				return slices.Equal(list.workers(), want), list.workers()
			})
		}
	})
	l.run(t, "who announces itself is listed for others", func(t *testing.T) {
		const post = `curl -sS -f -d '{"addr":"10.77.0.4","port":9000,"role":"worker","data":{"x":1}}' ` + url
		wantWorkers = append(wantWorkers, `10.77.0.4:9000 {"x":1}`)
		check(t, plain.sh(post).ok(t))
		again := start(t, plain.Command("sh", "-c", "while "+post+" >/dev/null; do sleep 1; done"))
		eventually(t, patience, "others see it", func() (bool, any) {
			list := decode[hostList](t, hosts[1].sh("curl -sS -f "+url).ok(t))
			return slices.Equal(list.workers(), wantWorkers), list.workers()
		})
		again.kill()
		wantWorkers = wantWorkers[:2]
		took := eventually(t, patience, "it is gone when it does not announce itself again", func() (bool, any) {
			out := plain.sh("curl -sS -f " + url).ok(t)
			return !strings.Contains(out, "10.77.0.4"), out
		})
		t.Logf("an announcement is forgotten after %s", took.Round(time.Millisecond))
	})
	l.run(t, "what is no announcement is refused", func(t *testing.T) {
		for _, body := range []string{"{", "[]", `{"addr":"10.77.0.4","port":0,"role":"worker"}`, `{"addr":"10.77.0.4","port":9000,"role":"king"}`, strings.Repeat(" ", 200<<10)} {
			cmd := plain.Command("curl", "-sS", "-w", " %{http_code}", "--data-binary", "@-", url)
			cmd.Stdin = strings.NewReader(body)
			out := start(t, cmd).await().ok(t)
			if !strings.Contains(out, `"error":{"code":"`) || !strings.Contains(out, " 4") {
				t.Errorf("the tracker answers %.50q with %s", body, out)
			}
		}
		check(t, plain.sh("curl -sS -f "+url).ok(t))
	})
}
