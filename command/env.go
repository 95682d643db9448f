package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/mattn/go-isatty"
	"github.com/scagent/scagent/agent/client"
	"github.com/scagent/scagent/agent/home"
)

// Exit statuses of every command but submit, whose are in exit.go.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Env is what a command has around it: its streams, its environment and whether
// someone watches.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	// Terminal says that standard output is one.
	Terminal bool
	// ErrTerminal says that standard error is one.
	ErrTerminal bool
	// Signals delivers the signals that ask to stop, until stop is called. With
	// reload, the one that asks to read the configuration again comes too.
	Signals func(reload bool) (c <-chan os.Signal, stop func())
}

// NewEnv returns the Env of this process.
func NewEnv() *Env {
	return &Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		Terminal: isatty.IsTerminal(os.Stdout.Fd()), ErrTerminal: isatty.IsTerminal(os.Stderr.Fd()), Signals: signals,
	}
}

// color reports whether escapes may be written to standard output.
func (e *Env) color() bool {
	return e.Terminal && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb"
}

// note writes a message to standard error.
func (e *Env) note(format string, a ...any) {
	fmt.Fprintf(e.Stderr, "scagent: "+format+"\n", a...)
}

// errClosed is returned by write when nobody reads standard output any more.
var errClosed = errors.New("standard output is closed")

// write writes a result.
func (e *Env) write(text string) error {
	_, err := io.WriteString(e.Stdout, text)
	if errors.Is(err, syscall.EPIPE) {
		return errClosed
	}
	return err
}

// fail says what went wrong, and what to do where that is known. Whoever closed
// standard output is told nothing.
func (e *Env) fail(err error) int {
	if errors.Is(err, errClosed) {
		return exitPipe
	}
	e.note("%s", clean(err.Error()))
	return exitFailed
}

// usage answers arguments that the command cannot be called with. Asking for
// help is no error.
func (e *Env) usage(name, help string, err error) int {
	if errors.Is(err, errHelp) {
		return e.print(help)
	}
	fmt.Fprintf(e.Stderr, "scagent %s: %s (see: scagent %s -h)\n", name, clean(err.Error()), name)
	return exitUsage
}

// print writes a result.
func (e *Env) print(text string) int {
	if err := e.write(text); err != nil {
		return e.fail(err)
	}
	return exitOK
}

// printJSON writes a result as one line of JSON.
func (e *Env) printJSON(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		return e.fail(err)
	}
	return e.print(string(b) + "\n")
}

// connect finds the agent that a command talks to.
func (e *Env) connect(o *common) (*client.Client, error) { return client.Find(o.addr) }

// mayStart reports whether err, of connect, means that a command may start an
// agent for itself: there is none, and none was asked for.
func (e *Env) mayStart(o *common, err error) bool {
	return o.addr == "" && e.Getenv("SCAGENT_ADDR") == "" && errors.Is(err, home.ErrNoAgent)
}
