package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks/query"
)

// BenchCommand measures the pool.
type BenchCommand struct{ env *Env }

// benchWait is how long bench looks for a first other member where no agent runs.
const benchWait = 10 * time.Second

// benchOptions are what the arguments of bench say.
type benchOptions struct {
	common
	request  api.BenchRequest
	local    localOptions
	localSet []string // flags of local that were given
}

// Synopsis says what the command does, on one line.
func (c *BenchCommand) Synopsis() string { return "measure this cluster" }

// Help says how the command is called.
func (c *BenchCommand) Help() string {
	return manual{
		name: "bench", usage: []string{"[options]"}, flags: benchFlags(&benchOptions{}),
		about: `
Measures the pool as it is now, with its other load, and prints each figure when it is there. The
agent measures, so that what this command and the API cost is in none of them. All of it takes about
ten seconds, more where the network is slow; ^C ends it. Nothing is left behind, but that a worker
drops the files of payloads ten minutes later, as it does all that it has fetched.

  latency     noop_latency_p50, noop_latency_p99: a function that does nothing, one call at a time
  throughput  noop_throughput: the same function, many at once, on all workers
  command     command_throughput: the command "true", many at once, on all workers
  payload     payload_in: a file of random bytes that the agent has, as input of "true" on one worker
              payload_out: a file of zeros that a command writes on one worker, fetched by the agent;
              nothing compresses it on the way, and the writing counts
  fanout      fanout_p50: the function on all workers, until the last has answered

Latency and payloads are measured to other nodes than the agent's own where there are any. A MB is
1,000,000 bytes. p50 is the median, p99 what 99 of 100 take at most; a payload's figure is that of
the median transfer. Where no agent runs, this command joins the pool itself for as long as it takes.`,
		example: `
scagent bench
scagent bench -only latency -n 20000 -where 'name == "n2"' -json`,
	}.String()
}

func benchFlags(o *benchOptions) *flagSet {
	o.request.Inflight, o.request.Size = api.DefaultBenchInflight, api.DefaultBenchSizeBytes
	f := newFlags(true)
	f.group("Options")
	f.words(&o.request.Only, "only", "measure only `GROUP,…` of "+strings.Join(api.BenchGroups, ", "))
	f.integer(&o.request.N, "n", "take each figure from `N` tasks, that of fanout from so many runs; payloads do not ask (default: as many as fit into one or two seconds)")
	f.integer(&o.request.Inflight, "inflight", "have `N` tasks under way at once for throughput and command")
	f.add((*sizeValue)(&o.request.Size), "size", "`BYTES` of a payload, such as 1000000, 64KiB, 64MiB or 1GiB")
	f.str(&o.request.Where, "where", "only workers that match `EXPR`, see: scagent help query")
	o.common.define(f)
	o.local.define(f)
	return f
}

func parseBench(args []string) (*benchOptions, error) {
	o := &benchOptions{}
	f := benchFlags(o)
	operands, err := f.parse(args)
	if err == nil {
		err = none(operands)
	}
	if err != nil {
		return nil, err
	}
	o.localSet = f.given(localFlags...)
	if err := oneOf("-only", o.request.Only, api.BenchGroups...); err != nil {
		return nil, err
	}
	for _, b := range []struct {
		name       string
		value, max int64
	}{
		{"n", int64(o.request.N), api.MaxBenchN},
		{"inflight", int64(o.request.Inflight), api.MaxBenchInflight},
		{"size", o.request.Size, api.MaxBenchSize},
	} {
		if f.isSet(b.name) && (b.value < 1 || b.value > b.max) {
			return nil, fmt.Errorf("-%s is %d; want 1 to %d", b.name, b.value, b.max)
		}
	}
	if f.isSet("where") {
		if _, err := query.Compile(o.request.Where); err != nil {
			return nil, fmt.Errorf("-where: %w", err)
		}
	}
	return o, nil
}

// Run measures.
func (c *BenchCommand) Run(args []string) int {
	o, err := parseBench(args)
	if err != nil {
		return c.env.usage("bench", c.Help(), err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals, stop := c.env.Signals(false)
	defer stop()
	defer watchSignals(signals, func(os.Signal) { cancel(errInterrupted) })()
	if err := c.measure(ctx, o); err != nil {
		return c.env.fail(err)
	}
	return exitOK
}

func (c *BenchCommand) measure(ctx context.Context, o *benchOptions) error {
	cl, leave, err := connectOrStart(ctx, c.env, &o.common, o.localSet, &localStart{localOptions: o.local, wait: benchWait, settle: settleTime})
	if err != nil {
		return err
	}
	defer leave()
	return c.print(ctx, cl, o)
}

// print prints the figures as they come.
func (c *BenchCommand) print(ctx context.Context, cl *client.Client, o *benchOptions) error {
	if o.json {
		return cl.Bench(ctx, o.request, func(f api.Figure) error {
			b, err := json.Marshal(f)
			if err != nil {
				return err
			}
			return c.env.write(string(b) + "\n")
		})
	}
	head := true
	return cl.Bench(ctx, o.request, func(f api.Figure) error {
		text := ""
		if head {
			head = false
			text = benchRow("METRIC", "VALUE", "UNIT", "N", "WHAT")
		}
		return c.env.write(text + benchRow(clean(f.Metric), figureValue(f.Value), clean(f.Unit), strconv.Itoa(f.N), o.what(f.Metric)))
	})
}

// benchRow is a line of the table, which is printed as it is measured: its columns
// are as wide as what there is, not as what came so far.
func benchRow(metric, value, unit, n, what string) string {
	return strings.TrimRight(fmt.Sprintf("%-18s  %10s  %-7s  %7s  %s", metric, value, unit, n, what), " ") + "\n"
}

// figureValue has three digits, or all before the point.
func figureValue(v float64) string {
	switch {
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// what says what a figure is of.
func (o *benchOptions) what(metric string) string {
	size := (*sizeValue)(&o.request.Size).String()
	if !strings.HasSuffix(size, "B") {
		size += " B"
	}
	switch metric {
	case "noop_latency_p50":
		return "a function that does nothing, one call at a time: the median"
	case "noop_latency_p99":
		return "and what 99 of 100 take at most"
	case "noop_throughput":
		return fmt.Sprintf("the same, %d under way at once", o.request.Inflight)
	case "command_throughput":
		return fmt.Sprintf("the command true, %d under way at once", o.request.Inflight)
	case "payload_in":
		return size + " of random bytes to one worker"
	case "payload_out":
		return size + " of zeros that a command on one worker writes, and back"
	case "fanout_p50":
		return "the function on all workers, until the last has answered: the median"
	}
	return ""
}

// sizeValue is a number of bytes.
type sizeValue int64

// sizeUnits are the largest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

func (v *sizeValue) String() string {
	for _, u := range sizeUnits {
		if n := int64(*v); n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0"
}

func (v *sizeValue) Set(s string) error {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > (1<<62)/u.bytes || n < -(1<<62)/u.bytes {
			break
		}
		*v = sizeValue(n * u.bytes)
		return nil
	}
	return errors.New("want bytes, such as 1000000, 64KiB, 64MiB or 1GiB")
}
