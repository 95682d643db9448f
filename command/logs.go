package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/tasks"
)

// LogsCommand prints what tasks have written.
type LogsCommand struct{ env *Env }

// logsOptions are what the arguments of logs say.
type logsOptions struct {
	common
	follow   bool
	stream   string // stdout, stderr or both
	noPrefix bool
}

// Synopsis says what the command does, on one line.
func (c *LogsCommand) Synopsis() string { return "output of a task or run; -f follows" }

// Help says how the command is called.
func (c *LogsCommand) Help() string {
	return manual{
		name: "logs", usage: []string{"[options] ID"}, flags: logsFlags(&logsOptions{}),
		about: `
Prints what a task, or the tasks of a run, have written by now, whichever agent of the pool they were
submitted to: as submit does, with names before the lines of several. Of each stream the first 64 KiB
and the last 960 KiB are kept; a line on standard error says what is missing between them. -f goes on
with what they write, which they wait for to be read, and ends when they do. -json prints a line per
event, as submit -json-stream.`,
		exits:   "0 printed, 1 failed or the id is not known, 2 called wrongly",
		example: "scagent logs -f $(scagent submit -detach make)",
	}.String()
}

func logsFlags(o *logsOptions) *flagSet {
	o.stream = "both"
	f := newFlags(true)
	f.group("Options")
	f.boolean(&o.follow, "f", "follow: go on until the tasks end")
	f.str(&o.stream, "stream", "`STREAM` to print: stdout, stderr or both")
	f.boolean(&o.noPrefix, "no-prefix", "several tasks: no names before lines")
	o.common.define(f)
	f.finish = func() error { return oneOf("-stream", []string{o.stream}, stdout, stderr, "both") }
	return f
}

// Run prints it.
func (c *LogsCommand) Run(args []string) int {
	o := &logsOptions{}
	var id tasks.ID
	check := func(operands []string) error {
		if len(operands) != 1 {
			return errors.New("want one id of a task or a run")
		}
		ids, err := parseIDs(operands)
		if err == nil {
			id = ids[0]
		}
		return err
	}
	return talk(c.env, "logs", c.Help(), logsFlags(o), &o.common, args, check, func(ctx context.Context, cl *client.Client, _ []string) (int, error) {
		open := cl.PeekRun
		if o.follow {
			open = cl.FollowRun
		}
		stream, err := open(ctx, id)
		if err != nil {
			return 0, err
		}
		return exitOK, newLogs(c.env, o, cl, id, stream).run(ctx)
	})
}

// logs prints the events of a run.
type logs struct {
	o       *logsOptions
	client  *client.Client
	stream  *client.Stream
	labels  *labels
	out     *streams
	printer printer
	wrote   map[int]bool // tasks of which there was output, by index
	ended   int          // tasks
}

func newLogs(e *Env, o *logsOptions, cl *client.Client, id tasks.ID, stream *client.Stream) *logs {
	s := stream.Submitted()
	l := &logs{o: o, client: cl, stream: stream, labels: newLabels(&s), out: newStreams(e), wrote: map[int]bool{}}
	like := &submitOptions{common: o.common, jsonStream: o.json, noPrefix: o.noPrefix}
	l.printer = newPrinter(like, s.Several && id == s.Run, e.color(), l.out)
	return l
}

func (l *logs) run(ctx context.Context) error {
	a := readAhead(l.stream)
	defer a.close()
	for e := range a.events {
		l.event(&e)
		if len(a.events) > 0 {
			continue // written together with what follows
		}
		if err := l.out.flush(); err != nil {
			return notWritten(err)
		}
	}
	l.printer.end()
	if err := l.out.flush(); err != nil {
		return notWritten(err)
	}
	switch s := l.stream.Submitted(); {
	case !errors.Is(a.broken, io.EOF), l.o.follow && l.ended < len(s.Tasks):
		return whyCut(ctx, l.client, a.broken, s.Run)
	}
	return nil
}

func (l *logs) event(e *api.StreamEvent) {
	label := l.labels.of(e)
	switch e.Type {
	case api.StreamOutput:
		l.output(label, e)
		return
	case api.StreamAgain:
		l.say("%s: starts anew, attempt %d; what it printed before is void", label, e.Attempt)
	case api.StreamResult:
		if e.Result == nil {
			return // no task to speak of
		}
		l.ended++
		if !l.wrote[e.Index] {
			l.kept(label, e)
		}
		if !l.o.json && !l.wants(stdout) {
			c, t := *e, *e.Result
			t.Kind = "" // whose value goes to standard output
			c.Result, e = &t, &c
		}
	}
	l.printer.event(label, e)
}

// wants reports whether a stream is printed.
func (l *logs) wants(stream string) bool { return l.o.stream == "both" || l.o.stream == stream }

// output prints what a task wrote, and says what is missing in it.
func (l *logs) output(label string, e *api.StreamEvent) {
	l.wrote[e.Index] = true
	if !l.wants(e.Stream) {
		return
	}
	l.printer.event(label, e)
	if e.CutBytes > 0 {
		l.say("%s: %d bytes of %s were cut out of the middle", label, e.CutBytes, clean(e.Stream))
	}
}

// kept prints what was kept of the output of a task that ended long ago: there are
// no events of it any more.
func (l *logs) kept(label string, e *api.StreamEvent) {
	t := e.Result
	for _, s := range []struct {
		name string
		text *string
		raw  []byte
		cut  int64
	}{{stdout, t.Stdout, t.StdoutBase64, t.StdoutCutBytes}, {stderr, t.Stderr, t.StderrBase64, t.StderrCutBytes}} {
		data := s.raw
		if s.text != nil {
			data = []byte(*s.text)
		}
		if len(data) > 0 {
			l.output(label, &api.StreamEvent{Type: api.StreamOutput, Task: e.Task, Index: e.Index, Worker: e.Worker, WorkerID: e.WorkerID,
				Attempt: e.Attempt, Stream: s.name, DataBase64: data, CutBytes: s.cut})
		}
	}
}

// say writes a message in its place among the output.
func (l *logs) say(format string, a ...any) {
	if !l.o.quiet {
		fmt.Fprintf(l.out.to(stderr), "scagent: "+format+"\n", a...)
	}
}
