package worker

import (
	"context"
	"net"
	"testing"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/function"
	"github.com/scagent/scagent/tasks/wire"
)

// acker is a master that acknowledges each result and gives a token for it.
type acker struct {
	wire.FromWorker
	tokens chan struct{}
}

func (m *acker) Started(*wire.Link, wire.Key) {}
func (m *acker) Result(l *wire.Link, k wire.Key, _ *tasks.Outcome) {
	l.SendAck(k, 128)
	m.tokens <- struct{}{}
}

// BenchmarkNoop offers no-op functions over loopback TCP, a number of them in
// flight; both ends are in this process. The allocations are of both.
func BenchmarkNoop(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Slots, cfg.Runners = 2, map[tasks.Kind]Runner{tasks.Function: function.NewRegistry()}
	w, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	const inFlight = 1000
	m := &acker{tokens: make(chan struct{}, inFlight)}
	whub, err := wire.NewHub(wire.Config{Self: wire.Hello{Cluster: "c", Node: "worker", Boot: "1", Name: "w"}, Listener: ln, Worker: w})
	if err != nil {
		b.Fatal(err)
	}
	mhub, err := wire.NewHub(wire.Config{Self: wire.Hello{Cluster: "c", Node: "master", Boot: "1", Name: "m"}, Master: m,
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
		}})
	if err != nil {
		b.Fatal(err)
	}
	whub.Start()
	mhub.Start()
	b.Cleanup(func() { mhub.Close(); whub.Close(); w.Close(context.Background()) })
	l, err := mhub.Connect(b.Context(), "worker")
	if err != nil {
		b.Fatal(err)
	}
	o := wire.Offer{Slots: 1, Spec: wire.AppendTask(nil, &tasks.Task{Kind: tasks.Function, Name: function.Noop, Packed: []byte{0x80}})}
	open := 0
	b.ReportAllocs()
	for b.Loop() {
		if open == inFlight {
			<-m.tokens
			open--
		}
		o.N++
		l.SendOffer(&o)
		open++
	}
	for ; open > 0; open-- {
		<-m.tokens
	}
}
