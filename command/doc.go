// Package command is the command line of scagent: it parses, calls and prints.
//
// Main looks the subcommand up in the table of commands.go and runs it. Each
// command is a type with Synopsis, Help and Run, in a file of its own. Run is
// thin: a parse function turns arguments into a struct of options, a call goes
// through package agent/client to the agent of this host, and a format function
// makes text of the answer, so that each of the three is tested alone. What a
// command reads, writes and asks of its surroundings comes in an Env.
//
// # Streams and exit statuses
//
// Results go to standard output, and nothing else does; messages, progress and
// errors go to standard error. A command ends with 0, with 1 when it failed or
// 2 when it was called wrongly; submit has a table of its own, see exit.go.
// Text that comes from other nodes is printed by way of clean, so that it cannot
// drive the terminal; only what a task writes is passed on as it is.
//
// # Submit
//
// submit.go is the way of one submit, submitflags.go its flags, taskspec.go
// and content.go make the task of them, with the files that it takes along.
// follow.go reads what happens, interrupt.go is ^C, and a printer (printer.go,
// prefix.go, fold.go, jsonlines.go) makes output of it; outputs.go writes the
// files that come back.
//
// # Without an agent
//
// Where no agent runs, submit and members start one in this process for as long
// as they need it, see local.go. That file, agent.go and demo.go are the only
// ones that know package agent.
package command
