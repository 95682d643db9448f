package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/scagent/scagent/agent/api"
	"github.com/scagent/scagent/tasks/master"
)

// mapOptions are what the arguments of map say. Of submitOptions, those fields
// that map has no flags for are zero.
type mapOptions struct {
	submitOptions

	// Inputs: one of these, or standard input.
	listed bool // after :::
	list   []string
	from   string // a file
	array  *array

	null         bool
	keep         bool
	lines        bool
	bar          bool
	barSet       bool
	atOnce       int
	joblog       string
	resume       bool
	resumeFailed bool
	halt         halt
}

// halt says when not to go on. The zero halt is never.
type halt struct {
	now     bool
	fails   int // so many; 0: never
	percent int // of those that have ended, and at least minHaltFails; 0: never
}

// minHaltFails is how many must have failed for a share of them to mean anything.
const minHaltFails = 3

// parseHalt reads now|soon,fail=N|N%.
func parseHalt(s string) (halt, error) {
	when, what, _ := strings.Cut(s, ",")
	number, ok := strings.CutPrefix(what, "fail=")
	number, share := strings.CutSuffix(number, "%")
	n, err := strconv.Atoi(number)
	if when != "now" && when != "soon" || !ok || err != nil || n < 1 || share && n > 100 {
		return halt{}, errors.New("want now,fail=N or soon,fail=N, where N is a number such as 1, or a share such as 10%")
	}
	h := halt{now: when == "now"}
	if share {
		h.percent = n
	} else {
		h.fails = n
	}
	return h, nil
}

// due reports whether it is time to halt.
func (h halt) due(failed, ended int) bool {
	return h.fails > 0 && failed >= h.fails || h.percent > 0 && failed >= minHaltFails && failed*100 >= h.percent*ended
}

// notOfMap are the flags of submit that map has not.
var notOfMap = []string{"all", "one", "n", "expect", "dry-run", "detach", "fold", "no-prefix", "stdin", "file", "git", "task"}

func mapFlags(o *mapOptions) *flagSet {
	o.submitOptions.defaults()
	f := newFlags(false)

	f.group("What, instead of a command")
	f.str(&o.shell, "shell", "run `LINE` with the worker's shell; inputs in it are quoted")
	f.str(&o.js, "js", "call a JavaScript function, `SOURCE|@FILE`; an input that is JSON is that value, another one a string")
	f.str(&o.function, "func", "call the Go function `NAME`, likewise")

	f.group("Inputs (default: a line each of standard input)")
	f.str(&o.from, "a", "read them from `FILE`")
	f.boolean(&o.null, "0", "they end with a NUL, not with a newline")
	f.add(funcValue(func(s string) error {
		a, err := parseArray(s)
		o.array = &a
		return err
	}), "array", "they are numbers, `A-B[:STEP]`, also in SCAGENT_INDEX; not appended to the command")

	f.group("Output")
	f.boolean(&o.keep, "k", "in the order of the inputs")
	f.boolean(&o.lines, "lb", "line by line as it is written, not whole when a task ends")
	f.boolean(&o.bar, "bar", "show how far it is (default: on a terminal)")
	f.boolean(&o.jsonStream, "json-stream", "print a line of JSON per event")

	f.group("Going on")
	f.str(&o.joblog, "joblog", "write a line per task that ended into `FILE`, in GNU parallel's columns")
	f.boolean(&o.resume, "resume", "leave out what the -joblog has")
	f.boolean(&o.resumeFailed, "resume-failed", "leave out only what ended with 0 there")
	f.add(funcValue(func(s string) (err error) { o.halt, err = parseHalt(s); return err }), "halt",
		"stop after failures, `now|soon,fail=N|N%`: now stops what runs, soon lets it end")

	f.group("Where (default: all workers)")
	f.words(&o.target.On, "on", "on the workers `NAME,…`, by name or id (repeatable)")
	f.str(&o.target.Where, "where", "on the workers that match `EXPR`, see: scagent help query")
	o.chooseFlags(f)

	f.group("With")
	o.withFlags(f, "into a directory per input, named by its number")

	f.group("How")
	f.integer(&o.atOnce, "j", "at most `N` at once, on all workers together")
	o.howFlags(f)

	o.common.define(f)
	o.local.define(f)
	for _, n := range notOfMap {
		f.fs.Var(new(anyValue), n, "")
	}
	return f
}

// anyValue is that of a flag which is refused, with or without a value.
type anyValue struct{}

func (*anyValue) String() string   { return "" }
func (*anyValue) IsBoolFlag() bool { return true }
func (*anyValue) Set(string) error { return nil }

// parseMap reads the arguments of map and finds what in them contradicts itself.
func parseMap(args []string) (*mapOptions, error) {
	o := &mapOptions{}
	f := mapFlags(o)
	var err error
	if o.operands, err = f.parse(args); err != nil {
		return nil, err
	}
	if bad := f.given(notOfMap...); len(bad) > 0 {
		return nil, fmt.Errorf("%s is for submit; map gives each input to one worker and waits for it", bad[0])
	}
	if i := slices.Index(o.operands, ":::"); i >= 0 {
		o.listed, o.list, o.operands = true, o.operands[i+1:], o.operands[:i]
	}
	o.noteSet(f)
	o.barSet = f.isSet("bar")
	if err := o.checkTask(f); err != nil {
		return nil, err
	}
	if err := o.checkInputs(f); err != nil {
		return nil, err
	}
	if err := o.checkRest(f); err != nil {
		return nil, err
	}
	return o, nil
}

// checkTask wants exactly one thing to run.
func (o *mapOptions) checkTask(f *flagSet) error {
	kinds := f.given("shell", "js", "func")
	switch {
	case len(kinds) > 1:
		return fmt.Errorf("%s exclude each other", strings.Join(kinds, " and "))
	case len(kinds) == 0 && len(o.operands) == 0:
		return errors.New("there is nothing to run; want a command, -shell, -js or -func")
	case len(kinds) == 0 && o.operands[0] == "":
		return errors.New("the command is empty; want the program to run")
	case len(kinds) == 0:
		return nil
	case o.given(kinds[0]) == "":
		return fmt.Errorf("%s is empty", kinds[0])
	case kinds[0] == "-shell" && len(o.operands) > 0:
		return fmt.Errorf("unexpected argument %q after -shell; write ::: before the inputs", shorten(o.operands[0], 80))
	case kinds[0] == "-shell":
		return nil
	}
	for i, a := range o.operands {
		if !json.Valid([]byte(a)) && !parseWord(a).whole() {
			return fmt.Errorf("argument %d, %q, is neither JSON nor a replacement string; write ::: before the inputs", i+1, shorten(a, 80))
		}
	}
	return nil
}

func (o *mapOptions) checkInputs(f *flagSet) error {
	from := f.given("a", "array")
	if o.listed {
		from = append(from, ":::")
		if slices.Contains(o.list, ":::") {
			return errors.New("there is a second :::; want one list of inputs")
		}
	}
	switch {
	case len(from) > 1:
		return fmt.Errorf("%s exclude each other", strings.Join(from, " and "))
	case o.null && (o.listed || o.array != nil):
		return errors.New("-0 goes with -a and standard input only")
	case (o.resume || o.resumeFailed) && o.joblog == "":
		return errors.New("-resume needs the -joblog of the run before")
	case f.isSet("j") && (o.atOnce < 1 || o.atOnce > master.MaxBatchLimit):
		return fmt.Errorf("-j is %d; want 1 to %d", o.atOnce, master.MaxBatchLimit)
	case o.keep && (o.lines || o.jsonStream):
		return errors.New("-k excludes -lb and -json-stream, which print as things happen")
	case o.lines && (o.json || o.jsonStream):
		return errors.New("-lb and -json exclude each other")
	}
	return nil
}

// How many tasks may be open when -j does not say.
const (
	mostOpen     = 10_000
	mostOpenKept = 1000 // with -k, when as many outputs may wait for their turn
)

func (o *mapOptions) limit() int {
	switch {
	case o.atOnce > 0:
		return o.atOnce
	case o.keep:
		return mostOpenKept
	}
	return mostOpen
}

// batch returns how the run is opened.
func (o *mapOptions) batch() api.BatchRequest {
	r := api.BatchRequest{Target: o.target, Limit: o.limit(), Kept: o.json && !o.jsonStream}
	o.how(&r.Options)
	return r
}

// template makes the template of the tasks.
func (o *mapOptions) template(p *packer) (*api.TaskSpec, error) {
	t := &api.TaskSpec{}
	if err := o.what(t, p); err != nil {
		return nil, err
	}
	return t, o.with(t, nil, p)
}
