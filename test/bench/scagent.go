package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/agent/secret"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

func init() {
	roles["worker"] = workerRole
	roles["master"] = masterRole
}

// spec is what an agent of a row is to be.
type spec struct {
	Cluster string
	Join    string
	Secret  string // file; empty: the open posture
	Slots   int
}

var specVar = "SCAGENT_BENCH_SPEC"

func newAgent(role membership.Role) (*agent.Agent, error) {
	agent.TuneHeap() // as the program scagent does
	var s spec
	if err := json.Unmarshal([]byte(os.Getenv(specVar)), &s); err != nil {
		return nil, err
	}
	cfg := agent.DefaultConfig()
	cfg.Roles = []membership.Role{role}
	cfg.Bind = "127.0.0.1:0"
	cfg.Cluster, cfg.SecretFile, cfg.Slots = s.Cluster, s.Secret, s.Slots
	cfg.Multicast, cfg.Temporary, cfg.Profile = false, true, "local"
	if s.Join != "" {
		cfg.Join = []string{s.Join}
	}
	a, err := agent.New(cfg)
	if err != nil {
		return nil, err
	}
	if role == membership.RoleWorker {
		if err := a.Handle(noop); err != nil {
			return nil, err
		}
	}
	return a, a.Start(context.Background())
}

var noop = tasks.NewFunc("bench.noop", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })

func workerRole(in *json.Decoder, out *json.Encoder) error {
	a, err := newAgent(membership.RoleWorker)
	if err != nil {
		return err
	}
	defer a.Close()
	out.Encode(a.Self().AddrPort.String())
	var order string
	return in.Decode(&order)
}

// order is what a master or client is asked to measure.
type order struct {
	What     string // "batch", "call", "latency"
	N        int    // tasks
	InFlight int
}

// figures answers an order.
type figures struct {
	PerSecond float64
	P50, P99  float64 // µs
	Error     string
}

func masterRole(in *json.Decoder, out *json.Encoder) error {
	a, err := newAgent(membership.RoleMaster)
	if err != nil {
		return err
	}
	defer a.Close()
	ctx := context.Background()
	if _, err := noop.Call(ctx, a, tasks.Any(), struct{}{}); err != nil {
		return err
	}
	out.Encode("up")
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return err
		}
		var f figures
		var err error
		switch o.What {
		case "batch":
			f, err = fill(ctx, a, o, func() (tasks.Task, error) { return noop.Task(struct{}{}) },
				func(r *tasks.Result) error { _, err := noop.Result(r); return err })
		case "command":
			f, err = fill(ctx, a, o, func() (tasks.Task, error) { return tasks.Task{Kind: tasks.Command, Argv: []string{"/bin/true"}}, nil },
				func(r *tasks.Result) error { return r.Err() })
		case "call":
			f, err = inFlight(o, func() error { _, err := noop.Call(ctx, a, tasks.Any(), struct{}{}); return err })
		case "latency":
			f, err = latency(o, func() error { _, err := noop.Call(ctx, a, tasks.Any(), struct{}{}); return err })
		default:
			err = fmt.Errorf("unknown order %q", o.What)
		}
		if err != nil {
			f.Error = err.Error()
		}
		out.Encode(f)
	}
}

// fill keeps a batch full.
func fill(ctx context.Context, a *agent.Agent, o order, next func() (tasks.Task, error), check func(*tasks.Result) error) (figures, error) {
	opt := tasks.DefaultOptions()
	opt.Ephemeral = true
	b, err := a.OpenBatch(tasks.Any(), opt, o.InFlight)
	if err != nil {
		return figures{}, err
	}
	start := time.Now()
	failed := make(chan error, 1)
	go func() {
		defer b.Seal()
		for range o.N {
			t, err := next()
			if err == nil {
				_, err = b.Add(ctx, &t)
			}
			if err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	n := 0
	for r := range b.Results(ctx) {
		if err := check(&r); err != nil {
			return figures{}, err
		}
		n++
	}
	if err := <-failed; err != nil {
		return figures{}, err
	}
	if n != o.N {
		return figures{}, fmt.Errorf("%d results of %d tasks", n, o.N)
	}
	return figures{PerSecond: float64(n) / time.Since(start).Seconds()}, nil
}

// newSecret makes a secret in the temporary directory.
func newSecret() (string, error) {
	path := filepath.Join(tempDir, "secret")
	return path, secret.Chain{{Secret: secret.New()}}.Save(path)
}
