package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/api/apitest"
	"github.com/scagent/scagent/agent/port/memnet"
)

// TestSlowClientsWithoutTheToken keep a connection for seconds, whatever they
// think of; who has the token may take its time.
func TestSlowClientsWithoutTheToken(t *testing.T) {
	const host, auth = "Host: " + ownHost + "\r\n", "Authorization: Bearer " + ownToken + "\r\n"
	for _, c := range []struct {
		name, fast, slow string // what is sent at once, and then a byte a second
		status           int    // 0: none that is good
		from, to         time.Duration
	}{
		{"nothing", "", "", 0, 5 * time.Second, 5 * time.Second},
		{"a slow head", "", "GET /v1/info HTTP/1.1\r\n" + host + auth + "\r\n", 0, 5 * time.Second, 6 * time.Second},
		{"a head without an end", "GET /healthz HTTP/1.1\r\n" + host, strings.Repeat("X: y\r\n", 100), 0, 5 * time.Second, 6 * time.Second},
		{"a slow body without the token", "PUT /v1/data HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\n", strings.Repeat("1", 99), 401, 0, 6 * time.Second},
		{"chunks without an end", "PUT /v1/data HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\n1\r\n", 100), 401, 0, 6 * time.Second},
		{"a slow body for another host", "PUT /v1/data HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\n", strings.Repeat("1", 99), 421, 0, 6 * time.Second},
		{"a slow body where none is wanted", "GET /healthz HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\n", strings.Repeat("1", 99), 200, 0, 6 * time.Second},
		{"one request after the other", "GET /healthz HTTP/1.1\r\n" + host + "\r\n", strings.Repeat("GET /healthz HTTP/1.1\r\n"+host+"\r\n", 10), 200, 0, 6 * time.Second},
		{"nothing after an answer", "GET /readyz HTTP/1.1\r\n" + host + "\r\n", "", 200, 0, 6 * time.Second},
		{"a slow body with the token", "PUT /v1/data HTTP/1.1\r\n" + host + auth + "Content-Length: 100\r\nContent-Type: application/json\r\n\r\n", strings.Repeat("1", 100), 200, 150 * time.Second, 170 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := memnet.New()
				l, p, err := network.Host("10.0.0.1").Listen(t.Context(), "10.0.0.1:1")
				if err != nil {
					t.Fatal(err)
				}
				p.Close()
				b := apitest.New(t, run)
				srv := api.NewServer(api.NewHandler(b, api.Options{Token: ownToken, Hosts: ownHosts}))
				go srv.Serve(l)
				defer srv.Close()
				conn, err := network.Host("10.0.0.2").Dial(t.Context(), "10.0.0.1:1")
				if err != nil {
					t.Fatal(err)
				}
				begin, written := time.Now(), make(chan struct{})
				defer func() { conn.Close(); <-written }()
				go func() {
					defer close(written)
					io.WriteString(conn, c.fast)
					for i := range len(c.slow) {
						time.Sleep(time.Second)
						if _, err := conn.Write([]byte{c.slow[i]}); err != nil {
							return
						}
					}
				}()
				r := bufio.NewReader(conn)
				status := 0
				if resp, err := http.ReadResponse(r, nil); err == nil && resp.StatusCode != 400 { // which says that the request ended
					status = resp.StatusCode
				}
				io.Copy(io.Discard, r) // until it is closed
				if took := time.Since(begin); status != c.status || took < c.from || took > c.to {
					t.Errorf("it was answered %d, and cut off after %s; want %d, after %s to %s", status, took, c.status, c.from, c.to)
				}
			})
		})
	}
}

// TestConnectionsAreBounded has more clients than there may be connections: the
// rest waits, and then is served too.
func TestConnectionsAreBounded(t *testing.T) {
	l := &counting{Listener: listenTCP(t, "127.0.0.1:0"), full: make(chan struct{})}
	srv := api.NewServer(api.NewHandler(nil, api.Options{Token: ownToken, Hosts: []string{"agent"}}))
	srv.ReadHeaderTimeout = time.Hour // else the first ones end while a busy machine opens the others
	go srv.Serve(l)
	defer srv.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var idle, waiting []net.Conn
	for range api.MaxConns {
		idle = append(idle, dial())
	}
	<-l.full
	for range 50 {
		waiting = append(waiting, dial())
	}
	for _, c := range idle {
		c.Close()
	}
	for i, c := range waiting {
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: agent\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("client %d behind the bound: %v", i, err)
		}
		if resp.StatusCode != 200 {
			t.Errorf("client %d behind the bound: %s", i, resp.Status)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most != api.MaxConns {
		t.Errorf("there were %d connections at once, want at most %d", l.most, api.MaxConns)
	}
}

// counting counts the connections of a listener that are open.
type counting struct {
	net.Listener
	full chan struct{} // closed when there are as many as may be

	mu         sync.Mutex // guards the fields below
	open, most int
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open++; l.open == api.MaxConns && l.most < l.open {
		close(l.full)
	}
	l.most = max(l.most, l.open)
	return &counted{Conn: c, l: l}, nil
}

type counted struct {
	net.Conn
	l    *counting
	once sync.Once
}

// Close counts before the bound lets another in, as the state that a server tells of a
// connection does not.
func (c *counted) Close() error {
	c.once.Do(func() {
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		c.l.open--
	})
	return c.Conn.Close()
}
