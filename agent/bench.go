package agent

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/master"
	"github.com/scagent/scagent/tasks/runner/function"
)

// benchWait is how long Bench waits for a first worker.
const benchWait = 3 * time.Second

// Without a number of tasks, each figure is taken from as many as begin within some
// time, at most so many, so that all of them take about ten seconds on any pool.
const (
	benchWarmUp     = 100 * time.Millisecond // what is not measured, first
	benchTime       = 2 * time.Second        // for a figure of functions or of commands
	benchRoundTime  = time.Second            // for payloads each way, and for fan-outs
	maxBenchCalls   = 20_000
	maxBenchPayload = 3
	maxBenchFanouts = 200
)

// benchPayload is the file that a payload is in, in the work directory of its task.
const benchPayload = "payload"

// ErrBenching is returned by Bench while another one measures.
var ErrBenching error = &api.Error{Code: api.CodeTooMany, Status: http.StatusServiceUnavailable,
	Message: "another bench measures here already; wait for its end, as the two would spoil each other's figures"}

// Bench measures the pool through this agent, as Go programs see it that submit to it,
// and reports each figure when it is there. It ends early with the cause of ctx, with
// the error of report, or with that of a task that does not end well. Its tasks are
// not kept.
func (a *Agent) Bench(ctx context.Context, r api.BenchRequest, report func(api.Figure) error) error {
	if err := r.Check(); err != nil {
		return err
	}
	if err := a.mayMaster(); err != nil {
		return err
	}
	if !a.benching.CompareAndSwap(false, true) {
		return ErrBenching
	}
	defer a.benching.Store(false)
	if len(r.Only) == 0 {
		r.Only = api.BenchGroups
	}
	if r.Inflight == 0 {
		r.Inflight = api.DefaultBenchInflight
	}
	if r.Size == 0 {
		r.Size = api.DefaultBenchSizeBytes
	}
	b := &bench{a: a, r: r, report: report, others: map[tasks.Kind]bool{}}
	if err := b.find(ctx); err != nil {
		return err
	}
	for _, g := range []struct {
		name    string
		measure func(context.Context) error
	}{
		{api.BenchLatency, b.latency},
		{api.BenchThroughput, func(ctx context.Context) error { return b.throughput(ctx, "noop_throughput", noop) }},
		{api.BenchCommand, func(ctx context.Context) error { return b.throughput(ctx, "command_throughput", nothing) }},
		{api.BenchPayload, b.payload},
		{api.BenchFanout, b.fanout},
	} {
		if !b.wants(g.name) {
			continue
		}
		err := g.measure(ctx)
		var failed *tasks.RunError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &failed):
			return &api.Error{Code: api.CodeTaskFailed, Status: http.StatusBadGateway, Message: g.name + ": " + failed.Error()}
		case err != nil:
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

// The tasks that are measured with. Tasks are not changed by who runs them.
var (
	noop    = &tasks.Task{Kind: tasks.Function, Name: function.Noop}
	nothing = &tasks.Task{Kind: tasks.Command, Argv: []string{"true"}}
)

// bench is one call of Bench.
type bench struct {
	a      *Agent
	r      api.BenchRequest // complete
	report func(api.Figure) error
	// others says for which kinds there are workers on other nodes. One task at a time,
	// and a payload, are for those then: at home there is no way to measure.
	others map[tasks.Kind]bool
}

// find looks whether there are workers for all that is to be measured, so that what
// cannot be is said before it begins.
func (b *bench) find(ctx context.Context) error {
	functions := b.wants(api.BenchLatency, api.BenchThroughput, api.BenchFanout)
	if functions {
		if err := b.look(ctx, noop); err != nil {
			return err
		}
	}
	if !b.wants(api.BenchCommand, api.BenchPayload) {
		return nil
	}
	err := b.look(ctx, nothing)
	if functions && errors.Is(err, tasks.ErrNoMatch) {
		err = fmt.Errorf("%w; ask only for latency, throughput and fanout, which need no commands", err)
	}
	return err
}

// wants reports whether one of the groups is to be measured.
func (b *bench) wants(groups ...string) bool {
	return slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(b.r.Only, g) })
}

// look finds out who would take a task.
func (b *bench) look(ctx context.Context, t *tasks.Task) error {
	choices, err := b.a.DryRun(ctx, b.submission(t, b.all()))
	if err != nil {
		return err
	}
	b.others[t.Kind] = slices.ContainsFunc(choices, func(c master.Choice) bool { return c.Takes && c.Worker.ID != b.a.id.id })
	return nil
}

// all is the target of every worker that is measured.
func (b *bench) all() tasks.Target {
	return tasks.Target{All: b.r.Where == "", Where: b.r.Where}
}

// one is the target of one of them that runs a kind of task, on another node where
// there are any.
func (b *bench) one(k tasks.Kind) tasks.Target {
	t := tasks.Target{Where: b.r.Where, N: 1}
	if b.others[k] {
		t.Except = []string{b.a.id.id}
	}
	return t
}

func (b *bench) submission(t *tasks.Task, target tasks.Target) tasks.Submission {
	s := tasks.Submission{Task: *t, Target: target, Options: tasks.DefaultOptions()}
	s.Options.WaitWorkers, s.Options.Ephemeral = benchWait, true
	return s
}

// enough reports whether n tasks or runs, the first of which began at start, are as
// many as were asked for, or else as most or as fit within some time.
func (b *bench) enough(n, most int, start time.Time, within time.Duration) bool {
	if b.r.N > 0 {
		return n >= b.r.N
	}
	return n >= most || n > 0 && time.Since(start) >= within
}

func (b *bench) figure(metric string, value float64, unit string, n int) error {
	return b.report(api.Figure{Metric: metric, Value: math.Round(value*1000) / 1000, Unit: unit, N: n})
}

// latency measures one task after the other.
func (b *bench) latency(ctx context.Context) error {
	target := b.one(tasks.Function)
	call := func() (time.Duration, error) {
		start := time.Now()
		res, err := b.a.Call(ctx, *noop, target)
		took := time.Since(start)
		if err == nil {
			err = res.Err()
		}
		return took, err
	}
	for start := time.Now(); time.Since(start) < benchWarmUp; {
		if _, err := call(); err != nil {
			return err
		}
	}
	var all []time.Duration
	for start := time.Now(); !b.enough(len(all), maxBenchCalls, start, benchTime); {
		d, err := call()
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	slices.Sort(all)
	for _, p := range []int{50, 99} {
		us := float64(percentile(all, p)) / float64(time.Microsecond)
		if err := b.figure(fmt.Sprintf("noop_latency_p%d", p), us, "us", len(all)); err != nil {
			return err
		}
	}
	return nil
}

// percentile returns the least of what p of 100 are at most.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}

// throughput measures many tasks at once, on all workers.
func (b *bench) throughput(ctx context.Context, metric string, t *tasks.Task) error {
	if _, _, err := b.pump(ctx, t, b.r.Inflight, benchWarmUp); err != nil {
		return err
	}
	n, within := b.r.N, time.Duration(0)
	if n == 0 {
		n, within = api.MaxBenchN, benchTime
	}
	n, took, err := b.pump(ctx, t, n, within)
	if err != nil {
		return err
	}
	return b.figure(metric, float64(n)/took.Seconds(), "tasks/s", n)
}

// pump runs n tasks, as many at once as may be, and says how many ended and how long
// it took from the first to the last. Within some time, unless that is 0: those that
// are left then are cancelled and do not count.
func (b *bench) pump(ctx context.Context, t *tasks.Task, n int, within time.Duration) (ended int, took time.Duration, err error) {
	batch, err := b.a.OpenBatch(b.all(), b.submission(t, b.all()).Options, b.r.Inflight)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	adding, cancel := context.WithCancel(ctx)
	added := make(chan error, 1)
	go func() {
		defer batch.Seal()
		added <- func() error {
			for range n {
				if _, err := batch.Add(adding, t); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	over := false
	stop := sync.OnceValue(func() error {
		cancel()
		err := <-added
		batch.Cancel(tasks.StopKill)
		return err
	})
	defer stop()
	for res := range batch.Results(ctx) {
		if over {
			continue // until nothing of it runs
		}
		if err = res.Err(); err == nil {
			ended, took = ended+1, time.Since(start)
		}
		if over = err != nil || within > 0 && took >= within; over {
			stop()
		}
	}
	if addErr := stop(); err == nil && !over {
		err = addErr
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return ended, took, err
}

// fanout measures a function on all workers at once, until the last has answered.
func (b *bench) fanout(ctx context.Context) error {
	once := func() (time.Duration, error) {
		start := time.Now()
		run, err := b.a.Submit(ctx, b.submission(noop, b.all()))
		if err != nil {
			return 0, err
		}
		rs, err := run.Wait(ctx)
		took := time.Since(start)
		for i := range rs {
			err = errors.Join(err, rs[i].Err())
		}
		if err != nil {
			run.Cancel(tasks.StopKill)
		}
		return took, err
	}
	for range 3 { // the first opens links
		if _, err := once(); err != nil {
			return err
		}
	}
	var all []time.Duration
	for start := time.Now(); !b.enough(len(all), maxBenchFanouts, start, benchRoundTime); {
		d, err := once()
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	slices.Sort(all)
	return b.figure("fanout_p50", float64(percentile(all, 50))/float64(time.Millisecond), "ms", len(all))
}

// payload measures large files to and from one worker.
func (b *bench) payload(ctx context.Context) error {
	for _, way := range []struct {
		metric   string
		transfer func(context.Context) (time.Duration, error)
	}{{"payload_in", b.payloadIn}, {"payload_out", b.payloadOut}} {
		var all []time.Duration
		for start := time.Now(); len(all) < maxBenchPayload && (len(all) == 0 || time.Since(start) < benchRoundTime); {
			d, err := way.transfer(ctx)
			if err != nil {
				return err
			}
			all = append(all, d)
		}
		slices.Sort(all)
		mb := float64(b.r.Size) / 1e6
		if err := b.figure(way.metric, mb/percentile(all, 50).Seconds(), "MB/s", len(all)); err != nil {
			return err
		}
	}
	return nil
}

// payloadIn sends a file to a worker. It is random, so that no worker has it from an
// earlier time, and is here before the clock starts.
func (b *bench) payloadIn(ctx context.Context) (time.Duration, error) {
	var seed [32]byte
	crand.Read(seed[:]) // which does not fail
	hash, size, err := b.a.PutBlob(ctx, io.LimitReader(rand.NewChaCha8(seed), b.r.Size))
	if err != nil {
		return 0, err
	}
	defer b.a.blobs.Expire(hash)
	t := *nothing
	t.Inputs = []tasks.Input{{Name: benchPayload, Content: tasks.Content{Blob: hash, Size: size}}}
	start := time.Now()
	res, err := b.a.Call(ctx, t, b.one(tasks.Command))
	if err != nil {
		return 0, err
	}
	return time.Since(start), res.Err()
}

// payloadOut has a worker write a file and fetches it, which both count. It is zeros,
// as nothing on the way makes them smaller, behind a line that nobody has had, so that
// they are not here from an earlier time.
func (b *bench) payloadOut(ctx context.Context) (time.Duration, error) {
	t := tasks.Task{Kind: tasks.Command, Outputs: []string{benchPayload},
		Shell: fmt.Sprintf("{ echo %s; head -c %d /dev/zero; } >%s", crand.Text(), b.r.Size, benchPayload)}
	start := time.Now()
	res, err := b.a.Call(ctx, t, b.one(tasks.Command))
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	for _, o := range res.Outputs {
		defer b.a.blobs.Expire(o.Blob)
	}
	if err := res.Err(); err != nil {
		return 0, err
	}
	if len(res.Outputs) != 1 || res.Outputs[0].Len() < b.r.Size {
		return 0, fmt.Errorf("%q was to bring back a file of %d bytes, and did not", t.Shell, b.r.Size)
	}
	return took, nil
}
