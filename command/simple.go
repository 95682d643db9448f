package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/scagent/scagent/agent/client"
)

// simpleFlags are the flags of commands that have none of their own.
func simpleFlags(o *common) *flagSet {
	f := newFlags(true)
	o.define(f)
	return f
}

// simple runs a command that has only the common flags: check looks at the
// operands, call talks to the agent and returns what to print.
func simple(e *Env, name, help string, args []string, check func([]string) error,
	call func(ctx context.Context, c *client.Client, o *common, operands []string) (status int, err error)) int {
	o := &common{}
	return talk(e, name, help, simpleFlags(o), o, args, check, func(ctx context.Context, c *client.Client, operands []string) (int, error) {
		return call(ctx, c, o, operands)
	})
}

// talk is simple for a command with flags of its own, which are f; o are the common
// ones among them.
func talk(e *Env, name, help string, f *flagSet, o *common, args []string, check func([]string) error,
	call func(ctx context.Context, c *client.Client, operands []string) (status int, err error)) int {
	operands, err := f.parse(args)
	if err == nil {
		err = check(operands)
	}
	if err != nil {
		return e.usage(name, help, err)
	}
	c, err := e.connect(o)
	if err != nil {
		return e.fail(err)
	}
	defer c.Close()
	status, err := call(context.Background(), c, operands)
	if err != nil {
		return e.fail(err)
	}
	return status
}

// AvailableCommand takes this node's worker out of the list of available
// workers, or puts it back.
type AvailableCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *AvailableCommand) Synopsis() string {
	return "take this node's worker out of use, or put it back"
}

// Help says how the command is called.
func (c *AvailableCommand) Help() string {
	return manual{
		name: "available", usage: []string{"on|off"}, flags: simpleFlags(&common{}),
		about: `
Takes this node's worker out of the list of available workers, or puts it back. Tasks that run go on.
While it is out, new tasks reach it by name with submit -force only.`,
		example: "scagent available off",
	}.String()
}

// Run does it.
func (c *AvailableCommand) Run(args []string) int {
	check := func(operands []string) error {
		if len(operands) != 1 || operands[0] != "on" && operands[0] != "off" {
			return errors.New("want on or off")
		}
		return nil
	}
	return simple(c.env, "available", c.Help(), args, check, func(ctx context.Context, cl *client.Client, o *common, operands []string) (int, error) {
		return exitOK, cl.SetAvailable(ctx, operands[0] == "on")
	})
}

// DrainCommand makes the agent take no new tasks and waits for those that run.
type DrainCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *DrainCommand) Synopsis() string { return "take no new tasks, wait for running ones" }

// Help says how the command is called.
func (c *DrainCommand) Help() string {
	return manual{
		name: "drain", flags: simpleFlags(&common{}), usage: []string{""},
		about: `
Makes the agent of this host take no new tasks, and waits until those that it runs have ended. Queued
ones are given back to those who submitted them. The agent stays in the pool, can still submit tasks,
and takes none until it is started anew; ^C ends only the waiting. To take a worker out of use for a
while, see: scagent available -h.`,
		example: "scagent drain && scagent leave",
	}.String()
}

// Run does it.
func (c *DrainCommand) Run(args []string) int {
	return simple(c.env, "drain", c.Help(), args, none, func(ctx context.Context, cl *client.Client, o *common, _ []string) (int, error) {
		return exitOK, cl.Drain(ctx)
	})
}

// JoinCommand makes the agent join a pool.
type JoinCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *JoinCommand) Synopsis() string { return "make the agent join the pool at an address" }

// Help says how the command is called.
func (c *JoinCommand) Help() string {
	return manual{
		name: "join", usage: []string{"ADDR…"}, flags: simpleFlags(&common{}),
		about: `
Makes the agent of this host join the pool at one or more addresses of members: HOST[:PORT],
srv:NAME, or a tracker's http://HOST:PORT.`,
		exits: "0 one of them answered, 1 none did, 2 called wrongly", example: "scagent join 10.0.0.5",
	}.String()
}

// Run does it.
func (c *JoinCommand) Run(args []string) int {
	check := func(operands []string) error {
		if len(operands) == 0 {
			return errors.New("want at least one address")
		}
		return nil
	}
	return simple(c.env, "join", c.Help(), args, check, func(ctx context.Context, cl *client.Client, o *common, operands []string) (int, error) {
		n, err := cl.Join(ctx, operands...)
		switch {
		case err != nil:
			return 0, err
		case n == 0:
			return 0, fmt.Errorf("no member answered at %v", operands)
		case o.json:
			return c.env.printJSON(struct {
				Joined int `json:"joined"`
			}{n}), nil
		case !o.quiet:
			c.env.note("joined at %d of %d %s", n, len(operands), plural(len(operands), "address", "addresses"))
		}
		return exitOK, nil
	})
}

// LeaveCommand makes the agent leave the pool and end.
type LeaveCommand struct{ env *Env }

// Synopsis says what the command does, on one line.
func (c *LeaveCommand) Synopsis() string { return "make the agent leave the pool and end" }

// Help says how the command is called.
func (c *LeaveCommand) Help() string {
	return manual{
		name: "leave", flags: simpleFlags(&common{}), usage: []string{""},
		about:   "Makes the agent of this host leave the pool and end. Tasks that it runs are stopped.",
		example: "scagent leave",
	}.String()
}

// Run does it.
func (c *LeaveCommand) Run(args []string) int {
	return simple(c.env, "leave", c.Help(), args, none, func(ctx context.Context, cl *client.Client, o *common, _ []string) (int, error) {
		return exitOK, cl.Leave(ctx)
	})
}
