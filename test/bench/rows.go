package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

func rows() []row {
	return []row{
		noopRow(1000), noopRow(10000), latencyRow("p50"), latencyRow("p99"), securedRow(), commandRow(),
		fanRow(16), fanRow(64), coldRow(64), shellRow(64),
		joinRow(16), joinRow(64), lossRow(16), lossRow(64), idleRow(16), scriptRow(), memoryRow(), memberRow(10_000 - 1),
	}
}

// pair is a client and the servers that it needs, kept for all runs of a row.
type pair struct {
	start  func(ctx context.Context) (client *child, err error)
	client *child
}

func (p *pair) ask(ctx context.Context, o order) (figures, error) {
	if p.client == nil {
		c, err := p.start(ctx)
		if err != nil {
			return figures{}, err
		}
		p.client = c
	}
	var f figures
	if err := p.client.ask(o, &f); err != nil {
		return f, err
	}
	if f.Error != "" {
		return f, errors.New(f.Error)
	}
	return f, nil
}

// scagentPair is a worker of two slots and a master.
func scagentPair(secured bool) *pair {
	return &pair{start: func(ctx context.Context) (*child, error) {
		s := spec{Cluster: "bench", Slots: 2}
		if secured {
			var err error
			if s.Secret, err = newSecret(); err != nil {
				return nil, err
			}
		}
		var addr, up string
		if _, err := spawnWith(ctx, "worker", s, &addr); err != nil {
			return nil, err
		}
		s.Join = addr
		return spawnWith(ctx, "master", s, &up)
	}}
}

func spawnWith(ctx context.Context, role string, s spec, first any) (*child, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	os.Setenv(specVar, string(b))
	return spawn(ctx, role, first)
}

// open and secured are the pairs that all rows share.
var (
	open    = scagentPair(false)
	secured = scagentPair(true)
	bare    = &pair{start: func(ctx context.Context) (*child, error) {
		var up string
		return spawnWith(ctx, "exec", spec{}, &up)
	}}
	nats = natsPair()
	link = linkPair()
)

func throughput(p *pair, o order) func(context.Context) (float64, error) {
	return func(ctx context.Context) (float64, error) {
		f, err := p.ask(ctx, o)
		return f.PerSecond, err
	}
}

func noopRow(inFlight int) row {
	o := func(what string) order { return order{What: what, N: 300_000, InFlight: inFlight} }
	name := map[int]string{1000: "noop", 10000: "noop10k"}[inFlight]
	return row{name: name, what: fmt.Sprintf("no-op typed Go function, 2 slots, %d in flight", inFlight), unit: "tasks/s", parties: []party{
		{"scagent, batch", throughput(open, o("batch"))},
		{"scagent, calls", throughput(open, o("call"))},
		{"NATS core, pipelined", throughput(nats, o("batch"))},
		{"NATS core, calls", throughput(nats, o("call"))},
	}}
}

func latencyRow(which string) row {
	o := order{What: "latency", N: 20_000}
	of := func(p *pair) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			f, err := p.ask(ctx, o)
			if which == "p99" {
				return f.P99, err
			}
			return f.P50, err
		}
	}
	return row{name: "latency-" + which, what: "no-op typed Go function, one at a time, " + which, unit: "µs", less: true, parties: []party{
		{"scagent", of(open)}, {"NATS core", of(nats)}, {"TCP ping-pong with hops", of(link)},
	}}
}

func securedRow() row {
	o := order{What: "batch", N: 300_000, InFlight: 1000}
	return row{name: "secured", what: "no-op typed Go function, 2 slots, 1000 in flight, TLS", unit: "tasks/s", parties: []party{
		{"scagent, secured", throughput(secured, o)}, {"scagent, open", throughput(open, o)},
	}}
}

// commandRow runs /bin/true, two at a time.
func commandRow() row {
	o := order{What: "command", N: 4000, InFlight: 64}
	return row{name: "command", what: "/bin/true as a task, 2 slots", unit: "tasks/s", parties: []party{
		{"scagent", throughput(open, o)}, {"os/exec with pipes", throughput(bare, o)},
	}}
}
