// Command check says whether histories that agents wrote keep the invariants that
// scagent promises; package verify says which these are.
//
//	go run ./test/check [-truth FILE]... [options] HISTORY...
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/scagent/scagent/test/check/verify"
)

const usage = `usage: check [-truth FILE]... [options] HISTORY...

Checks histories of agents, and of the harness that disturbed them, against the
invariants I1 to I20. All starts of an agent must be in one history.

  -truth FILE   what tasks wrote down of themselves: lines of
                TASK ATTEMPT PID start|end UNIXNANOSECONDS; may be given again
  -settle D     a task must have ended so long after its submission and the last
                fault (default 1m0s; 0s: all must have)
  -grace D      what was told to stop may take so long (default 15s)
  -steady D     a node that was up so long must not be reported as failed (default 1m0s)

Exit status: 0 all hold, 1 some do not, 2 it could not be told.

Example:
  go run ./test/check -settle 0s -truth /tmp/run/truth.log /tmp/run/*.jsonl
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	cfg := verify.DefaultConfig()
	var truth, histories []verify.Source
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Func("truth", "", func(path string) error { truth = append(truth, file(path)); return nil })
	fs.DurationVar(&cfg.Settle, "settle", cfg.Settle, "")
	fs.DurationVar(&cfg.Grace, "grace", cfg.Grace, "")
	fs.DurationVar(&cfg.Steady, "steady", cfg.Steady, "")
	for { // options may come between and after the histories
		switch err := fs.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(stdout, usage)
			return 0
		case err != nil:
			fmt.Fprintf(stderr, "check: %v\n%s", err, usage)
			return 2
		}
		if fs.NArg() == 0 {
			break
		}
		histories = append(histories, file(fs.Arg(0)))
		args = fs.Args()[1:]
	}
	if len(histories) == 0 {
		fmt.Fprintf(stderr, "check: no histories are given\n%s", usage)
		return 2
	}
	r, err := verify.Check(cfg, histories, truth)
	if err == nil {
		err = r.Print(stdout)
	}
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "check: %v\n", err)
		return 2
	case !r.OK():
		return 1
	}
	return 0
}

func file(path string) verify.Source {
	return verify.Source{Name: path, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
}
