package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	natsclient "github.com/nats-io/nats.go"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/tasks"
)

func init() {
	roles["crowd"] = crowdRole
	roles["nats-crowd"] = natsCrowdRole
	roles["nats-caller"] = natsCallerRole
	roles["caller"] = callerRole
}

// toAll sends the no-op to o.InFlight workers, o.N times, one after the other.
func toAll(ctx context.Context, a *agent.Agent, o order) figures {
	f, err := latency(o, func() error {
		t, err := noop.Task(struct{}{})
		if err != nil {
			return err
		}
		opt := tasks.DefaultOptions()
		opt.Ephemeral, opt.Expect = true, o.InFlight
		run, err := a.Submit(ctx, tasks.Submission{Task: t, Target: tasks.All(), Options: opt})
		if err != nil {
			return err
		}
		n := 0
		for r := range run.Results(ctx) {
			if _, err := noop.Result(&r); err != nil {
				return err
			}
			n++
		}
		if n != o.InFlight {
			return fmt.Errorf("%d results, want %d", n, o.InFlight)
		}
		return nil
	})
	if err != nil {
		f.Error = err.Error()
	}
	return f
}

// crowdRole is as many agents in one process as the spec has slots.
func crowdRole(in *json.Decoder, out *json.Encoder) error {
	var s spec
	if err := json.Unmarshal([]byte(getSpec()), &s); err != nil {
		return err
	}
	k := s.Slots
	s.Slots = 2
	for range k {
		a, err := clusterAgent(s, func(cfg *agent.Config) { cfg.Roles = []membership.Role{membership.RoleWorker} })
		if err != nil {
			return err
		}
		defer a.Close()
		if s.Join == "" {
			s.Join = a.Self().AddrPort.String()
		}
	}
	out.Encode(s.Join)
	var o order
	return in.Decode(&o)
}

// callerRole is a master that waits until it sees so many workers, and sends tasks
// to all.
func callerRole(in *json.Decoder, out *json.Encoder) error {
	var s spec
	if err := json.Unmarshal([]byte(getSpec()), &s); err != nil {
		return err
	}
	seen := newCrowd()
	a, err := clusterAgent(s, func(cfg *agent.Config) {
		cfg.Roles, cfg.OnEvent = []membership.Role{membership.RoleMaster}, seen.on
	})
	if err != nil {
		return err
	}
	defer a.Close()
	if _, err := seen.await(s.Slots + 1); err != nil {
		return err
	}
	out.Encode("up")
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return err
		}
		if o.What == "script" {
			out.Encode(script(context.Background(), a, o))
		} else {
			out.Encode(toAll(context.Background(), a, o))
		}
	}
}

// crowdPair is k agents in one process and a master in another.
func crowdPair(k int) *pair {
	return &pair{start: func(ctx context.Context) (*child, error) {
		s := spec{Cluster: fmt.Sprint("crowd", os.Getpid()), Slots: k}
		var up string
		if _, err := spawnWith(ctx, "crowd", s, &s.Join); err != nil {
			return nil, err
		}
		return spawnWith(ctx, "caller", s, &up)
	}}
}

// natsCrowdPair is k connections to a NATS server in one process and a client in another.
func natsCrowdPair(k int) *pair {
	return &pair{start: func(ctx context.Context) (*child, error) {
		var up string
		s := spec{Slots: k}
		if _, err := spawnWith(ctx, "nats-server", spec{}, &s.Join); err != nil {
			return nil, err
		}
		if _, err := spawnWith(ctx, "nats-crowd", s, &up); err != nil {
			return nil, err
		}
		return spawnWith(ctx, "nats-caller", s, &up)
	}}
}

func natsCrowdRole(in *json.Decoder, out *json.Encoder) error {
	var s spec
	if err := json.Unmarshal([]byte(getSpec()), &s); err != nil {
		return err
	}
	for range s.Slots {
		c, err := natsclient.Connect(s.Join)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Subscribe("all", func(m *natsclient.Msg) { m.Respond(nil) }); err != nil {
			return err
		}
		if err := c.Flush(); err != nil {
			return err
		}
	}
	out.Encode("up")
	var o order
	return in.Decode(&o)
}

func natsCallerRole(in *json.Decoder, out *json.Encoder) error {
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
		inbox := natsclient.NewInbox()
		answers, err := c.SubscribeSync(inbox)
		if err != nil {
			return err
		}
		f, err := latency(o, func() error {
			if err := c.PublishRequest("all", inbox, nil); err != nil {
				return err
			}
			for range o.InFlight {
				if _, err := answers.NextMsg(10 * time.Second); err != nil {
					return err
				}
			}
			return nil
		})
		answers.Unsubscribe()
		if err != nil {
			f.Error = err.Error()
		}
		out.Encode(f)
	}
}

// fanRow is the no-op to all of k workers that links exist to, all answers back.
func fanRow(k int) row {
	o := order{What: "fan", N: 300, InFlight: k}
	p50 := func(p *pair) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			f, err := p.ask(ctx, o)
			return f.P50, err
		}
	}
	processes := &pair{start: func(ctx context.Context) (*child, error) {
		p, err := newPool(ctx, k)
		if err != nil {
			return nil, err
		}
		_, err = p.see(k)
		return p.members[0], err
	}}
	return row{name: fmt.Sprint("fan", k), what: fmt.Sprintf("no-op function to all of %d workers, all answers back, p50", k), unit: "µs", less: true, parties: []party{
		{"scagent, one process", p50(crowdPair(k))},
		{"NATS core, one process", p50(natsCrowdPair(k))},
		{fmt.Sprintf("scagent, %d processes", k), p50(processes)},
	}}
}

// coldRow is the same from a master that has just joined k processes and has no links.
func coldRow(k int) row {
	var p *pool
	join := func(ctx context.Context) (addr string, err error) {
		if p == nil {
			if p, err = newPool(ctx, k); err != nil {
				return "", err
			}
			if _, err = p.see(k); err != nil {
				return "", err
			}
		}
		return p.addr, nil
	}
	cold := func(after time.Duration) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			addr, err := join(ctx)
			if err != nil {
				return 0, err
			}
			var up string
			c, err := spawnWith(ctx, "caller", spec{Cluster: p.cluster, Join: addr, Slots: k}, &up)
			if err != nil {
				return 0, err
			}
			defer c.stop()
			time.Sleep(after)
			var f figures
			if err := c.ask(order{What: "fan", N: 1, InFlight: k}, &f); err != nil {
				return 0, err
			}
			if f.Error != "" {
				return 0, errors.New(f.Error)
			}
			return f.P50 / 1e3, nil
		}
	}
	return row{name: fmt.Sprint("cold", k), what: fmt.Sprintf("no-op function to all of %d processes from a master that has no links, once", k), unit: "ms", less: true, parties: []party{
		{"scagent, as soon as it sees all", cold(0)},
		{"scagent, 3 s later", cold(3 * time.Second)},
	}}
}

// shellRow is `scagent submit -all -- true` on k processes, by an agent that has links.
func shellRow(k int) row {
	var a *realAgent
	start := func(ctx context.Context) error {
		if a != nil {
			return nil
		}
		p, err := newPool(ctx, k-1)
		if err != nil {
			return err
		}
		if a, err = newRealAgent(ctx, "-cluster", p.cluster, "-join", p.addr); err != nil {
			return err
		}
		_, err = p.see(k)
		return err
	}
	command := func(args ...string) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			if err := start(ctx); err != nil {
				return 0, err
			}
			bin, err := program()
			if err != nil {
				return 0, err
			}
			took := make([]time.Duration, 10)
			for i := range took {
				cmd := exec.CommandContext(ctx, bin, args...)
				cmd.Env = append(os.Environ(), "SCAGENT_ADDR="+a.api)
				cmd.Stderr = os.Stderr
				begin := time.Now()
				if err := cmd.Run(); err != nil {
					return 0, err
				}
				took[i] = time.Since(begin)
			}
			slices.Sort(took)
			return ms(took[len(took)/2]), nil
		}
	}
	return row{name: fmt.Sprint("shell", k), what: fmt.Sprintf("from the shell, on %d processes, p50 of 10", k), unit: "ms", less: true, parties: []party{
		{"scagent submit -all -- true", command("submit", "-all", "-expect", fmt.Sprint(k), "--", "true")},
		{"scagent submit -all -js", command("submit", "-all", "-expect", fmt.Sprint(k), "-js", "1")},
		{"scagent version", command("version")},
	}}
}

// readLine returns the first line that has some words, and goes on reading.
func readLine(r io.Reader, words string) (string, error) {
	var all strings.Builder
	for s := bufio.NewScanner(r); s.Scan(); {
		if strings.Contains(s.Text(), words) {
			go io.Copy(io.Discard, r)
			return s.Text(), nil
		}
		fmt.Fprintln(&all, s.Text())
	}
	return "", fmt.Errorf("it ended without a line with %q: %s", words, all.String())
}
