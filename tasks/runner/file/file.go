package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
	"github.com/scagent/scagent/tasks/runner/workdir"
)

// Config configures a Runner: where and as whom files are run.
type Config = workdir.Config

// Runner runs files. It may be used by any number of goroutines.
type Runner struct{ cfg Config } // constant

// New checks the configuration and returns a Runner. It makes nothing on disk.
func New(cfg Config) (*Runner, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	return &Runner{cfg: cfg}, nil
}

// Run runs the attempt and returns when nothing of it runs any more.
func (r *Runner) Run(ctx context.Context, a *tasks.Attempt) tasks.Outcome {
	t := *a.Task
	name := baseName(t.Name)
	args, err := words(t.Args)
	if err == nil && t.Content == nil {
		err = errors.New("the task has no file: its content is missing")
	}
	if err != nil {
		return workdir.Failed(ctx, &workdir.Error{Code: tasks.BadInput, Text: err.Error()})
	}
	t.Inputs = append(slices.Clip(t.Inputs), tasks.Input{Name: name, Mode: 0o700, Content: *t.Content})
	at := *a
	at.Task = &t
	return workdir.Run(ctx, &r.cfg, &at, func(d *workdir.Dir, s *process.Spec) tasks.Outcome {
		return run(ctx, &at, name, args, d, s)
	})
}

// run runs the file, which is in d.
func run(ctx context.Context, a *tasks.Attempt, name string, args []string, d *workdir.Dir, s *process.Spec) tasks.Outcome {
	t, at := a.Task, filepath.Join(d.Path(), name)
	head, err := readHead(ctx, a)
	if err != nil {
		return process.Failure(ctx, err)
	}
	argv := choose(name, head, t.Interpreter)
	if argv == nil {
		return tasks.Outcome{Code: tasks.BadInput, Text: fmt.Sprintf(
			"%.80s: nothing says what runs it: it has no #! line, and its extension is not known; name its interpreter with -interpreter", name)}
	}
	interpreter := ""
	if len(argv) > 0 {
		interpreter = here(argv[0])
		argv[0] = interpreter
	}
	if t.Dir == "" {
		at = "./" + name // the same on every worker, so that messages with it are the same too
	}
	s.Argv = slices.Concat(argv, []string{at}, args)
	ex, err := process.Run(ctx, s)
	var start *process.StartError
	if interpreter != "" && errors.As(err, &start) && start.Code == tasks.NotFound {
		return tasks.Outcome{Code: tasks.NotFound, Exit: start.Status(), Text: fmt.Sprintf(
			"%.80s needs %.200q, which this worker does not have; install it there, or choose another with -interpreter", name, interpreter)}
	}
	if err != nil {
		return process.Failure(ctx, err)
	}
	return ex.Outcome(ctx)
}

// baseName returns the name that the file gets, whichever system the path is of.
func baseName(name string) string {
	if name == "" {
		return "file"
	}
	return path.Base(strings.ReplaceAll(name, `\`, "/"))
}

// here returns the program as this system names it: only unix has /bin/sh.
func here(program string) string {
	if runtime.GOOS == "windows" && strings.HasPrefix(program, "/") {
		return path.Base(program)
	}
	return program
}

// words returns the arguments, which must be strings.
func words(args []json.RawMessage) ([]string, error) {
	list := make([]string, len(args))
	for i, a := range args {
		var w *string
		switch err := json.Unmarshal(a, &w); {
		case err != nil || w == nil:
			return nil, fmt.Errorf("args[%d] is %.80q; want a JSON string", i, a)
		case strings.ContainsRune(*w, 0):
			return nil, fmt.Errorf("args[%d] has a NUL byte, which no program can be given", i)
		}
		list[i] = *w
	}
	return list, nil
}

// readHead reads how the file begins: from the content, not from d, which may be
// another user's by now.
func readHead(ctx context.Context, a *tasks.Attempt) ([]byte, error) {
	c := a.Task.Content
	if c.Blob == "" {
		return c.Inline[:min(len(c.Inline), HeadBytes)], nil
	}
	f, err := a.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, HeadBytes)
	n, err := io.ReadFull(f, head)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return head[:n], err
}
