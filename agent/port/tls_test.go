package port_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/agent/port"
	"github.com/scagent/scagent/agent/port/memnet"
)

// serverTLS makes the configuration of a server with a certificate of its own.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"sc-gossip/1", "sc-link/1", "http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
}

func TestTLSIsSortedByProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA), TLS: serverTLS(t)})
		client := open(t, port.Config{Bind: ipB, Network: n.Host(ipB)})
		for sort, l := range map[port.Sort]net.Listener{port.SortGossip: p.Gossip(), port.SortLink: p.Links(), port.SortHTTP: p.HTTP()} {
			c, err := client.DialAs(t.Context(), sort, p.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatalf("%v: %v", sort, err)
			}
			io.WriteString(c, "x")
			got := accept(t, l)
			wantText(t, got, "x")
			if s, ok := got.(*tls.Conn); !ok || s.ConnectionState().NegotiatedProtocol != sort.ALPN() {
				t.Errorf("%v: handed on is a %T", sort, got)
			}
			time.Sleep(time.Minute) // no deadline is left
			io.WriteString(c, "y")
			wantText(t, got, "y")
			c.Close()
		}
		if got := p.Stats(); got.Sorted[port.SortTLS] != 3 || got.Sorted[port.SortLink] != 1 || got.Strangers != 0 {
			t.Errorf("Stats() = %+v; want 3 of TLS, 1 of them a link, no strangers", got)
		}
	})
}

func TestWhoDoesNotShakeHandsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA), TLS: serverTLS(t)})
		for _, plain := range []string{"\x5cSCL", "\x04x", "\x00"} {
			wantClosed(t, dial(t, p, plain))
		}
		web := dial(t, p, "GET /hostsAvailable HTTP/1.1\r\nHost: x\r\n\r\n")
		if answer, _ := io.ReadAll(web); !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || !strings.HasSuffix(string(answer), "use https instead\n") ||
			!strings.Contains(string(answer), "Content-Length: 42\r\n") {
			t.Errorf("plain HTTP is answered %q", answer)
		}
		wantClosed(t, dial(t, p, "\x16\x03\x01\x00\x02xx"))
		started := time.Now()
		wantClosed(t, dial(t, p, "\x16\x03"))
		if took := time.Since(started); took != 5*time.Second {
			t.Errorf("a handshake that stands still is ended after %v, want 5s", took)
		}
		synctest.Wait() // the end of the handshake closes the connection, and is counted then
		if got := p.Stats(); got.Refused[port.RefusedPlain] != 4 || got.Refused[port.RefusedHandshake] != 2 || got.Strangers != 0 {
			t.Errorf("Stats() = %+v; want 4 plain, 2 handshakes refused, no strangers", got)
		}
	})
}

// Who speaks plain HTTP is told so, and counts as a stranger until it is gone.
func TestPlainHTTPOfStrangersIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA), TLS: serverTLS(t)})
		for range 100 {
			c, err := p.Dial(t.Context(), p.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") // an error: it was refused at once; who was not reads nothing
			synctest.Wait()
		}
		if got := p.Stats(); got.Strangers != 32 || got.Refused[port.RefusedSource] != 100-32 {
			t.Errorf("Stats() = %+v; want 32 strangers of the one source, the rest refused", got)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := p.Stats(); got.Strangers != 0 || got.Refused[port.RefusedPlain] != 32 {
			t.Errorf("5s later Stats() = %+v; want no strangers, 32 told", got)
		}
	})
}

func TestDialAsSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		p := open(t, port.Config{Bind: ipA, Network: n.Host(ipA)})
		client := open(t, port.Config{Bind: ipB, Network: n.Host(ipB)})
		_, err := client.DialAs(t.Context(), port.SortLink, p.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err == nil || !strings.Contains(err.Error(), "do both nodes have the same secret?") {
			t.Errorf("TLS to a port without: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		silent := listenSilent(t, n)
		if _, err := client.DialAs(ctx, port.SortLink, silent, &tls.Config{InsecureSkipVerify: true}); err == nil || time.Since(time.Time{}) == 0 {
			t.Errorf("TLS to a silent port: %v", err)
		}
	})
}

// listenSilent opens a port that accepts and says nothing.
func listenSilent(t *testing.T, n *memnet.Network) string {
	l, pc, err := n.Host("10.0.0.3").Listen(t.Context(), "10.0.0.3:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); pc.Close() })
	return l.Addr().String()
}

// A5, A6, A10 of strangers: a thousand that begin a handshake and stop.
func TestHandshakesOfStrangersAreBounded(t *testing.T) {
	p := open(t, port.Config{Bind: "127.0.0.1:0", TLS: serverTLS(t)})
	before := heap()
	var hello bytes.Buffer
	hello.WriteString("\x16\x03\x01\x40\x00") // a record of 16 KiB, of which one byte comes
	hello.WriteByte(1)
	refused := 0
	for range 1000 {
		c, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			refused++
			continue
		}
		t.Cleanup(func() { c.Close() })
		c.Write(hello.Bytes())
	}
	deadline := time.After(patience)
	for p.Stats().Refused[port.RefusedSource]+uint64(refused) < 1000-32 {
		select {
		case <-deadline:
			t.Fatalf("%d of 1000 refused, want all but 32", p.Stats().Refused[port.RefusedSource])
		default:
			runtime.Gosched()
		}
	}
	if n := p.Stats().Strangers; n > 32 {
		t.Errorf("%d handshakes at once from one source, want at most 32", n)
	}
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("they take %d bytes, want at most 8 MiB", grown)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
