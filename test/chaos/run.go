//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/test/chaos/cluster"
	"github.com/scagent/scagent/test/chaos/nemesis"
	"github.com/scagent/scagent/test/check/verify"
)

// options are what a run is.
type options struct {
	tasks, workers, masters, slots int
	attempts, kept                 int
	work                           time.Duration // a task takes at most so long
	clients                        int           // that submit to each master
	window                         int           // tasks that are not final
	spread                         time.Duration // submissions take so long; 0: as fast as possible
	profile                        string
	seed                           uint64
	spareMaster                    bool
	fabric                         bool
	diskBytes                      int64
	check                          bool
	keep                           bool
	soak                           time.Duration // agents are looked at so often; 0: they are not
	logLevel                       string

	log io.Writer // told what happens
}

const (
	assembleTimeout = 30 * time.Second
	progressEvery   = 5 * time.Second
)

// result is what a run found.
type result struct {
	*report
	dir      string // where everything is, if it was kept
	faults   map[nemesis.Kind]int
	refused  int64
	unclear  int64
	ended    int // agents that ended by themselves
	took     time.Duration
	checked  *verify.Report // nil: nothing was checked
	problems []string
}

// run runs chaos. The directory is kept if there is a problem, or a panic, but not
// when ctx ends.
func run(ctx context.Context, o options) (res *result, err error) {
	d, err := cluster.NewDir()
	if err != nil {
		return nil, err
	}
	keep := true
	defer func() {
		if keep {
			d.Keep()
			fmt.Fprintf(o.log, "seed %d; kept in %s: run.log, what each agent wrote, histories, truth, state\n", o.seed, d.Path)
		} else if e := d.Remove(); err == nil {
			err = e
		}
	}()
	log, err := newLogger(filepath.Join(d.Path, "run.log"), o.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r := &runner{options: o, dir: d.Path, log: log}
	res, err = r.run(ctx)
	switch {
	case ctx.Err() != nil:
		keep, err = false, ctx.Err()
	case err == nil && len(res.problems) == 0 && !o.keep:
		keep = false
	}
	if res != nil && keep {
		res.dir = d.Path
	}
	return res, err
}

// runner is a run.
type runner struct {
	options
	dir      string
	log      *logger
	cluster  *cluster.Cluster
	load     *workload
	reunited time.Duration        // after all was healed
	faults   map[nemesis.Kind]int // of the nemesis' goroutine, until it has ended
}

func (r *runner) path(name string) string { return filepath.Join(r.dir, name) }

// names returns the names of the masters and the workers.
func (o *options) names() (masters, workers []string) {
	for i := range o.masters {
		masters = append(masters, "m"+strconv.Itoa(i+1))
	}
	for i := range o.workers {
		workers = append(workers, "w"+strconv.Itoa(i+1))
	}
	return masters, workers
}

// schedule returns what the nemesis will do.
func (o *options) nodes() nemesis.Nodes {
	masters, workers := o.names()
	n := nemesis.Nodes{All: append(append([]string(nil), masters...), workers...), Victims: workers}
	if !o.spareMaster {
		n.Victims = n.All
	}
	return n
}

func (r *runner) run(ctx context.Context) (*result, error) {
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	defer r.cluster.Close()
	begin := time.Now()

	watching, stopWatching := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { r.load.watch(watching) })
	wg.Go(func() { r.tell(watching) })
	defer wg.Wait()
	defer stopWatching()
	stopSoak := func() []string { return nil }
	if r.soak > 0 {
		k, f, err := newSoak(r.soak, r.cluster, r.nodes().All, r.path("samples"), func(line string) { r.log.Println(line) })
		if err != nil {
			return nil, err
		}
		defer f.Close()
		soaking, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); k.run(soaking) }()
		stopSoak = func() []string { stop(); <-done; return k.grown() }
		defer stop()
	}

	if err := r.stress(ctx); err != nil {
		return nil, err
	}
	grown := stopSoak()
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	res, err := r.verdict(ctx)
	if err == nil {
		res.took = took
		res.problems = append(res.problems, grown...)
		if r.reunited > reuniteTimeout {
			res.problems = append(res.problems, fmt.Sprintf("the pool was one again only %s after the last fault", r.reunited))
		}
	}
	return res, err
}

// start makes the cluster, and waits until all know all.
func (r *runner) start(ctx context.Context) error {
	binary, err := cluster.Build(r.dir)
	if err != nil {
		return err
	}
	task, err := cluster.BuildTask(r.dir)
	if err != nil {
		return err
	}
	truth, err := os.Create(r.path("truth"))
	if err == nil {
		err = errors.Join(truth.Chmod(0o666), truth.Close()) // for whoever tasks run as
	}
	if err != nil {
		return err
	}
	cfg := cluster.Config{Dir: r.dir, Binary: binary, Seed: r.seed, Fabric: r.fabric, DiskBytes: r.diskBytes, Args: []string{"-log-level", r.logLevel}, Log: func(line string) { r.log.Println(line) }}
	if r.check {
		cfg.Args = append(cfg.Args, "-history", r.path("history-NAME.jsonl"))
	}
	if r.soak > 0 { // what is kept on disk must stop growing early
		cfg.Args = append(cfg.Args, "-retain-tasks", strconv.Itoa(max(r.kept, 10_000)))
	}
	masters, workers := r.names()
	for _, m := range masters {
		cfg.Nodes = append(cfg.Nodes, cluster.NodeConfig{Name: m, Role: "master"})
	}
	for _, w := range workers {
		cfg.Nodes = append(cfg.Nodes, cluster.NodeConfig{Name: w, Role: "worker", Args: []string{"-slots", strconv.Itoa(r.slots)}})
	}
	if r.cluster, err = cluster.New(cfg); err != nil {
		return err
	}
	some, cancel := context.WithTimeout(ctx, assembleTimeout)
	defer cancel()
	for _, m := range masters {
		if err := r.cluster.Await(some, m); err != nil {
			r.cluster.Close()
			return err
		}
	}
	return r.makeLoad(task, masters)
}

// makeLoad makes the workload.
func (r *runner) makeLoad(task string, masters []string) error {
	pace := rate.NewLimiter(rate.Inf, 1)
	if r.spread > 0 {
		pace = rate.NewLimiter(rate.Limit(float64(r.tasks)/r.spread.Seconds()), 1)
	}
	r.load = &workload{
		request: api.SubmitRequest{
			Task:    api.TaskSpec{Kind: tasks.Command, Argv: []string{task, r.path("truth"), strconv.FormatInt(r.work.Microseconds(), 10)}},
			Options: api.OptionsSpec{Attempts: &r.attempts},
		},
		total: int64(r.tasks), pace: pace, ledger: newLedger(), window: make(chan struct{}, r.window),
	}
	for _, name := range masters {
		c, err := r.cluster.Node(name).Client()
		if err != nil {
			return err
		}
		r.load.masters = append(r.load.masters, &master{name: name, client: c, pending: map[tasks.ID]bool{}})
	}
	return nil
}

// stress submits all tasks while the nemesis is at work, and then heals the cluster.
func (r *runner) stress(ctx context.Context) error {
	steps, err := nemesis.Schedule(r.profile, r.seed, r.nodes())
	if err != nil {
		return err
	}
	r.log.Printf("profile %s, seed %d: %d tasks on %d workers by %d masters", r.profile, r.seed, r.tasks, r.workers, r.masters)
	striking, stop := context.WithCancel(ctx)
	submitting, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var wg sync.WaitGroup
	r.faults = map[nemesis.Kind]int{}
	wg.Go(func() {
		err := nemesis.Run(striking, steps, func(s nemesis.Step) error {
			r.log.Println(s.String())
			r.faults[s.Kind]++
			return r.cluster.Apply(s.Fault)
		})
		if err != nil {
			giveUp(fmt.Errorf("nemesis: %w", err))
		}
	})
	err = r.load.submit(submitting, r.clients)
	if err == nil {
		// The last tasks may need somebody who is down for long.
		r.load.await(submitting, r.load.acked.Load()*99/100)
	}
	stop()
	wg.Wait()
	if err == nil {
		err = context.Cause(submitting)
	}
	if err != nil {
		return err
	}
	r.log.Printf("%d are acknowledged, %d final; everything is healed", r.load.acked.Load(), r.load.final.Load())
	if err := r.cluster.Heal(); err != nil {
		return err
	}
	return r.reunite(ctx)
}

// reuniteTimeout is how long a pool may take to be one again after the last fault.
const reuniteTimeout = 30 * time.Second

// reunite waits until every master sees all nodes alive.
func (r *runner) reunite(ctx context.Context) error {
	healed := time.Now()
	some, cancel := context.WithTimeout(ctx, 2*reuniteTimeout)
	defer cancel()
	for _, m := range r.load.masters {
		if err := r.cluster.Await(some, m.name); err != nil {
			return err
		}
	}
	r.reunited = time.Since(healed)
	r.log.Printf("all masters see all nodes alive %.1f s after the last fault", r.reunited.Seconds())
	return nil
}

// settle waits until all tasks are final, or it has taken too long, and starts the
// masters once more.
func (r *runner) settle(ctx context.Context) error {
	if acked := r.load.acked.Load(); !r.load.await(ctx, acked) {
		r.log.Printf("%d tasks are not final %s after all faults have ended", acked-r.load.final.Load(), settleTimeout)
	} else if !r.load.quiet(ctx) {
		r.log.Printf("tasks that were not acknowledged are not final %s after all others", settleTimeout)
	}
	if r.spareMaster {
		return ctx.Err()
	}
	// Whatever was promised holds after one more start.
	for _, m := range r.load.masters {
		for _, kind := range []nemesis.Kind{nemesis.Kill, nemesis.Start} {
			if err := r.cluster.Apply(nemesis.Fault{Kind: kind, Node: m.name}); err != nil {
				return err
			}
		}
	}
	some, cancel := context.WithTimeout(ctx, assembleTimeout)
	defer cancel()
	for _, m := range r.load.masters {
		if err := r.cluster.Await(some, m.name); err != nil {
			return err
		}
	}
	return nil
}

// verdict counts, and says what must not be.
func (r *runner) verdict(ctx context.Context) (*result, error) {
	if err := r.load.again(ctx); err != nil {
		return nil, err
	}
	res := &result{faults: r.faults, refused: r.load.refused.Load(), unclear: r.load.unclear.Load()}
	var failed []string
	res.ended, failed = r.cluster.Ended()
	if err := r.cluster.Stop(); err != nil {
		failed = append(failed, err.Error())
	}
	if err := r.cluster.SaveDisks(); err != nil {
		return nil, err
	}
	if err := r.cluster.Close(); err != nil {
		return nil, err
	}
	truth, err := os.Open(r.path("truth"))
	if err != nil {
		return nil, err
	}
	defer truth.Close()
	strays, err := r.load.ledger.readTruth(truth)
	if err != nil {
		return nil, err
	}
	res.report = r.load.ledger.report(strays)
	res.problems = append(res.report.problems(r.attempts == 1, int(res.unclear), r.kept), failed...)
	if r.check {
		if res.checked, err = check(r.dir); err != nil {
			return nil, err
		}
		if n := len(res.checked.Violations); n > 0 {
			res.problems = append(res.problems, fmt.Sprintf("%d violations of the invariants", n))
		}
	}
	if len(res.faults) == 0 && res.Duplicates > 0 {
		res.problems = append(res.problems, fmt.Sprintf("%d starts too many, and nothing went wrong", res.Duplicates))
	}
	for _, line := range append(res.offenders(), res.problems...) {
		r.log.Println(line)
	}
	return res, nil
}

// tell says now and then how far it is.
func (r *runner) tell(ctx context.Context) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for last := int64(0); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		final := r.load.final.Load()
		r.log.Printf("%d acknowledged, %d final, %.0f/s; refused %d times", r.load.acked.Load(), final, float64(final-last)/progressEvery.Seconds(), r.load.refused.Load())
		last = final
	}
}

// print prints the figures.
func (res *result) print(w io.Writer) {
	fmt.Fprintf(w, "acknowledged %d, refused %d, unclear %d\n", res.Acknowledged, res.refused, res.unclear)
	fmt.Fprintf(w, "done %d, lost %d, failed %d, poisoned %d, cancelled %d, missing %d, not final %d, changed %d\n",
		res.Done, res.Lost, res.Failed, res.Poisoned, res.Cancelled, res.Missing, res.Unfinished, res.Changed)
	fmt.Fprintf(w, "starts %d, duplicates %d (%.3f %%), same attempt twice %d, ran unacknowledged %d\n",
		res.Starts, res.Duplicates, 100*float64(res.Duplicates)/math.Max(float64(res.Acknowledged), 1), res.SameAttempt, res.Strays)
	fmt.Fprintf(w, "still known at the end %d; agents that ended by themselves %d\n", res.Kept, res.ended)
	fmt.Fprintf(w, "faults %v\n", res.faults)
	fmt.Fprintf(w, "time %.1fs, %.0f tasks/s\n", res.took.Seconds(), float64(res.Acknowledged)/res.took.Seconds())
	if res.checked != nil {
		if err := res.checked.Print(w); err != nil {
			fmt.Fprintf(w, "PROBLEM: the histories cannot be read again: %v\n", err)
		}
	}
	for _, p := range res.problems {
		fmt.Fprintf(w, "PROBLEM: %s\n", p)
	}
}
