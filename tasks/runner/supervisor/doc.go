// Package supervisor sees to it that nothing is left of an agent's tasks when the
// agent is gone, however it went: no process, and no directory.
//
// # While the agent lives
//
// Open makes a directory for the work directories of this agent, from its start to
// its end, below one that its state directory keeps for them, and opens the nets
// that hold its tasks' processes (package process). It starts the program once
// more as a helper, the supervisor process. That has a pipe whose other end only
// the agent has. It waits for the pipe's end and does nothing else: no task costs
// it anything. It has a session of its own, ignores the signals that end agents,
// and has nothing open but the pipe and the file that the process groups are
// written down in, so that who reads the agent's output sees its end. When it is
// killed, the agent starts another.
//
// # When the agent is killed
//
// The pipe ends. The supervisor process kills what the nets hold, removes the
// work directories, and exits. When the agent ends by itself, Close does so, and
// tells the process to exit.
//
// # When both are killed
//
// The directory stays, and in it a record of what the processes are known by. Who
// opens a supervisor next on the same directory, and so has the lock of the state
// directory, does for each that it finds what the supervisor process would have
// done. It may be doing so at the same time.
//
// A program that does not call agent.RunHelper, and windows, have no supervisor
// process: there only the next start tidies up.
package supervisor
