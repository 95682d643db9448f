//go:build linux

package test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/wire"
)

// Attacks by connections.
func init() {
	attacks["promise"] = (*attacker).promise
	attacks["idle"] = (*attacker).idle
	attacks["handshake"] = (*attacker).handshake
	attacks["offer"] = (*attacker).offer
	attacks["request"] = (*attacker).request
	attacks["upload"] = (*attacker).upload
}

// heldConnection notes all that is read from it.
type heldConnection struct {
	net.Conn
	a *attacker
}

func (c heldConnection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.a.hear(b[:n])
	}
	return n, err
}

// dial opens the i-th connection to a victim, from one of the attacker's addresses
// after the other.
func (a *attacker) dial(ctx context.Context, i int, v *victim) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a.From[i%len(a.From)])}}
	c, err := d.DialContext(ctx, "tcp4", v.Addr.String())
	if err != nil {
		return nil, err
	}
	return heldConnection{c, a}, nil
}

// foreign returns the configuration of a client with the certificate of another
// secret, or with none, that takes any server, and notes what that one shows.
func (a *attacker) foreign(sort port.Sort, certificate bool) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{sort.ALPN()}}
	if certificate {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		keys, err := secret.NewKeyring(secret.Config{Chain: secret.Chain{{Secret: secret.New()}}, Key: key})
		if err != nil {
			panic(err)
		}
		c = keys.Client(sort.ALPN(), "")
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		for _, cert := range cs.PeerCertificates {
			a.see(cert.Raw)
		}
		return nil
	}
	return c
}

// each starts f for a new connection so many times a second, and waits for the end
// of all. f closes nothing: its connection is closed when it returns.
func (a *attacker) each(ctx context.Context, what string, perSecond int, f func(ctx context.Context, i int, c net.Conn, v *victim)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	return pace(ctx, perSecond, func(i int) error {
		wg.Go(func() {
			v := &a.Victims[i%len(a.Victims)]
			c, err := a.dial(ctx, i/len(a.Victims), v)
			if err != nil {
				a.count(what+" not connected", 1)
				return
			}
			a.count(what, 1)
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })()
			f(ctx, i, c, v)
		})
		return nil
	})
}

// promise sends the beginning of what would be large: A5, A6, A10.
func (a *attacker) promise(ctx context.Context) error {
	starts := [][]byte{
		gossipMessage(gossipPushPull, map[string]any{"Nodes": 1 << 20, "UserStateLen": 0, "Join": true}),
		gossipMessage(gossipPushPull, map[string]any{"Nodes": 0, "UserStateLen": 20 << 20, "Join": true}),
		gossipMessage(gossipPushPull, map[string]any{"Nodes": 5000, "UserStateLen": 1 << 20, "Join": false}), // allowed, and then nothing
		gossipMessage(gossipUser, map[string]any{"UserMsgLen": 20 << 20}),
		{gossipEncrypt, 1, 0x3f, 0xff, 0xff},
		[]byte(wire.Preamble + "\xff\xff\xff\xff\x01"),
		[]byte(wire.Preamble + "\x00\x10\x00\x00\x01"),
		[]byte("\x16\x03\x01\xff\xff\x01\x00\xff\xff"),
		[]byte("POST /hostsAvailable HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\n\r\n{"),
	}
	return a.each(ctx, "promises", 20, func(_ context.Context, i int, c net.Conn, _ *victim) {
		b := starts[i/len(a.Victims)%len(starts)]
		if b[0] < 0x16 {
			b = a.labelled(b)
		}
		c.Write(b)
		io.Copy(io.Discard, c)
	})
}

// idle opens connections and keeps them, in various stages of a beginning.
func (a *attacker) idle(ctx context.Context) error {
	return a.each(ctx, "idle connections", 300, func(ctx context.Context, i int, c net.Conn, _ *victim) {
		switch i / len(a.Victims) % 8 {
		default: // says nothing
		case 1:
			c.Write([]byte{0x16})
		case 2:
			c.Write(a.labelled(nil))
		case 3: // a handshake, a byte at a time
			c = slowly{c}
			tls.Client(c, a.foreign(port.SortHTTP, false)).HandshakeContext(ctx)
		case 4: // HTTP without an end to its head
			s := tls.Client(c, a.foreign(port.SortHTTP, false))
			if s.HandshakeContext(ctx) == nil {
				io.WriteString(s, "GET / HTTP/1.1\r\nHost: ")
				io.Copy(io.Discard, s)
			}
		case 5: // HTTP that is kept open after an answer
			var s net.Conn = tls.Client(c, a.foreign(port.SortHTTP, false))
			if s.(*tls.Conn).HandshakeContext(ctx) != nil {
				if s, _ = a.dial(ctx, i, &a.Victims[i%len(a.Victims)]); s == nil {
					return
				}
				defer s.Close()
				defer context.AfterFunc(ctx, func() { s.SetDeadline(time.Now()) })()
			}
			io.WriteString(s, "GET /hostsAvailable HTTP/1.1\r\nHost: x\r\n\r\n")
			io.Copy(io.Discard, s)
		}
		io.Copy(io.Discard, c)
	})
}

// slowly writes a byte at a time.
type slowly struct{ net.Conn }

func (c slowly) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		_, err = c.Conn.Write(b[n : n+1])
		n++
		time.Sleep(100 * time.Millisecond)
	}
	return n, err
}

// handshake comes with a certificate of another secret, and with none, for each
// protocol, and speaks it as if that had been enough.
func (a *attacker) handshake(ctx context.Context) error {
	return a.each(ctx, "handshakes", 20, func(ctx context.Context, i int, c net.Conn, v *victim) {
		i /= len(a.Victims)
		sort := port.Sort(i % 3)
		s := tls.Client(c, a.foreign(sort, i/3%2 == 0))
		if s.HandshakeContext(ctx) != nil {
			return
		}
		s.Write(map[port.Sort][]byte{
			port.SortGossip: a.labelled(gossipMessage(gossipPushPull, map[string]any{"Nodes": 0, "UserStateLen": 0, "Join": true})),
			port.SortLink:   []byte(wire.Preamble + "\x00\x00\x00\x30\x01"),
			port.SortHTTP:   []byte("GET /hostsAvailable HTTP/1.1\r\nHost: x\r\n\r\n"),
		}[sort])
		if n, _ := io.Copy(io.Discard, s); n > 0 && sort != port.SortHTTP {
			a.count("answers to strangers", 1)
		}
	})
}

// offer offers tasks over links that nothing, or the wrong thing, has proved.
func (a *attacker) offer(ctx context.Context) error {
	task := &tasks.Task{Kind: tasks.Command, Shell: fmt.Sprintf("echo ran >> %s", a.Mark)}
	return a.each(ctx, "offers", 5, func(ctx context.Context, i int, c net.Conn, v *victim) {
		hub, err := wire.NewHub(wire.Config{
			Self:  wire.Hello{Node: ghost(i), Boot: "1", Cluster: a.Cluster, Name: "attacker"},
			Lease: 2 * time.Second,
			Dial: func(ctx context.Context, _ string) (net.Conn, error) {
				if i/len(a.Victims)%3 == 0 {
					return c, nil
				}
				s := tls.Client(c, a.foreign(port.SortLink, i%2 == 0))
				return s, s.HandshakeContext(ctx)
			},
		})
		if err != nil {
			panic(err)
		}
		hub.Start()
		defer hub.Close()
		l, err := hub.Connect(ctx, v.ID)
		if err != nil {
			return
		}
		a.count("links to strangers", 1)
		var id tasks.ID
		rand.Read(id[:])
		l.SendOffer(&wire.Offer{Key: wire.Key{Task: id, N: 1}, Slots: 1, Spec: wire.AppendTask(nil, task)})
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	})
}

// requests are what the public server, and the local API, might answer.
func (a *attacker) requests(i int) []*http.Request {
	request := func(method, path, body string, headers ...string) *http.Request {
		r, err := http.NewRequest(method, "http://victim"+path, strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		for k := 0; k < len(headers); k += 2 {
			r.Header.Set(headers[k], headers[k+1])
		}
		return r
	}
	run := fmt.Sprintf(`{"task":{"kind":"command","shell":"echo ran >> %s"},"target":{"all":true}}`, a.Mark)
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(canary)))
	signed := "SC1 ts=" + fmt.Sprint(time.Now().Unix()) + ",nonce=00112233445566778899aabbccddeeff,sig=" + hash
	return []*http.Request{
		request("GET", "/hostsAvailable", ""),
		request("GET", "/hostsAvailable", "", "Authorization", signed),
		request("POST", "/hostsAvailable", fmt.Sprintf(`{"addr":"10.77.0.99","port":%d,"role":"worker"}`, 1+i%60000)),
		request("POST", "/", fmt.Sprintf(`{"services":{"s%d":{"id":"s%d","name":"worker","data":{"port":9},"available":true}}}`, i, i)),
		request("GET", "/scagent/v1/secret", "", "Authorization", signed),
		request("GET", "/scagent/v1/document/"+hash[:32], ""),
		request("GET", "/scagent/v1/blob/"+hash, "", "Authorization", "Bearer "+hash),
		request("GET", "/scagent/v1/blob/../../../etc/passwd", ""),
		request("GET", "/v1/info", ""), request("GET", "/v1/members", ""), request("POST", "/v1/tasks", run, "Content-Type", "application/json"),
		request("PUT", "/v1/data", `{"evil":1}`), request("OPTIONS", "/hostsAvailable", ""), request("TRACE", "/", ""),
		request("GET", "/hostsAvailable", "", "X-Long", strings.Repeat("x", 20<<10)),
	}
}

// request asks the public server all that there is to ask, in the plain and over
// TLS, with the wrong certificate and with none.
func (a *attacker) request(ctx context.Context) error {
	return a.each(ctx, "connections for requests", 10, func(ctx context.Context, i int, c net.Conn, v *victim) {
		transport := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				c, err := a.dial(ctx, i, v)
				if err != nil || i/len(a.Victims)%3 == 0 {
					return c, err
				}
				s := tls.Client(c, a.foreign(port.SortHTTP, i/len(a.Victims)%3 == 1))
				return s, s.HandshakeContext(ctx)
			},
			IdleConnTimeout: time.Second,
		}
		defer transport.CloseIdleConnections()
		for _, r := range a.requests(i) {
			res, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(r.WithContext(ctx))
			if err != nil {
				a.count("requests without answer", 1)
				continue
			}
			var b bytes.Buffer
			io.Copy(&b, io.LimitReader(res.Body, 1<<20))
			res.Body.Close()
			a.hear(b.Bytes()) // what TLS had hidden
			a.count(fmt.Sprintf("answers %d", res.StatusCode), 1)
		}
	})
}

// upload sends large bodies in requests that nothing has signed, all but their last
// byte.
func (a *attacker) upload(ctx context.Context) error {
	const size = 1 << 20
	body := make([]byte, size-1)
	return a.each(ctx, "uploads", 6, func(ctx context.Context, i int, c net.Conn, _ *victim) {
		s := tls.Client(c, a.foreign(port.SortHTTP, false))
		if err := s.HandshakeContext(ctx); err != nil {
			return
		}
		fmt.Fprintf(s, "POST /hostsAvailable HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nAuthorization: SC1 ts=%d,nonce=%032x,sig=00\r\n\r\n", size, time.Now().Unix(), i)
		if _, err := s.Write(body); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			a.count("uploads cut off", 1)
		}
		io.Copy(io.Discard, s)
	})
}
