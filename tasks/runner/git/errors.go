package git

import (
	"fmt"
	"strings"

	"github.com/scagent/scagent/tasks"
)

// failure is an error with the code that the attempt ends with.
type failure struct {
	code tasks.Code
	text string
}

func (e *failure) Error() string { return e.text }

// Outcome returns the outcome of the attempt.
func (e *failure) Outcome() tasks.Outcome {
	out := tasks.Outcome{Code: e.code, Text: e.text}
	if e.code == tasks.NotFound {
		out.Exit = 127
	}
	return out
}

func badInput(format string, a ...any) error {
	return &failure{tasks.BadInput, fmt.Sprintf(format, a...)}
}

// stopped is the error of a git that was stopped with its attempt.
type stopped struct{ outcome tasks.Outcome }

func (e *stopped) Error() string { return e.outcome.Text }

// Outcome returns the outcome of the attempt.
func (e *stopped) Outcome() tasks.Outcome { return e.outcome }

// gitError is what a git that failed said.
type gitError struct {
	verb   string
	text   string // standard error
	hint   string // what to do
	exit   int
	signal string
}

func (e *gitError) Error() string { return e.outcome().Text }

// Outcome returns the outcome of the attempt, for an error of no known kind.
func (e *gitError) Outcome() tasks.Outcome { return e.outcome() }

func (e *gitError) outcome() tasks.Outcome {
	text := fmt.Sprintf("git %s: %s%s", e.verb, e.line(), e.hint)
	if e.says("no space left on device", "disk quota exceeded") {
		text = fmt.Sprintf("git %s: the disk of the mirrors or of the work directories is full", e.verb)
	}
	return tasks.Outcome{Code: tasks.Internal, Text: text}
}

// says reports whether git's messages contain one of the texts, given in lower case.
func (e *gitError) says(texts ...string) bool {
	said := strings.ToLower(e.text)
	for _, t := range texts {
		if strings.Contains(said, t) {
			return true
		}
	}
	return false
}

// line returns the most telling line, without anything that is not printable.
func (e *gitError) line() string {
	last := ""
	for l := range strings.Lines(e.text) {
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		last = l
		if what, ok := strings.CutPrefix(l, "fatal: "); ok {
			last = what
			break
		}
	}
	last = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(last, "?"))
	switch {
	case last == "" && e.signal != "":
		return "killed by " + e.signal
	case last == "":
		return fmt.Sprintf("exit status %d", e.exit)
	case len(last) > 300:
		return strings.ToValidUTF8(last[:300], "") + "…"
	}
	return last
}

// unreachable reports whether the network, and not the repository, is at fault.
func (e *gitError) unreachable() bool {
	return e.says("could not resolve", "unable to look up", "temporary failure in name resolution", "name or service not known",
		"failed to connect", "couldn't connect", "could not connect", "unable to connect", "connection refused", "connection timed out", "operation timed out", "timed out",
		"network is unreachable", "no route to host", "connection reset", "operation too slow", "unexpected disconnect", "early eof",
		"the remote end hung up", "returned error: 5", "recv failure", "empty reply", "connection closed by")
}

// explain returns what a failed fetch means for the user.
func (e *gitError) explain(url string) error {
	switch {
	case e.says("cannot run ssh", "ssh: not found", "ssh: command not found"):
		return &failure{tasks.NotFound, fmt.Sprintf("repository %.200s: ssh is not on this worker; install it, or use an https URL", url)}
	case e.says("could not read username", "could not read password", "terminal prompts disabled", "authentication failed",
		"permission denied (", "host key verification failed", "returned error: 401", "returned error: 403", "access denied"):
		return badInput("repository %.200s: there is none, or it needs authentication: %s; give this worker access by an ssh key, and use an ssh URL", url, e.line())
	case e.says("returned error: 3"):
		return badInput("repository %.200s: the server redirects, which is not followed: %s; give the URL that it redirects to", url, e.line())
	case e.says("repository not found", "does not appear to be a git repository", "' not found", "does not exist", "no such file or directory", "returned error: 404", "not valid: is this a git repository", "repository not exported", "access denied or repository not exported"):
		return badInput("repository %.200s: there is no such repository: %s", url, e.line())
	case e.unreachable():
		return &failure{tasks.Internal, fmt.Sprintf("repository %.200s: cannot be reached from this worker: %s", url, e.line())}
	case e.says("transport '", "not allowed"):
		return badInput("repository %.200s: %s", url, e.line())
	}
	return e
}
