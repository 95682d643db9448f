package command

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// demoTimeout bounds the whole demo.
const demoTimeout = time.Minute

// DemoCommand shows a small cluster inside this process.
type DemoCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *DemoCommand) Synopsis() string {
	return "a small cluster inside this process, running a task of every kind"
}

// demoOptions are what the flags say.
type demoOptions struct {
	keep     bool
	logLevel string
}

func demoFlags(o *demoOptions) *flagSet {
	o.logLevel = "WARN"
	f := newFlags(true)
	f.group("Options")
	f.boolean(&o.keep, "keep", "leave the cluster running until ^C, and say how to talk to it")
	f.str(&o.logLevel, "log-level", "`TRACE|DEBUG|INFO|WARN|ERR`")
	return f
}

// Help says how the command is called.
func (c *DemoCommand) Help() string {
	return manual{
		name: "demo", usage: []string{"[-keep]"}, flags: demoFlags(&demoOptions{}),
		about: `
Starts a tracker, a master and three workers on 127.0.0.1, runs commands and functions on one of them, on all and on
those that match a query, checks every result, and ends with a table. Its cluster has a random name and uses no
multicast, so it never meets another.`,
		exits: "0 every result was right, 1 something was wrong, 2 called wrongly", example: "scagent demo",
	}.String()
}

// Run runs the demo.
func (c *DemoCommand) Run(args []string) int {
	o := &demoOptions{}
	operands, err := demoFlags(o).parse(args)
	if err == nil && len(operands) > 0 {
		err = fmt.Errorf("unexpected argument %q", operands[0])
	}
	if err != nil {
		return c.env.usage("demo", c.Help(), err)
	}
	signals, stop := c.env.Signals(false)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), demoTimeout)
	defer cancel()
	logger, _ := newLogger(c.env.Stderr, o.logLevel)
	d := newDemo(c.env.Stdout, logger)
	defer d.close()
	finished := make(chan bool, 1)
	go func() { finished <- d.run(ctx) }()
	select {
	case right := <-finished:
		if !right {
			return exitFailed
		}
	case <-signals:
		cancel()
		<-finished
		return exitFailed
	}
	if !o.keep {
		return exitOK
	}
	return c.keep(d, signals)
}

// keep serves the master's API until a signal comes.
func (c *DemoCommand) keep(d *demo, signals <-chan os.Signal) int {
	dir, err := os.MkdirTemp("", "scagent-demo-")
	if err != nil {
		return c.env.fail(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return c.env.fail(err)
	}
	s := &http.Server{Handler: d.master.APIHandler(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() { s.Serve(l); close(ended) }()
	fmt.Fprintf(c.env.Stdout, "\nThe cluster stays up until ^C. Elsewhere:\n  export SCAGENT_ADDR=unix://%s\n  scagent members\n  scagent submit -all -- hostname\n", socket)
	<-signals
	s.Close()
	<-ended
	return exitOK
}
