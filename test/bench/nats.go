package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsclient "github.com/nats-io/nats.go"
)

func init() {
	roles["nats-server"] = natsServerRole
	roles["nats-worker"] = natsWorkerRole
	roles["nats-client"] = natsClientRole
}

// natsPair is a NATS server, a worker that answers requests, and a client, each a
// process.
func natsPair() *pair {
	return &pair{start: func(ctx context.Context) (*child, error) {
		var url, up string
		if _, err := spawnWith(ctx, "nats-server", spec{}, &url); err != nil {
			return nil, err
		}
		if _, err := spawnWith(ctx, "nats-worker", spec{Join: url}, &up); err != nil {
			return nil, err
		}
		return spawnWith(ctx, "nats-client", spec{Join: url}, &up)
	}}
}

func natsServerRole(in *json.Decoder, out *json.Encoder) error {
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
	if err != nil {
		return err
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("not up after 10s")
	}
	out.Encode(s.ClientURL())
	var order string
	err = in.Decode(&order)
	s.Shutdown()
	return err
}

func natsWorkerRole(in *json.Decoder, out *json.Encoder) error {
	c, err := natsConnect()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Subscribe("noop", func(m *natsclient.Msg) { m.Respond(nil) }); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	out.Encode("up")
	var order string
	return in.Decode(&order)
}

func natsConnect() (*natsclient.Conn, error) {
	var s spec
	if err := json.Unmarshal([]byte(getSpec()), &s); err != nil {
		return nil, err
	}
	return natsclient.Connect(s.Join)
}

func natsClientRole(in *json.Decoder, out *json.Encoder) error {
	c, err := natsConnect()
	if err != nil {
		return err
	}
	defer c.Close()
	out.Encode("up")
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return err
		}
		call := func() error { _, err := c.Request("noop", nil, 10*time.Second); return err }
		var f figures
		var err error
		switch o.What {
		case "batch":
			f, err = natsPipelined(c, o)
		case "call":
			f, err = inFlight(o, call)
		case "latency":
			f, err = latency(o, call)
		}
		if err != nil {
			f.Error = err.Error()
		}
		out.Encode(f)
	}
}

// natsPipelined keeps o.InFlight requests open, whose answers come to one inbox.
func natsPipelined(c *natsclient.Conn, o order) (figures, error) {
	room := make(chan struct{}, o.InFlight)
	done := make(chan struct{})
	var got atomic.Int64
	inbox := natsclient.NewInbox()
	sub, err := c.Subscribe(inbox, func(*natsclient.Msg) {
		<-room
		if got.Add(1) == int64(o.N) {
			close(done)
		}
	})
	if err != nil {
		return figures{}, err
	}
	defer sub.Unsubscribe()
	start := time.Now()
	for range o.N {
		room <- struct{}{}
		if err := c.PublishRequest("noop", inbox, nil); err != nil {
			return figures{}, err
		}
	}
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		return figures{}, fmt.Errorf("%d answers of %d", got.Load(), o.N)
	}
	return figures{PerSecond: float64(o.N) / time.Since(start).Seconds()}, nil
}
