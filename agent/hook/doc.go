// Package hook runs commands of the agent's owner when events happen.
//
// A Hook is a pattern for the names of events and a line for the shell. The
// command gets the event as a line of JSON on its standard input, and what is
// short of it in its environment (env.go has the list). What it writes goes to the
// agent's log.
//
// # Which run when
//
// Each hook reads the agent's events on its own, and runs its command for one
// after the other, in their order. Config.MaxRunning of an agent's hooks run at
// once; the others wait. A hook that is slower than its events loses the oldest of
// them, which is counted and said: its queue is its subscription, and nothing else
// waits for it.
//
// A request is answered by the first hook whose pattern matches (Answer): the
// command's standard output is the reply. Requests are not queued. As many run at
// once as do for events, beside those; one more is told that the node is busy. That
// hook does not run a second time when the request is read as an event; others that
// match run as for any event.
//
// # What it may do
//
// A command runs as the agent's user, in the directory where the agent was started,
// with the agent's environment, but for what begins with SCAGENT_. The event comes
// from other nodes: its parts are values of the environment and input, never part
// of the line that the shell reads.
//
// What a command can do wrong costs nobody else:
//
//   - One that hangs is asked to end when Config.Timeout is over (SIGTERM to its
//     process group), and after Config.Grace is killed, with all that it has started.
//   - What it leaves running ends with it, see package process; so it does with the
//     agent, also with one that is killed when Config.Nets are those of a supervisor.
//   - Of its output outputBytes of each run are logged, and lines only as fast as
//     lineRate. The rest is read, slowly, and counted.
//   - That it failed, and why, is said once, and again only when it has succeeded in
//     between; until then its output is not logged either. All is counted.
//
// A command whose own doing leads to another event that it matches runs again, and
// so on for ever, one run at a time: nothing here can tell that from other events.
package hook
