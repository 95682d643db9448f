package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errHelp is returned by parse when the arguments ask for help.
var errHelp = errors.New("help was asked for")

// flagSet is the flags of one command, in the order in which help lists them.
type flagSet struct {
	fs     *flag.FlagSet
	groups []flagGroup
	// mixed allows flags after operands too. Not where operands are somebody
	// else's command line.
	mixed bool
	// finish, if not nil, is called after all flags were read without error.
	finish func() error
}

type flagGroup struct {
	title string
	flags []*flag.Flag
}

func newFlags(mixed bool) *flagSet {
	f := &flagSet{fs: flag.NewFlagSet("", flag.ContinueOnError), mixed: mixed}
	f.fs.SetOutput(io.Discard)
	return f
}

// group starts a new group in the help.
func (f *flagSet) group(title string) { f.groups = append(f.groups, flagGroup{title: title}) }

// add defines a flag. Usage names the value in back quotes, as in package flag.
func (f *flagSet) add(v flag.Value, name, usage string) {
	f.fs.Var(v, name, usage)
	if len(f.groups) == 0 {
		f.group("Options")
	}
	g := &f.groups[len(f.groups)-1]
	g.flags = append(g.flags, f.fs.Lookup(name))
}

func (f *flagSet) str(p *string, name, usage string)   { f.add((*stringValue)(p), name, usage) }
func (f *flagSet) boolean(p *bool, name, usage string) { f.add((*boolValue)(p), name, usage) }
func (f *flagSet) words(p *[]string, name, usage string) {
	f.add(&listValue{p: p, split: true}, name, usage)
}
func (f *flagSet) list(p *[]string, name, usage string) { f.add(&listValue{p: p}, name, usage) }
func (f *flagSet) integer(p *int, name, usage string)   { f.add((*intValue)(p), name, usage) }
func (f *flagSet) duration(p *time.Duration, name, usage string) {
	f.add((*durationValue)(p), name, usage)
}

// isSet reports whether the flag was given.
func (f *flagSet) isSet(name string) bool {
	found := false
	f.fs.Visit(func(fl *flag.Flag) { found = found || fl.Name == name })
	return found
}

// given returns which of names were given, with their dashes.
func (f *flagSet) given(names ...string) []string {
	var list []string
	for _, n := range names {
		if f.isSet(n) {
			list = append(list, "-"+n)
		}
	}
	return list
}

// parse reads args and returns the operands. It first takes off the "--" that
// Run puts before them. Its errors are one line; errHelp is one of them.
func (f *flagSet) parse(args []string) (operands []string, err error) {
	operands, err = f.read(args)
	if err == nil && f.finish != nil {
		err = f.finish()
	}
	return operands, err
}

func (f *flagSet) read(args []string) (operands []string, err error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			return append(operands, args[1:]...), nil
		case len(arg) < 2 || arg[0] != '-':
			if !f.mixed {
				return args, nil
			}
			operands, args = append(operands, arg), args[1:]
			continue
		}
		args = args[1:]
		name, value, ok := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if name == "h" || name == "help" {
			return nil, errHelp
		}
		fl := f.fs.Lookup(name)
		if fl == nil {
			return nil, f.unknown(arg, name)
		}
		if !ok {
			if b, isBool := fl.Value.(interface{ IsBoolFlag() bool }); isBool && b.IsBoolFlag() {
				value = "true"
			} else if len(args) == 0 {
				return nil, fmt.Errorf("flag -%s needs a value", name)
			} else {
				value, args = args[0], args[1:]
			}
		}
		if err := f.set("-"+name, name, value); err != nil {
			return nil, err
		}
	}
	return operands, nil
}

// set gives the flag a value; where says where the value is from.
func (f *flagSet) set(where, name, value string) error {
	if err := f.fs.Set(name, value); err != nil {
		return fmt.Errorf("%s is %q; %w", where, shorten(value, 80), err)
	}
	return nil
}

func (f *flagSet) unknown(arg, name string) error {
	var names []string
	f.fs.VisitAll(func(fl *flag.Flag) { names = append(names, fl.Name) })
	flagText, _, _ := strings.Cut(arg, "=")
	switch near := nearest(name, names); {
	case near != "":
		return fmt.Errorf("unknown flag %s; did you mean -%s?", shorten(flagText, 40), near)
	case !f.mixed:
		return fmt.Errorf("unknown flag %s; write -- before what is not scagent's", shorten(flagText, 40))
	}
	return fmt.Errorf("unknown flag %s", shorten(flagText, 40))
}

// The values of flags. The error of Set ends a sentence that begins with the
// flag's name and the value.

type stringValue string

func (v *stringValue) String() string     { return string(*v) }
func (v *stringValue) Set(s string) error { *v = stringValue(s); return nil }

type boolValue bool

func (v *boolValue) String() string   { return strconv.FormatBool(bool(*v)) }
func (v *boolValue) IsBoolFlag() bool { return true }
func (v *boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("want true or false")
	}
	*v = boolValue(b)
	return nil
}

type intValue int

func (v *intValue) String() string { return strconv.Itoa(int(*v)) }
func (v *intValue) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return errors.New("want a whole number")
	}
	*v = intValue(n)
	return nil
}

type durationValue time.Duration

func (v *durationValue) String() string { return shortDuration(time.Duration(*v)) }
func (v *durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("want a duration such as 500ms, 10s, 5m or 24h")
	}
	*v = durationValue(d)
	return nil
}

// shortDuration is d without the zeros that its String ends with.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// listValue collects what a flag is given each time; with split, also what
// commas separate.
type listValue struct {
	p     *[]string
	split bool
}

func (v *listValue) String() string {
	if v.p == nil {
		return ""
	}
	return strings.Join(*v.p, ",")
}

func (v *listValue) Set(s string) error {
	if !v.split {
		*v.p = append(*v.p, s)
		return nil
	}
	words := strings.Split(s, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	if slices.Contains(words, "") {
		return errors.New("want names with a comma between each two")
	}
	*v.p = append(*v.p, words...)
	return nil
}

// funcValue calls a function with what the flag is given.
type funcValue func(string) error

func (v funcValue) String() string     { return "" }
func (v funcValue) Set(s string) error { return v(s) }

// common are the options of all commands that talk to an agent.
type common struct {
	addr  string
	json  bool
	quiet bool
}

func (o *common) define(f *flagSet) {
	f.group("Common")
	f.str(&o.addr, "addr", "`ADDRESS` of the agent's API, unix:///PATH or http://127.0.0.1:PORT (default: SCAGENT_ADDR, else this user's agent, else the system's)")
	f.boolean(&o.json, "json", "print JSON")
	f.boolean(&o.quiet, "q", "no messages but errors")
}
