package js

import (
	"context"
	"io"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/runner/js/child"
)

// Helper is the name under which a program is to know Child, see package helper.
const Helper = "js"

// Child is the main of a process in which scripts are evaluated.
func Child() int {
	return child.Serve(func(s *child.Setup) child.Evaluate {
		programs := newCache(s.CachedPrograms, s.CachedBytes)
		eval := func(ctx context.Context, s *child.Script, stdout, stderr io.Writer) tasks.Outcome {
			return evaluate(ctx, programs, s, stdout, stderr)
		}
		eval(context.Background(), &child.Script{Source: "()=>console.log()"}, io.Discard, io.Discard)
		return eval
	})
}

// evaluate compiles the script, unless that was done, and evaluates it.
func evaluate(ctx context.Context, programs *cache, s *child.Script, stdout, stderr io.Writer) tasks.Outcome {
	p, err := programs.get(s.Source)
	if err != nil {
		return tasks.Outcome{Code: tasks.BadInput, Text: err.Error()}
	}
	return Eval(ctx, &Call{Program: p, Args: s.Args, Seed: s.Seed, Stdout: stdout, Stderr: stderr})
}
