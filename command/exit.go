package command

import (
	"strconv"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks"
)

// Exit statuses of submit, besides a task's own and 128+n for signal n.
const (
	exitSeveralMax    = 100 // several targets: so many did not end with 0
	exitSeveralMore   = 101 // or more
	exitTimeout       = 124
	exitOwn           = 125 // an error of scagent's own
	exitNotExecutable = 126
	exitNotFound      = 127
	exitCancelled     = 130
	exitPipe          = 141 // standard output was closed, as a shell reports SIGPIPE
)

// exitOne is the exit status of submit for one target.
func exitOne(t *api.TaskStatus) int {
	if cancelled(t) {
		return exitCancelled
	}
	switch t.Reason {
	case tasks.OK:
		if t.State == tasks.StateDone {
			return exitOK
		}
	case tasks.Exit:
		if t.ExitCode >= 1 && t.ExitCode <= 255 {
			return t.ExitCode
		}
		return 255 // a process status here has eight bits, a worker's need not
	case tasks.Signalled:
		return 128 + signalNumber(t.Signal)
	case tasks.Timeout:
		return exitTimeout
	case tasks.NotExecutable:
		return exitNotExecutable
	case tasks.NotFound:
		return exitNotFound
	case tasks.Failed, tasks.Panic:
		return exitFailed
	}
	return exitOwn
}

func cancelled(t *api.TaskStatus) bool {
	return t.State == tasks.StateCancelled || t.Reason == tasks.Cancelled
}

// tally counts how the tasks of a run with several targets ended.
type tally struct{ bad, cancelled int }

func (n *tally) add(t *api.TaskStatus) {
	if exitOne(t) != exitOK {
		n.bad++
	}
	if cancelled(t) {
		n.cancelled++
	}
}

// exit is the exit status of submit for several targets.
func (n *tally) exit() int {
	switch {
	case n.cancelled > 0:
		return exitCancelled
	case n.bad > exitSeveralMax:
		return exitSeveralMore
	}
	return n.bad
}

// how says in a few words how a task that did not end with 0 ended. Text comes
// from the worker.
func how(t *api.TaskStatus) string {
	with := func(words string) string {
		switch {
		case t.Error == "":
			return words
		case strings.HasPrefix(t.Error, words):
			return clean(t.Error)
		}
		return words + ": " + clean(t.Error)
	}
	if cancelled(t) {
		return "cancelled"
	}
	switch t.Reason {
	case tasks.Exit:
		return "exit " + strconv.Itoa(t.ExitCode)
	case tasks.Signalled:
		return "signal " + clean(t.Signal)
	case tasks.Timeout:
		return with("timeout")
	case tasks.NotFound, tasks.NotExecutable:
		return with("exit " + strconv.Itoa(exitOne(t)))
	case tasks.NeverReached, tasks.NoMatch:
		return with("never reached")
	case tasks.Refused, tasks.NoFunction, tasks.BadInput, tasks.Busy, tasks.Draining:
		return with("refused")
	case tasks.Lost, tasks.Poison:
		return with("lost while running")
	}
	return with(t.Reason.String())
}

// signalNames are in the order of their numbers on Linux, from 1.
var signalNames = [...]string{"HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
	"ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH",
	"IO", "PWR", "SYS"}

// signalNumber returns the number of a signal by its name, such as SIGTERM, or
// by what Go calls one without a name, such as "signal 34"; 127 for others, so
// that the exit status is 255.
func signalNumber(name string) int {
	for i, n := range signalNames {
		if name == "SIG"+n {
			return i + 1
		}
	}
	switch name {
	case "SIGIOT":
		return 6
	case "SIGPOLL":
		return 29
	}
	if digits, ok := strings.CutPrefix(name, "signal "); ok {
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && n < 127 {
			return n
		}
	}
	return 127
}
