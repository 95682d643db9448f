package main

import (
	"context"
	"fmt"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/tasks"
)

// script is a JavaScript function that does nothing, once or often.
func script(ctx context.Context, a *agent.Agent, o order) figures {
	t := tasks.Task{Kind: tasks.JS, Source: "function() { return 1 }"}
	f, err := latency(o, func() error {
		r, err := a.Call(ctx, t, tasks.Any())
		if err == nil && r.State != tasks.StateDone {
			err = fmt.Errorf("%s: %s", r.State, r.Text)
		}
		return err
	})
	if err != nil {
		f.Error = err.Error()
	}
	return f
}

// scriptRow is a warm JavaScript function beside a Go function, one at a time.
func scriptRow() row {
	p := crowdPair(1)
	ask := func(what string) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) {
			f, err := p.ask(ctx, order{What: what, N: 5000, InFlight: 1})
			return f.P50, err
		}
	}
	return row{name: "script", what: "no-op JavaScript function, one at a time, child process included, p50", unit: "µs", less: true, parties: []party{
		{"scagent, JavaScript", ask("script")}, {"scagent, Go function", ask("fan")},
	}}
}
