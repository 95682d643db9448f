package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/bus"
	"github.com/scagent/scagent/agent/client"
)

// MonitorCommand prints what happens in the pool.
type MonitorCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *MonitorCommand) Synopsis() string {
	return "print events, member changes and task changes as they happen"
}

// Help says how the command is called.
func (c *MonitorCommand) Help() string {
	return manual{
		name: "monitor", flags: simpleFlags(&common{}), usage: []string{"[PATTERN…]"},
		about: `
Prints, until ^C, members that come, go and change, tasks of this host's agent that change their
state, and events of the bus; with -json one object per line. With patterns it prints only those
events whose name matches one, see: scagent help events. When more happens than can be printed, the
oldest are left out, and "missed" says how many.`,
		exits: "0 ended by ^C, 1 failed, 2 called wrongly", example: "scagent monitor -json\nscagent monitor 'build.*' workerUnavailable",
	}.String()
}

// Run prints it.
func (c *MonitorCommand) Run(args []string) int {
	var patterns []bus.Pattern
	check := func(operands []string) error {
		for _, s := range operands {
			p, err := bus.ParsePattern(s)
			if err != nil {
				return err
			}
			patterns = append(patterns, p)
		}
		return nil
	}
	return simple(c.env, "monitor", c.Help(), args, check, func(ctx context.Context, cl *client.Client, o *common, _ []string) (int, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		signals, stop := c.env.Signals(false)
		defer stop()
		defer watchSignals(signals, func(os.Signal) { cancel(errInterrupted) })()
		if err := monitor(ctx, c.env, cl, o.json, patterns); !errors.Is(err, errInterrupted) {
			return 0, err
		}
		return exitOK, nil
	})
}

// monitor prints events until ctx ends. When the agent hangs up on a monitor that
// did not read, it goes on with the event after the last one.
func monitor(ctx context.Context, e *Env, cl *client.Client, asJSON bool, patterns []bus.Pattern) error {
	var last uint64
	for {
		stream, err := cl.Events(ctx, last, patterns...)
		if err != nil {
			return err
		}
		seen := last
		last, err = printEvents(e, stream, asJSON, last)
		stream.Close()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.Is(err, io.EOF):
			return err
		case last == seen:
			return errors.New("the agent hung up")
		}
	}
}

func printEvents(e *Env, stream *client.EventStream, asJSON bool, last uint64) (uint64, error) {
	for {
		ev, err := stream.Next()
		if err != nil {
			return last, err
		}
		last = ev.Seq
		line := formatEvent(&ev)
		if asJSON {
			b, err := json.Marshal(ev)
			if err != nil {
				return last, err
			}
			line = string(b)
		}
		if err := e.write(line + "\n"); err != nil {
			return last, err
		}
	}
}

// maxEventData is how many characters of an event's data are on its line.
const maxEventData = 1000

// formatEvent is an event on one line.
func formatEvent(ev *api.Event) string {
	words := []string{ev.Time.UTC().Format("15:04:05.000"), ev.Event}
	if ev.Event == api.EventMissed {
		if ev.Missed > 0 {
			words = append(words, strconv.FormatUint(ev.Missed, 10))
		}
		words = append(words, plural(int(ev.Missed), "event", "events"))
	}
	if ev.From != "" {
		words = append(words, "from "+ev.From)
	}
	if ev.Request {
		words = append(words, "(wants a reply)")
	}
	if ev.Data != nil {
		if b, err := ev.Data.MarshalJSON(); err == nil { // it came as JSON
			words = append(words, shorten(string(b), maxEventData))
		}
	}
	if m := ev.Member; m != nil {
		words = append(words, m.Name, m.Status, strings.Join(m.Roles, ","))
		if data := shortJSON(m.Data); data != "-" {
			words = append(words, data)
		}
	}
	if t := ev.Task; t != nil {
		words = append(words, t.ID.String(), string(t.Kind), string(t.State))
		if t.Worker != "" {
			words = append(words, "on "+t.Worker)
		}
		if t.State.Final() && exitOne(t) != exitOK {
			words = append(words, "("+how(t)+")")
		}
	}
	return clean(strings.Join(words, " "))
}

// watchSignals calls f with each signal, until the function that it returns is
// called.
func watchSignals(signals <-chan os.Signal, f func(os.Signal)) (end func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case s := <-signals:
				f(s)
			case <-quit:
				return
			}
		}
	})
	return func() {
		close(quit)
		wg.Wait()
	}
}
