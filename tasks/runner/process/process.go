package process

import (
	"context"
	"io"
	"time"

	"github.com/scagent/scagent/tasks"
)

// The defaults of a Spec.
const (
	DefaultGrace  = 5 * time.Second
	DefaultLinger = 2 * time.Second
)

// Spec says what to run. Run does not change or keep it.
type Spec struct {
	// Argv is the program and its arguments. A program without a slash is looked
	// up in the PATH of Env; one with a slash is relative to Dir.
	Argv []string
	Env  []string // all of the environment, as NAME=value; nothing is inherited
	Dir  string   // an existing directory

	// Stdin is what the program reads; nil is an empty file. An *os.File is
	// handed on as it is and stays open. Any other reader is copied; if it is an
	// io.Closer, it is closed when the program has exited, and must then stop
	// blocking in Read.
	Stdin io.Reader
	// Stdout and Stderr take the output; nil discards it. The two are written to
	// from a goroutine each. While a Write blocks, so does the program, and Run
	// does not return: whoever makes Writes wait must end that when the task is
	// stopped. After a Write has failed, the stream is read on and discarded.
	Stdout, Stderr io.Writer

	// Marks are entries of Env that together only this task's processes carry.
	// None: processes that leave the group are not looked for.
	Marks []string

	Kill <-chan struct{} // closed: kill at once
	// Grace is the time between asking and killing. 0: DefaultGrace.
	Grace time.Duration
	// Linger is how long the output is read after the main process has exited
	// while something outside of its group holds it open. 0: DefaultLinger.
	Linger time.Duration

	Nets   *Nets // nil: the process group and the marks alone
	User   *User // nil: the agent's own
	Limits Limits
}

// Limits bound the processes of a task; 0 is no bound. They hold from the first
// instruction, and for all that it starts. All but Output need linux.
type Limits struct {
	Memory    int64 // bytes of data of each process, RLIMIT_DATA
	Processes int64 // of the user in all, RLIMIT_NPROC; root has no bound
	OpenFiles int64 // of each process, RLIMIT_NOFILE
	FileBytes int64 // of each file written, RLIMIT_FSIZE
	Output    int64 // bytes of each of stdout and stderr; the rest is read and dropped
}

// none reports whether no process is bounded.
func (l *Limits) none() bool {
	return l.Memory == 0 && l.Processes == 0 && l.OpenFiles == 0 && l.FileBytes == 0
}

// User is whom a process runs as. Only root can choose. Not on windows.
type User struct {
	Name     string // for people
	UID, GID uint32
	Groups   []uint32
}

// Exit is how a program ended.
type Exit struct {
	Status int    // exit status, when Signal is empty
	Signal string // what ended it, such as "SIGKILL"

	// Stopped says why it was stopped; 0 when it ended by itself.
	Stopped tasks.StopReason
	// NotStarted: the context had ended, or Kill was closed, before the start.
	NotStarted bool

	// OutputCut: more was written than Limits.Output, and dropped.
	OutputCut bool

	Started, Finished time.Time
	User, System      time.Duration // with the descendants it waited for
	// MaxRSS is the peak memory of the largest process, in bytes. On linux it is
	// at least what the agent itself had resident at the start: the kernel
	// counts the moment between fork and exec. 0: not known.
	MaxRSS int64

	StdoutBytes, StderrBytes int64 // written by the program
}

// StartError says why a program could not be started.
type StartError struct {
	// Code is NotFound, NotExecutable, BadInput (the directory), Busy (the machine is
	// out of something, and may have it soon) or Internal.
	Code tasks.Code
	Text string // one line
	Err  error
}

// Error returns the line.
func (e *StartError) Error() string { return e.Text }

// Unwrap returns the system's error.
func (e *StartError) Unwrap() error { return e.Err }

// Status returns the exit status that a shell has for it: 127, 126, or 0 when
// there is none.
func (e *StartError) Status() int {
	switch e.Code {
	case tasks.NotFound:
		return 127
	case tasks.NotExecutable:
		return 126
	}
	return 0
}

// Run starts the program and returns when nothing of it runs any more. The
// error is a *StartError: the program never ran. How a program that was started
// ended is never an error.
func Run(ctx context.Context, s *Spec) (Exit, error) {
	if ctx.Err() != nil {
		return Exit{NotStarted: true, Stopped: Reason(ctx)}, nil
	}
	select {
	case <-s.Kill:
		return Exit{NotStarted: true, Stopped: tasks.StopKill}, nil
	default:
	}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return Exit{}, &StartError{Code: tasks.BadInput, Text: "no program was given"}
	}
	return run(ctx, s)
}

func (s *Spec) grace() time.Duration {
	if s.Grace > 0 {
		return s.Grace
	}
	return DefaultGrace
}

func (s *Spec) linger() time.Duration {
	if s.Linger > 0 {
		return s.Linger
	}
	return DefaultLinger
}
