package wire

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/scagent/scagent/tasks"
)

// echoWorker answers each offer with a result, from the link's reader.
type echoWorker struct {
	FromMaster
	outcome tasks.Outcome
}

func (w *echoWorker) Offer(l *Link, o *Offer) {
	w.outcome.Value = o.Spec
	sendResult(l, o.Key, &w.outcome)
}

// countMaster gives a token for each result.
type countMaster struct {
	FromWorker
	tokens chan struct{}
}

func (m *countMaster) Result(*Link, Key, *tasks.Outcome) { m.tokens <- struct{}{} }

// tcpPair returns both ends of a link over loopback TCP, the master's first.
func tcpPair(tb testing.TB, m FromWorker, w FromMaster) (*Link, *Link) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return pairOver(tb, m, w, ln, func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	})
}

// tlsPair is tcpPair with TLS 1.3.
func tlsPair(tb testing.TB, m FromWorker, w FromMaster) (*Link, *Link) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return tlsPairOver(tb, m, w, ln, func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	})
}

// tlsPairOver is pairOver with TLS 1.3.
func tlsPairOver(tb testing.TB, m FromWorker, w FromMaster, ln net.Listener, dial func(context.Context) (net.Conn, error)) (*Link, *Link) {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"worker"}}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	return pairOver(tb, m, w, ln, func(ctx context.Context, node string) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		c := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: node})
		if err := c.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return c, nil
	})
}

func pairOver(tb testing.TB, m FromWorker, w FromMaster, ln net.Listener, dial func(context.Context, string) (net.Conn, error)) (*Link, *Link) {
	tb.Helper()
	up := make(upEvents, 1)
	worker, err := NewHub(Config{Self: Hello{"c", "worker", "1", "w"}, Listener: ln, Worker: w, Events: up})
	if err != nil {
		tb.Fatal(err)
	}
	master, err := NewHub(Config{Self: Hello{"c", "master", "1", "m"}, Master: m, Dial: dial})
	if err != nil {
		tb.Fatal(err)
	}
	worker.Start()
	master.Start()
	tb.Cleanup(func() { master.Close(); worker.Close() })
	l, err := master.Connect(tb.Context(), "worker")
	if err != nil {
		tb.Fatal(err)
	}
	return l, <-up
}

// BenchmarkLink sends offers of a small function and waits for their results,
// with a number of them in flight: two frames for each operation, one in each
// direction, both nodes in this process.
func BenchmarkLink(b *testing.B) {
	for _, inflight := range []int{1, 64, 1000, 10_000} {
		b.Run(fmt.Sprintf("over=tcp/inflight=%d", inflight), func(b *testing.B) { benchLink(b, inflight, tcpPair) })
		b.Run(fmt.Sprintf("over=tls/inflight=%d", inflight), func(b *testing.B) { benchLink(b, inflight, tlsPair) })
	}
}

func benchLink(b *testing.B, inflight int, pair func(testing.TB, FromWorker, FromMaster) (*Link, *Link)) {
	m := &countMaster{tokens: make(chan struct{}, inflight)}
	l, _ := pair(b, m, &echoWorker{outcome: tasks.Outcome{Encoding: tasks.Msgpack, Started: time.Now(), Finished: time.Now()}})
	spec := AppendTask(nil, &tasks.Task{Kind: tasks.Function, Name: "scagent.noop", Packed: []byte{0xc0}})
	o := Offer{Run: tasks.ID{1}, Slots: 1, Spec: spec}
	for range inflight {
		m.tokens <- struct{}{}
	}
	before := l.Stats()
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for b.Loop() {
		<-m.tokens
		n++
		o.N = uint32(n)
		if err := l.SendOffer(&o); err != nil {
			b.Fatal(err)
		}
	}
	for range inflight {
		<-m.tokens
	}
	b.StopTimer()
	s := l.Stats()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "offers/s")
	b.ReportMetric(float64(s.FramesOut-before.FramesOut)/float64(s.Writes-before.Writes), "frames/write")
}

// BenchmarkOutput sends output in pieces of 4 KiB one way.
func BenchmarkOutput(b *testing.B) {
	m := &lengthMaster{done: make(chan struct{})}
	_, w := tcpPair(b, m, &echoWorker{})
	piece := make([]byte, 4<<10)
	b.SetBytes(int64(len(piece)))
	b.ReportAllocs()
	for b.Loop() {
		if err := w.SendOutput(Key{}, Stdout, piece); err != nil {
			b.Fatal(err)
		}
	}
	sendResult(w, Key{}, &tasks.Outcome{})
	<-m.done
}

type lengthMaster struct {
	FromWorker
	done chan struct{}
}

func (m *lengthMaster) Output(*Link, Key, Stream, []byte) {}
func (m *lengthMaster) Result(*Link, Key, *tasks.Outcome) { close(m.done) }

// upEvents passes the first link on.
type upEvents chan *Link

func (e upEvents) Up(l *Link)      { e <- l }
func (upEvents) Down(*Link, error) {}
func (upEvents) Load(*Link, Load)  {}
