package git

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"runtime"
	"strings"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/process"
)

// The stages of Step.
const (
	stagePre  = "pre"
	stageCmd  = "cmd"
	stagePost = "post"
)

// commands runs the task's commands in the directory of the spec.
func (j *job) commands(s *process.Spec) tasks.Outcome {
	t := j.a.Task
	if _, own := t.Env["GIT_TERMINAL_PROMPT"]; !own {
		s.Env = append(s.Env, "GIT_TERMINAL_PROMPT=0") // nobody is there to answer
	}
	var sum tasks.Outcome
	for _, argv := range t.Pre {
		if out := j.step(&sum, s, stagePre, argv); out.Code != tasks.OK {
			return merge(out, &sum)
		}
	}
	argv := t.Argv
	if t.Shell != "" {
		argv = j.r.shell(t.Shell)
	}
	out := j.step(&sum, s, stageCmd, argv)
	for _, argv := range t.Post {
		if j.ctx.Err() != nil {
			break
		}
		if post := j.step(&sum, s, stagePost, argv); out.Code == tasks.OK {
			out = post
		}
	}
	return merge(out, &sum)
}

// step runs one command and adds it to sum. Only the task's command itself gets
// the standard input.
func (j *job) step(sum *tasks.Outcome, s *process.Spec, stage string, argv []string) tasks.Outcome {
	one := *s
	one.Argv = argv
	if stage != stageCmd {
		one.Stdin = nil
	}
	line := asTyped(argv)
	ex, err := process.Run(j.ctx, &one)
	var out tasks.Outcome
	var start *process.StartError
	switch {
	case errors.As(err, &start):
		out = start.Outcome()
		// Never 0: it has not ended well.
		sum.Steps = append(sum.Steps, tasks.Step{Stage: stage, Command: line, Exit: max(start.Status(), 126)})
	case err != nil:
		out = process.Failure(j.ctx, err)
	default:
		out = ex.Outcome(j.ctx)
		if !ex.NotStarted {
			sum.Steps = append(sum.Steps, tasks.Step{Stage: stage, Command: line, Exit: ex.Status, Signal: ex.Signal})
		}
		sum.User += ex.User
		sum.System += ex.System
		sum.MaxRSS = max(sum.MaxRSS, ex.MaxRSS)
		sum.StdoutBytes += ex.StdoutBytes
		sum.StderrBytes += ex.StderrBytes
	}
	if stage != stageCmd && out.Text != "" && ex.Stopped == 0 {
		out.Text = fmt.Sprintf("%s %.100q: %s", stage, line, out.Text)
	}
	return out
}

// merge returns how it ended, with the sums of all commands.
func merge(out tasks.Outcome, sum *tasks.Outcome) tasks.Outcome {
	if out.Code == tasks.Busy && len(sum.Steps) > 1 {
		out.Code = tasks.Internal // others ran
	}
	return tasks.Outcome{
		Code: out.Code, Exit: out.Exit, Signal: out.Signal, Text: out.Text, Steps: sum.Steps,
		User: sum.User, System: sum.System, MaxRSS: sum.MaxRSS, StdoutBytes: sum.StdoutBytes, StderrBytes: sum.StderrBytes,
	}
}

// shell returns what runs a shell line.
func (r *Runner) shell(line string) []string {
	if runtime.GOOS == "windows" {
		return []string{r.cfg.Shell, "/C", line}
	}
	return []string{r.cfg.Shell, "-c", line}
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// asTyped returns a command as a person types it: a line for the shell as it is,
// words quoted where they must be.
func asTyped(argv []string) string {
	if len(argv) == 3 && argv[1] == "-c" && path.Base(argv[0]) == "sh" {
		return argv[2]
	}
	words := make([]string, len(argv))
	for i, w := range argv {
		if !plain.MatchString(w) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words[i] = w
	}
	return strings.Join(words, " ")
}
