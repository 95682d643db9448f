package command

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/scagent/scagent/agent"
	"github.com/scagent/scagent/membership"
	"github.com/scagent/scagent/membership/tracker"
	"github.com/scagent/scagent/tasks"
)

// demo is a cluster inside this process, on real sockets of 127.0.0.1: a tracker,
// a master and three workers. Its cluster name is random and it uses no
// multicast, so that it never meets a real pool.
type demo struct {
	out     io.Writer
	cluster string
	logger  *log.Logger
	agents  []*agent.Agent // the tracker, the workers, the master
	master  *agent.Agent
	rows    []demoRow
}

// demoRow is a line of the closing table.
type demoRow struct {
	what string
	took time.Duration
	err  error
}

// words counts the words of a text: the function that the demo's workers offer.
var words = tasks.NewFunc("demo.words", func(_ context.Context, text string) (int, error) {
	if text == "" {
		return 0, errors.New("there is no text")
	}
	return len(strings.Fields(text)), nil
})

// demoWorkers are the data of the three workers.
var demoWorkers = []string{
	`{"zone":"north","disk":"ssd"}`,
	`{"zone":"south","disk":"ssd"}`,
	`{"zone":"south","disk":"nvme","gpu":"a100"}`,
}

func newDemo(out io.Writer, logger *log.Logger) *demo {
	return &demo{out: out, logger: logger, cluster: "demo-" + rand.Text()[:16]}
}

func (d *demo) config(name string, roles ...membership.Role) agent.Config {
	cfg := agent.DefaultConfig()
	cfg.Name, cfg.Roles, cfg.Cluster, cfg.Logger = name, roles, d.cluster, d.logger
	cfg.Temporary, cfg.Multicast, cfg.Bind = true, false, "127.0.0.1:0"
	cfg.Slots = 2
	if len(d.agents) > 0 {
		cfg.Join = []string{d.agents[0].Self().AddrPort.String()}
	}
	return cfg
}

func (d *demo) start(ctx context.Context, cfg agent.Config, fs ...tasks.Registered) (*agent.Agent, error) {
	a, err := agent.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := a.Handle(fs...); err != nil {
		return nil, err
	}
	if err := a.Start(ctx); err != nil {
		return nil, err
	}
	d.agents = append(d.agents, a)
	return a, nil
}

func (d *demo) close() {
	for _, a := range slices.Backward(d.agents) {
		a.Close()
	}
}

// run starts the cluster, does one thing of each sort, and prints what happened.
// It reports whether every result was right.
func (d *demo) run(ctx context.Context) bool {
	d.step("start a tracker, three workers and a master on 127.0.0.1", func() error { return d.startAll(ctx) })
	if d.master == nil {
		d.table()
		return false
	}
	d.members()
	all := []string{"w1", "w2", "w3"}
	d.step("a command on any one worker", func() error {
		return d.submit(ctx, sh("echo hello from $SCAGENT_NODE"), tasks.Any(), func(rs []tasks.Result) error {
			return want(rs, 1, func(r *tasks.Result) string { return "hello from " + r.Worker + "\n" })
		})
	})
	d.step("a command on all workers", func() error {
		return d.submit(ctx, sh("echo $SCAGENT_NODE in slot of $SCAGENT_SLOTS; echo so much for stderr >&2"), tasks.All(), func(rs []tasks.Result) error {
			if got := names(rs); !slices.Equal(got, all) {
				return fmt.Errorf("ran on %v, want %v", got, all)
			}
			return want(rs, 3, func(r *tasks.Result) string { return r.Worker + " in slot of 1\n" })
		})
	})
	d.step("a command where data.disk == \"ssd\"", func() error {
		return d.submit(ctx, sh("echo ssd here"), tasks.Where(`data.disk == "ssd" and facts.cpus >= 1`), func(rs []tasks.Result) error {
			if got := names(rs); !slices.Equal(got, []string{"w1", "w2"}) {
				return fmt.Errorf("ran on %v, want w1 and w2", got)
			}
			return want(rs, 2, func(*tasks.Result) string { return "ssd here\n" })
		})
	})
	d.step("a command that fails, on w2", func() error {
		return d.submit(ctx, sh("echo out; echo err >&2; exit 7"), tasks.On("w2"), func(rs []tasks.Result) error {
			r := &rs[0]
			if r.State != tasks.StateFailed || r.Exit != 7 || string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" {
				return fmt.Errorf("got %s, exit %d, %q, %q; want failed, exit 7, its output", r.State, r.Exit, r.Stdout, r.Stderr)
			}
			return nil
		})
	})
	d.step("a command that is stopped when its time is up", func() error {
		s := submission(sh("echo started; exec sleep 60"), tasks.Any())
		s.Options.Timeout = 300 * time.Millisecond
		return d.submitted(ctx, s, func(rs []tasks.Result) error {
			if rs[0].Code != tasks.Timeout || string(rs[0].Stdout) != "started\n" {
				return fmt.Errorf("got %s, %q; want a timeout", rs[0].Code, rs[0].Stdout)
			}
			return nil
		})
	})
	d.step("files in and out, standard input", func() error {
		t := sh("tr a-z A-Z < in.txt > out.txt; cat")
		t.Inputs = []tasks.Input{{Name: "in.txt", Content: tasks.Content{Inline: []byte("spread the work\n")}}}
		t.Stdin = &tasks.Content{Inline: []byte("and read this\n")}
		t.Outputs = []string{"*.txt"}
		return d.submit(ctx, t, tasks.Any(), func(rs []tasks.Result) error {
			for _, o := range rs[0].Outputs {
				if o.Name == "out.txt" && string(o.Inline) == "SPREAD THE WORK\n" {
					return want(rs, 1, func(*tasks.Result) string { return "and read this\n" })
				}
			}
			return fmt.Errorf("out.txt did not come back: %v", rs[0].Outputs)
		})
	})
	d.step("a query that matches nothing says why", func() error {
		s := submission(sh("true"), tasks.Where(`data.gpu == "h100"`))
		s.Options.WaitWorkers = 0
		_, err := d.master.Submit(ctx, s)
		if !errors.Is(err, tasks.ErrNoMatch) {
			return fmt.Errorf("got %v, want no match", err)
		}
		fmt.Fprintf(d.out, "  %v\n", err)
		return nil
	})
	d.step("a Go function on one worker", func() error {
		n, err := words.Call(ctx, d.master, tasks.Any(), "many hands make light work")
		if err == nil && n != 5 {
			err = fmt.Errorf("counted %d words, want 5", n)
		}
		return err
	})
	d.step("a Go function on all workers", func() error {
		t, err := words.Task("one two three")
		if err != nil {
			return err
		}
		return d.submit(ctx, t, tasks.All(), func(rs []tasks.Result) error {
			for i := range rs {
				if n, err := words.Result(&rs[i]); err != nil || n != 3 {
					return fmt.Errorf("%s counted %d words (%v), want 3", rs[i].Worker, n, err)
				}
			}
			return want(rs, 3, func(*tasks.Result) string { return "" })
		})
	})
	d.step("a Go function that returns an error", func() error {
		_, err := words.Call(ctx, d.master, tasks.On("w1"), "")
		if !errors.Is(err, tasks.ErrFailed) {
			return fmt.Errorf("got %v, want that it ran and failed", err)
		}
		fmt.Fprintf(d.out, "  %v\n", err)
		return nil
	})
	d.kinds(ctx)
	d.step("the tracker's list, over plain HTTP", func() error {
		hosts, err := tracker.List(ctx, http.DefaultClient, "http://"+d.agents[0].Self().AddrPort.String())
		if err == nil && (len(hosts.Workers) != 3 || len(hosts.Masters) != 1) {
			err = fmt.Errorf("%d masters and %d workers, want 1 and 3", len(hosts.Masters), len(hosts.Workers))
		}
		return err
	})
	return d.table()
}

func (d *demo) startAll(ctx context.Context) error {
	if _, err := d.start(ctx, d.config("tracker", membership.RoleTracker)); err != nil {
		return err
	}
	for i, data := range demoWorkers {
		cfg := d.config(fmt.Sprintf("w%d", i+1), membership.RoleWorker)
		cfg.Data = json.RawMessage(data)
		if _, err := d.start(ctx, cfg, words); err != nil {
			return err
		}
	}
	m, err := d.start(ctx, d.config("master", membership.RoleMaster))
	if err != nil {
		return err
	}
	probe := submission(tasks.Task{Kind: tasks.Function, Name: "demo.words", Packed: []byte{0xa1, 'x'}}, tasks.All())
	probe.Options.Expect = len(demoWorkers)
	if _, err := m.DryRun(ctx, probe); err != nil {
		return err
	}
	d.master = m
	return nil
}

func sh(line string) tasks.Task {
	return tasks.Task{Kind: tasks.Command, Argv: []string{"sh", "-c", line}}
}

func submission(t tasks.Task, target tasks.Target) tasks.Submission {
	return tasks.Submission{Task: t, Target: target, Options: tasks.DefaultOptions()}
}

func (d *demo) submit(ctx context.Context, t tasks.Task, target tasks.Target, check func([]tasks.Result) error) error {
	return d.submitted(ctx, submission(t, target), check)
}

// submitted runs a submission, prints what it wrote, and checks it.
func (d *demo) submitted(ctx context.Context, s tasks.Submission, check func([]tasks.Result) error) error {
	run, err := d.master.Submit(ctx, s)
	if err != nil {
		return err
	}
	rs, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	for i := range rs {
		for line := range bytes.Lines(slices.Concat(rs[i].Stdout, rs[i].Stderr)) {
			fmt.Fprintf(d.out, "  %s: %s\n", rs[i].Worker, bytes.TrimRight(line, "\n"))
		}
		if v, err := rs[i].JSONValue(); err == nil && len(rs[i].Value) > 0 {
			fmt.Fprintf(d.out, "  %s: returned %s\n", rs[i].Worker, v)
		}
		if err := rs[i].Err(); err != nil {
			fmt.Fprintf(d.out, "  %s: %v\n", rs[i].Worker, err)
		}
	}
	return check(rs)
}

// want checks that n tasks are done and wrote to stdout what they should.
func want(rs []tasks.Result, n int, stdout func(*tasks.Result) string) error {
	if len(rs) != n {
		return fmt.Errorf("%d results, want %d", len(rs), n)
	}
	for i := range rs {
		if err := rs[i].Err(); err != nil {
			return err
		}
		if w := stdout(&rs[i]); string(rs[i].Stdout) != w {
			return fmt.Errorf("%s wrote %q, want %q", rs[i].Worker, rs[i].Stdout, w)
		}
	}
	return nil
}

func names(rs []tasks.Result) []string {
	var ns []string
	for i := range rs {
		ns = append(ns, rs[i].Worker)
	}
	slices.Sort(ns)
	return ns
}

func (d *demo) step(what string, do func() error) {
	fmt.Fprintf(d.out, "\n▸ %s\n", what)
	start := time.Now()
	err := do()
	d.rows = append(d.rows, demoRow{what, time.Since(start), err})
	if err != nil {
		fmt.Fprintf(d.out, "  WRONG: %v\n", err)
	}
}

func (d *demo) members() {
	fmt.Fprintln(d.out)
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NAME\tADDRESS\tROLES\tSTATUS\tDATA")
	for _, m := range d.master.Members() {
		roles := make([]string, len(m.Roles))
		for i, r := range m.Roles {
			roles[i] = string(r)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", m.Name, m.AddrPort, strings.Join(roles, ","), m.Status, m.Document.Data)
	}
	w.Flush()
}

// table prints what was done and reports whether all of it was right.
func (d *demo) table() bool {
	ok := true
	fmt.Fprintln(d.out)
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	for _, r := range d.rows {
		verdict := "right"
		if r.err != nil {
			verdict, ok = "WRONG: "+r.err.Error(), false
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.what, r.took.Round(100*time.Microsecond), verdict)
	}
	w.Flush()
	return ok
}
