package command

import (
	"context"
)

// MapCommand runs one command per input over all workers.
type MapCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *MapCommand) Synopsis() string { return "run one command per input over all workers" }

// Help says how the command is called.
func (c *MapCommand) Help() string {
	return manual{
		name: "map",
		usage: []string{"[options] COMMAND [ARG…] ::: INPUT…", "[options] COMMAND [ARG…] < INPUTS",
			"[options] -array A-B[:STEP] COMMAND [ARG…]", "[options] -shell 'LINE' …", "[options] -js SOURCE|@FILE [JSON-ARG…] …",
			"[options] -func NAME [JSON-ARG…] …"},
		about: `
Runs a task for each input, each on any one worker that has room, and prints what a task wrote when
it ends. Inputs are read as they are needed: there may be any number. In the command, {} stands for
the input, {.} for it without its extension, {/} for what is after its last slash, {//} for what is
before it, {/.} for {/} without extension, {#} for its number, from 1. The input is appended if there
is none of these. In -shell each is quoted for sh; put no quotes around it. Tasks that were cancelled,
by ^C or by -halt, are not in the -joblog, so that -resume runs them.`,
		flags: mapFlags(&mapOptions{}),
		exits: `0 if all tasks ended with 0; else how many did not, at most 100, 101 for more; those that -halt
  stopped are not counted. 125 an error of scagent's own; 130 ended by ^C or cancel.`,
		example: `
scagent map -in convert.sh sh convert.sh {} {/.}.png ::: *.svg
scagent map -shell 'curl -s {} | sha256sum' < urls
scagent map -k -joblog log -resume -array 1-1000 -- sh -c 'echo $SCAGENT_INDEX'`,
	}.String()
}

// Run maps.
func (c *MapCommand) Run(args []string) int {
	o, err := parseMap(args)
	if err != nil {
		if c.env.usage("map", c.Help(), err) == exitOK {
			return exitOK
		}
		return exitOwn
	}
	status, err := mapAll(c.env, o)
	if err != nil {
		c.env.fail(err)
		return exitOwn
	}
	return status
}

// mapAll returns the exit status, or an error of scagent's own.
func mapAll(e *Env, o *mapOptions) (status int, err error) {
	p := newPacker()
	common, err := o.template(p)
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

	c, leave, err := submitter(ctx, e, &o.submitOptions)
	if err != nil {
		return 0, err
	}
	defer leave()
	if err := p.send(ctx, c); err != nil {
		return 0, err
	}
	log, err := openJoblog(o)
	if err != nil {
		return 0, err
	}
	defer log.close()
	if !stop.submitting(c) {
		return 0, errInterrupted
	}
	b, err := c.OpenBatch(ctx, o.batch())
	if err != nil {
		return 0, err
	}
	defer b.Close()
	stop.submitted(b.Submitted().Run)
	m := newMapper(e, o, c, stop, b, log)
	m.template = newTemplate(*common, o.operands, o.array == nil || o.js != "" || o.function != "")
	return m.run(ctx)
}
