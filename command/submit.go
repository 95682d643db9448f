package command

import (
	"context"
	"errors"
	"time"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// SubmitCommand runs a task on workers and waits for it.
type SubmitCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *SubmitCommand) Synopsis() string {
	return "run a task on one, some or all workers, and wait for it"
}

// Help says how the command is called.
func (c *SubmitCommand) Help() string {
	return manual{
		name: "submit",
		usage: []string{"[options] [--] COMMAND [ARG…]", "[options] -shell 'LINE'", "[options] -file PATH [ARG…]",
			"[options] -git URL|USER/REPO [-ref REF] [-pre LINE…] [-post LINE…] -- COMMAND [ARG…]",
			"[options] -js SOURCE|@FILE [JSON-ARG…]", "[options] -func NAME [JSON-ARG…]", "[options] -task FILE.json|-"},
		about: `
Runs a task on one, some or all workers, passes on what it prints, and ends when it ends. Options
come before the command; what follows is the command's own. ^C stops the task, a second ^C kills it.
Where no agent runs, this command joins the pool itself for as long as it takes.`,
		flags: submitFlags(&submitOptions{}),
		exits: `one target: the task's own; 128+n killed by signal n; 124 timed out; 126 not executable;
  127 no such command; 1 a function returned an error. Several targets: how many did not end with 0,
  at most 100, 101 for more. 125 an error of scagent's own; 130 ended by ^C or cancel.`,
		example: `
scagent submit hostname
scagent submit -all -- df -h /
scagent submit -where 'data.gpu != nil' -n 2 -in scene.blend -out '*.png' -- render scene.blend`,
	}.String()
}

// Run submits.
func (c *SubmitCommand) Run(args []string) int {
	o, err := parseSubmit(args)
	if err != nil {
		if c.env.usage("submit", c.Help(), err) == exitOK {
			return exitOK
		}
		return exitOwn
	}
	status, err := submit(c.env, o)
	if err != nil {
		c.env.fail(err)
		return exitOwn
	}
	return status
}

// submit returns the exit status, or an error of scagent's own.
func submit(e *Env, o *submitOptions) (status int, err error) {
	p := newPacker()
	req, err := o.request(e.Stdin, p)
	if err != nil {
		return 0, err
	}
	ctx, abort := context.WithCancelCause(context.Background())
	defer abort(nil)
	stop := newInterrupter(e, o.quiet, abort)
	defer stop.close()
	defer func() {
		if err != nil && stop.hit() {
			status, err = exitCancelled, nil
		}
	}()

	c, leave, err := submitter(ctx, e, o)
	if err != nil {
		return 0, err
	}
	defer leave()
	if o.dryRun {
		return dryRun(ctx, e, o, c, req)
	}
	if err := p.send(ctx, c); err != nil {
		return 0, err
	}
	if !stop.submitting(c) {
		return 0, errInterrupted
	}
	if o.detach {
		s, err := awaitWorkers(ctx, stop, req, c.Submit)
		if err != nil {
			return 0, err
		}
		if stop.hit() {
			stop.submitted(s.Run)
			return exitCancelled, nil
		}
		return printSubmitted(e, o, &s), nil
	}
	stream, err := awaitWorkers(ctx, stop, req, c.SubmitFollow)
	if err != nil {
		return 0, err
	}
	stop.submitted(stream.Submitted().Run)
	return newFollower(e, o, c, stop, stream).run(ctx)
}

const (
	// waitSlice is how long one request waits for workers.
	waitSlice = 500 * time.Millisecond
	// maxWaitSeconds is where a wait for workers counts as for ever.
	maxWaitSeconds = 1e9
)

// awaitWorkers submits until there are workers, or the wait for them is over. It
// does so in requests that are short and never broken off: whoever breaks one off
// cannot know whether something was submitted. A signal ends it between two.
func awaitWorkers[T any](ctx context.Context, stop *interrupter, req *api.SubmitRequest, submit func(context.Context, api.SubmitRequest) (T, error)) (T, error) {
	wait := tasks.DefaultOptions().WaitWorkers
	if s := req.Options.WaitWorkersSeconds; s != nil {
		if *s < 0 {
			return submit(ctx, *req) // which is refused
		}
		wait = time.Duration(min(*s, maxWaitSeconds) * float64(time.Second))
	}
	deadline := time.Now().Add(wait)
	for {
		left := time.Until(deadline)
		slice := max(0, min(left, waitSlice)).Seconds()
		r := *req
		r.Options.WaitWorkersSeconds = &slice
		v, err := submit(ctx, r)
		var e *api.Error
		if err == nil || left <= waitSlice || !errors.As(err, &e) || e.Code != api.CodeNoMatch || stop.hit() {
			return v, err
		}
	}
}

// submitter returns the client of this host's agent, or of one that it starts.
// leave ends what was started.
func submitter(ctx context.Context, e *Env, o *submitOptions) (c *client.Client, leave func(), err error) {
	c, err = e.connect(&o.common)
	switch {
	case err == nil:
		if err := refuseLocal(o.localSet, c.Addr()); err != nil {
			c.Close()
			return nil, nil, err
		}
		return c, c.Close, nil
	case !e.mayStart(&o.common, err):
		return nil, nil, err
	case o.detach:
		return nil, nil, errors.New("-detach needs an agent that outlives this command, and none runs here; start one: scagent agent -role master")
	}
	l := localStart{localOptions: o.local, wait: o.options.WaitWorkers}
	if o.target.Several() {
		l.settle = settleTime // so that the set of workers is not taken of half a list
	}
	return startLocal(ctx, e, &l)
}

func printSubmitted(e *Env, o *submitOptions, s *api.Submitted) int {
	if o.json {
		return e.printJSON(s)
	}
	if !s.Several && len(s.Tasks) == 1 {
		return e.print(s.Tasks[0].ID.String() + "\n")
	}
	return e.print(s.Run.String() + "\n")
}

// dryRun says who would get the task.
func dryRun(ctx context.Context, e *Env, o *submitOptions, c *client.Client, req *api.SubmitRequest) (int, error) {
	d, err := c.DryRun(ctx, *req)
	if err != nil {
		return 0, err
	}
	if o.json || o.jsonStream {
		e.printJSON(d)
	} else {
		e.print(formatDryRun(&d))
	}
	if d.Error != nil {
		return 0, d.Error
	}
	return exitOK, nil
}

func formatDryRun(d *api.DryRun) string {
	t := table{{"NAME", "TAKES", "WHY"}}
	for _, w := range d.Workers {
		t = append(t, []string{w.Name, yesNo(w.Takes), w.Why})
	}
	return t.String()
}
