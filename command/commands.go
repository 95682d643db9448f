package command

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/mitchellh/cli"
)

// entry is a line of the table of commands.
type entry struct {
	name string
	make func(*Env) cli.Command
}

// commands are all commands in the order in which help lists them. A new command
// is a line here.
func commands() []entry {
	return []entry{
		{"agent", func(e *Env) cli.Command { return &AgentCommand{e} }},
		{"submit", func(e *Env) cli.Command { return &SubmitCommand{e} }},
		{"map", func(e *Env) cli.Command { return &MapCommand{e} }},
		{"members", func(e *Env) cli.Command { return &MembersCommand{e} }},
		{"tasks", func(e *Env) cli.Command { return &TasksCommand{e} }},
		{"status", func(e *Env) cli.Command { return &StatusCommand{e} }},
		{"logs", func(e *Env) cli.Command { return &LogsCommand{e} }},
		{"wait", func(e *Env) cli.Command { return &WaitCommand{e} }},
		{"cancel", func(e *Env) cli.Command { return &CancelCommand{e} }},
		{"event", func(e *Env) cli.Command { return &EventCommand{e} }},
		{"monitor", func(e *Env) cli.Command { return &MonitorCommand{e} }},
		{"available", func(e *Env) cli.Command { return &AvailableCommand{e} }},
		{"drain", func(e *Env) cli.Command { return &DrainCommand{e} }},
		{"data", func(e *Env) cli.Command { return &DataCommand{e} }},
		{"join", func(e *Env) cli.Command { return &JoinCommand{e} }},
		{"leave", func(e *Env) cli.Command { return &LeaveCommand{e} }},
		{"secret", func(e *Env) cli.Command { return &SecretCommand{env: e} }},
		{"info", func(e *Env) cli.Command { return &InfoCommand{e} }},
		{"bench", func(e *Env) cli.Command { return &BenchCommand{e} }},
		{"journal", func(e *Env) cli.Command { return &JournalCommand{e} }},
		{"demo", func(e *Env) cli.Command { return &DemoCommand{e} }},
		{"version", func(e *Env) cli.Command { return &VersionCommand{e} }},
		{"help", func(e *Env) cli.Command { return &HelpCommand{e} }},
	}
}

// aliases are other names of commands.
var aliases = map[string]string{"ps": "tasks"}

// Main runs the command line, without the program's name, and returns the exit
// status of the process.
func Main(args []string) int {
	keepPipes()
	keepOwn()
	return Run(NewEnv(), args)
}

// keepPipes makes writing to a closed standard output an error, so that what runs
// elsewhere can be stopped, rather than the end of this process. The signal is not
// ignored: the programs that an agent starts would ignore it too.
func keepPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// Run runs a command line in an Env.
func Run(env *Env, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(env.Stderr, overview())
		return exitUsage
	}
	switch args[0] {
	case "-h", "-help", "--help":
		return env.print(overview())
	case "-v", "-version", "--version":
		args = []string{"version"}
	}
	table := commands()
	var names []string
	factories := make(map[string]cli.CommandFactory, len(table))
	for _, c := range table {
		names = append(names, c.name)
		factories[c.name] = func() (cli.Command, error) { return c.make(env), nil }
	}
	if name, ok := aliases[args[0]]; ok {
		args = append([]string{name}, args[1:]...)
	}
	if name := args[0]; !slices.Contains(names, name) {
		env.note("%s", unknownCommand(name, names))
		return exitUsage
	}
	// mitchellh/cli looks for flags of its own up to a "--": there are none to be
	// found, since what follows the command's name is the command's.
	c := &cli.CLI{
		Name: "scagent", Args: append([]string{args[0], "--"}, args[1:]...), Commands: factories,
		HelpWriter: env.Stdout, ErrorWriter: env.Stderr,
	}
	status, err := c.Run()
	if err != nil {
		return env.fail(err)
	}
	return status
}

func unknownCommand(name string, names []string) string {
	if strings.HasPrefix(name, "-") {
		return fmt.Sprintf("unknown flag %s; flags come after a command's name, see: scagent help", clean(shorten(name, 40)))
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("unknown command %q; did you mean %s?", shorten(name, 40), near)
	}
	return fmt.Sprintf("unknown command %q; see: scagent help, and to run a program elsewhere: scagent submit %s", shorten(name, 40), clean(shorten(name, 40)))
}
