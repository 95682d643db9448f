package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/query"
)

// submitOptions are what the arguments of submit say. Nothing of it was looked
// up yet: files are names, and no agent was asked.
type submitOptions struct {
	common

	// What: exactly one of these, or operands alone, which are a command.
	shell, file, git, js, function, task string
	operands                             []string

	ref         string // git
	pre, post   []string
	interpreter string

	target  tasks.Target
	dryRun  bool
	options tasks.Options
	// set has the flags of target and options that were given, which beat what
	// the file of -task says.
	targetSet bool
	set       map[string]bool

	inputs  []inputFile
	outputs []string
	outDir  string
	env     map[string]string
	stdin   bool
	dir     string

	detach     bool
	jsonStream bool
	fold       bool
	noPrefix   bool

	local    localOptions
	localSet []string // flags of local that were given
}

// inputFile is a file or directory of -in, or what is below one.
type inputFile struct {
	path  string // here
	name  string // in the work directory
	below bool   // it was found below a directory
}

// optionFlags are the flags of tasks.Options.
var optionFlags = []string{"timeout", "attempts", "retry", "priority", "slots", "wait-workers", "expect"}

// targetFlags are the flags of tasks.Target.
var targetFlags = []string{"on", "all", "where", "one", "n", "prefer", "except", "force"}

func (o *submitOptions) defaults() {
	o.options = tasks.DefaultOptions()
	o.outDir = "."
}

func submitFlags(o *submitOptions) *flagSet {
	o.defaults()
	f := newFlags(false)

	f.group("What, instead of a command")
	f.str(&o.shell, "shell", "run `LINE` with the worker's shell")
	f.str(&o.file, "file", "send the file `PATH` and run it, by its #! line or its extension")
	f.str(&o.interpreter, "interpreter", "run the -file with `PROGRAM`")
	f.str(&o.git, "git", "run the command inside the repository `URL|USER/REPO`")
	f.str(&o.ref, "ref", "check out the branch, tag or commit `REF`")
	f.list(&o.pre, "pre", "run the shell `LINE` before the command (repeatable)")
	f.list(&o.post, "post", "run the shell `LINE` after it (repeatable)")
	f.str(&o.js, "js", "run a JavaScript function, `SOURCE|@FILE`; arguments are JSON")
	f.str(&o.function, "func", "call the Go function `NAME`; arguments are JSON")
	f.str(&o.task, "task", "submit the task object in `FILE`, - for standard input")

	f.group("Where (default: any one worker)")
	f.words(&o.target.On, "on", "on the workers `NAME,…`, by name or id (repeatable)")
	f.boolean(&o.target.All, "all", "on all available workers")
	f.str(&o.target.Where, "where", "on the workers that match `EXPR`, see: scagent help query")
	one := false
	f.boolean(&one, "one", "on only one of them")
	f.integer(&o.target.N, "n", "on only `N` of them")
	o.chooseFlags(f)
	f.integer(&o.options.Expect, "expect", "fewer than `N` workers is an error")
	f.boolean(&o.dryRun, "dry-run", "only say who would get it, and why the others not")

	f.group("With")
	o.withFlags(f, "for several targets into a directory per worker")
	f.boolean(&o.stdin, "stdin", "send standard input, read to its end first")

	f.group("How")
	o.howFlags(f)
	f.boolean(&o.detach, "detach", "print the id and return")

	f.group("Output")
	f.boolean(&o.jsonStream, "json-stream", "print a line of JSON per event")
	f.boolean(&o.fold, "fold", "several targets: print equal outputs once")
	f.boolean(&o.noPrefix, "no-prefix", "several targets: no names before lines")

	o.common.define(f)
	o.local.define(f)

	f.finish = func() error {
		if one {
			if f.isSet("n") {
				return errors.New("-one and -n exclude each other")
			}
			o.target.N = 1
		} else if f.isSet("n") && o.target.N < 1 {
			return fmt.Errorf("-n is %d; want at least 1", o.target.N)
		}
		return nil
	}
	return f
}

// chooseFlags are flags that pick among the workers, of submit and map.
func (o *submitOptions) chooseFlags(f *flagSet) {
	f.str(&o.target.Prefer, "prefer", "on those first where `EXPR` is true or larger")
	f.words(&o.target.Except, "except", "not on the workers `NAME,…` (repeatable)")
	f.boolean(&o.target.Force, "force", "with -on, also on workers set unavailable")
	f.duration(&o.options.WaitWorkers, "wait-workers", "wait so `LONG` for a first worker that matches")
}

// withFlags are what goes along with a task and comes back. each says where the
// files of one of several go.
func (o *submitOptions) withFlags(f *flagSet, each string) {
	f.add(funcValue(o.addInput), "in", "put a file into the work directory, `FILE[:NAME]` (repeatable)")
	f.list(&o.outputs, "out", "bring back the files that match `GLOB` (repeatable)")
	f.str(&o.outDir, "out-dir", "write them into `DIR`, "+each)
	f.add(funcValue(o.addEnv), "env", "set an environment variable, `K=V` (repeatable)")
	f.str(&o.dir, "dir", "run in `DIR` of the worker, an absolute path")
}

// howFlags are how a task is delivered.
func (o *submitOptions) howFlags(f *flagSet) {
	f.duration(&o.options.Timeout, "timeout", "stop an attempt that runs so `LONG` (default: no limit)")
	f.integer(&o.options.Attempts, "attempts", "start at most `N` times when workers are lost; 1 is at most once")
	f.integer(&o.options.Retry, "retry", "run again up to `N` times when it fails")
	f.integer(&o.options.Priority, "priority", "larger `N` first")
	f.integer(&o.options.Slots, "slots", "take `N` slots of the worker")
}

// parseSubmit reads the arguments of submit and finds what in them contradicts
// itself.
func parseSubmit(args []string) (*submitOptions, error) {
	o := &submitOptions{}
	f := submitFlags(o)
	var err error
	if o.operands, err = f.parse(args); err != nil {
		return nil, err
	}
	o.noteSet(f)
	if err := o.checkKind(f); err != nil {
		return nil, err
	}
	if err := o.checkRest(f); err != nil {
		return nil, err
	}
	return o, nil
}

// noteSet takes note of which flags were given.
func (o *submitOptions) noteSet(f *flagSet) {
	o.targetSet = len(f.given(targetFlags...)) > 0
	o.set = map[string]bool{}
	for _, n := range optionFlags {
		o.set[n] = f.isSet(n)
	}
	o.localSet = f.given(localFlags...)
}

// checkKind wants exactly one thing to run.
func (o *submitOptions) checkKind(f *flagSet) error {
	kinds := f.given("shell", "file", "git", "js", "func", "task")
	switch {
	case len(kinds) > 1:
		return fmt.Errorf("%s exclude each other", strings.Join(kinds, " and "))
	case len(kinds) == 0 && len(o.operands) == 0:
		return errors.New("there is nothing to run; want a command, -shell, -file, -git, -js, -func or -task")
	case len(kinds) == 0:
		if o.operands[0] == "" {
			return errors.New("the command is empty; want the program to run")
		}
	case o.given(kinds[0]) == "":
		return fmt.Errorf("%s is empty", kinds[0])
	case kinds[0] == "-git" && len(o.operands) == 0:
		return errors.New("-git needs a command to run in the repository; write it after --")
	case (kinds[0] == "-shell" || kinds[0] == "-task") && len(o.operands) > 0:
		return fmt.Errorf("unexpected argument %q after %s", shorten(o.operands[0], 80), kinds[0])
	}
	if extra := f.given("ref", "pre", "post"); len(extra) > 0 && o.git == "" {
		return fmt.Errorf("%s goes with -git only", extra[0])
	}
	if o.interpreter != "" && o.file == "" {
		return errors.New("-interpreter goes with -file only")
	}
	if o.js != "" || o.function != "" {
		for i, a := range o.operands {
			if !json.Valid([]byte(a)) {
				return fmt.Errorf("argument %d, %q, is not JSON; a string is written '\"…\"'", i+1, shorten(a, 80))
			}
		}
	}
	return nil
}

// given returns the value of one of the flags that say what to run.
func (o *submitOptions) given(flag string) string {
	return map[string]string{"-shell": o.shell, "-file": o.file, "-git": o.git, "-js": o.js, "-func": o.function, "-task": o.task}[flag]
}

func (o *submitOptions) checkRest(f *flagSet) error {
	if err := o.target.Validate(); err != nil {
		return err
	}
	if err := o.options.Validate(); err != nil {
		return err
	}
	if o.target.Where != "" {
		if _, err := query.Compile(o.target.Where); err != nil {
			return fmt.Errorf("-where: %w", err)
		}
	}
	if f.isSet("where") && o.target.Where == "" {
		return errors.New("-where is empty; want an expression, or -all")
	}
	if o.target.Prefer != "" {
		if _, err := query.CompilePreference(o.target.Prefer); err != nil {
			return fmt.Errorf("-prefer: %w", err)
		}
	}
	for _, g := range o.outputs {
		if err := tasks.CheckName(g); err != nil {
			return fmt.Errorf("-out: %w", err)
		}
	}
	switch {
	case f.isSet("out-dir") && len(o.outputs) == 0:
		return errors.New("-out-dir needs -out, which says what files to bring back")
	case o.detach && len(o.outputs) > 0:
		return errors.New("-detach and -out exclude each other: nobody is there to write the files")
	case o.detach && o.dryRun:
		return errors.New("-detach and -dry-run exclude each other")
	case o.fold && (o.json || o.jsonStream):
		return errors.New("-fold and -json exclude each other")
	case o.stdin && o.task == "-":
		return errors.New("-stdin and -task - exclude each other: there is one standard input")
	case o.dir != "" && !strings.HasPrefix(o.dir, "/") && !filepath.IsAbs(o.dir):
		return fmt.Errorf("-dir is %q; want an absolute path on the worker", o.dir)
	}
	return nil
}

// addInput reads FILE[:NAME], which the last colon splits. Nothing after the
// colon is the name of the file, for files that have a colon in their name.
func (o *submitOptions) addInput(s string) error {
	volume := 0
	if runtime.GOOS == "windows" {
		volume = len(filepath.VolumeName(s))
	}
	in := inputFile{path: s}
	if i := strings.LastIndexByte(s, ':'); i >= volume && i >= 0 {
		in.path, in.name = s[:i], s[i+1:]
	}
	if in.path == "" {
		return errors.New("want FILE or FILE:NAME")
	}
	if in.name == "" {
		in.name = filepath.Base(in.path)
	}
	if err := tasks.CheckName(in.name); err != nil {
		return err
	}
	for _, other := range o.inputs {
		if other.name == in.name {
			return fmt.Errorf("the name %q is there twice; give one another name with FILE:NAME", in.name)
		}
	}
	o.inputs = append(o.inputs, in)
	return nil
}

func (o *submitOptions) addEnv(s string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok || k == "" {
		return errors.New("want NAME=VALUE")
	}
	if o.env == nil {
		o.env = map[string]string{}
	}
	o.env[k] = v
	return nil
}

// localOptions are how submit and members take part in the pool where no agent
// runs.
type localOptions struct {
	join                   []string
	cluster, secretFile    string
	insecure               bool
	bind, advertise, iface string
	noMulticast            bool
}

// localFlags are the flags of localOptions.
var localFlags = []string{"join", "cluster", "secret-file", "insecure", "bind", "advertise", "iface", "no-multicast"}

func (o *localOptions) define(f *flagSet) {
	f.group("Only where no agent runs")
	f.words(&o.join, "join", "join the pool at `ADDR` (repeatable)")
	f.str(&o.cluster, "cluster", "`NAME` of the cluster (default: default)")
	f.str(&o.secretFile, "secret-file", "`FILE` with the cluster's secret")
	f.boolean(&o.insecure, "insecure", "go beyond the LAN without a secret")
	f.str(&o.bind, "bind", "listen at `ADDR[:PORT]`")
	f.str(&o.advertise, "advertise", "be reached at `ADDR[:PORT]`")
	f.str(&o.iface, "iface", "use the network interface `NAME`")
	f.boolean(&o.noMulticast, "no-multicast", "look for nobody by multicast")
}

// refuseLocal is the error of flags that make no sense because an agent runs.
func refuseLocal(flags []string, addr string) error {
	if len(flags) == 0 {
		return nil
	}
	return fmt.Errorf("%s %s only where no agent runs, and one does at %s; leave %s out, or stop it",
		strings.Join(flags, " "), plural(len(flags), "is", "are"), addr, plural(len(flags), "it", "them"))
}
