//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/scagent/scagent/test/chaos/cluster"
	"github.com/scagent/scagent/test/chaos/nemesis"
)

// diskBytes is the size of disks that are filled.
const diskBytes = 64 << 20

// defaults are the options without flags, but for the seed.
func defaults() options {
	return options{
		tasks: 10_000, workers: 4, masters: 1, slots: 2, attempts: 100, kept: 10_000, work: 5 * time.Millisecond,
		clients: 16, window: 4000, profile: "kills", check: true, logLevel: "WARN", log: os.Stderr,
	}
}

func main() {
	o := defaults()
	flag.IntVar(&o.tasks, "tasks", o.tasks, "acknowledge `N` tasks")
	flag.IntVar(&o.workers, "workers", o.workers, "`N` agents run them")
	flag.IntVar(&o.masters, "masters", o.masters, "`N` agents take them")
	flag.IntVar(&o.slots, "slots", o.slots, "a worker runs `N` at once")
	flag.IntVar(&o.attempts, "attempts", o.attempts, "a task is tried `N` times; 1: at most once")
	flag.IntVar(&o.kept, "kept", o.kept, "`N` tasks must still be known at the end, or all if there were less")
	flag.DurationVar(&o.work, "work", o.work, "a task takes at most `D`")
	flag.DurationVar(&o.spread, "for", 0, "spread the submissions over `D` (default: as fast as possible)")
	flag.IntVar(&o.clients, "clients", o.clients, "`N` clients submit to each master")
	flag.IntVar(&o.window, "window", o.window, "at most `N` tasks are not final")
	flag.StringVar(&o.profile, "profile", o.profile, "`NAME` of what goes wrong: "+strings.Join(nemesis.Profiles(), ", "))
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "the same `N` does the same faults (default: the time)")
	flag.BoolVar(&o.spareMaster, "spare-master", false, "agents and disks of masters are not struck, their network is")
	flag.BoolVar(&o.fabric, "fabric", false, "connect the hosts by a switch in user space (default: profiles that need it)")
	flag.BoolVar(&o.check, "check", o.check, "agents write histories, which are checked in the end; see test/check/verify")
	flag.DurationVar(&o.soak, "soak", 0, "look every `D` at what the agents take; it must not grow")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory of a run without problems too")
	flag.StringVar(&o.logLevel, "log-level", o.logLevel, "agents log from `LEVEL` on")
	flag.Parse()
	if err := o.validate(); err != nil || flag.NArg() > 0 {
		if err == nil {
			err = fmt.Errorf("%q is not an option", flag.Arg(0))
		}
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	res, err := run(ctx, o)
	stop()
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "chaos: interrupted; everything is removed")
		os.Exit(130)
	case err != nil:
		fmt.Fprintf(os.Stderr, "chaos: %v\n", err)
		os.Exit(1)
	}
	if res.print(os.Stdout); len(res.problems) > 0 {
		os.Exit(1)
	}
}

// validate says what is wrong with the options, and adds what the profile needs.
func (o *options) validate() error {
	for _, c := range []struct {
		flag        string
		n, min, max int
	}{
		{"tasks", o.tasks, 1, 10_000_000}, {"workers", o.workers, 1, 200}, {"masters", o.masters, 1, 40}, {"slots", o.slots, 1, 1000},
		{"attempts", o.attempts, 1, 1000}, {"clients", o.clients, 1, 1000}, {"window", o.window, 1, 8000}, {"kept", o.kept, 0, 10_000_000},
	} {
		if c.n < c.min || c.n > c.max {
			return fmt.Errorf("-%s is %d; want %d to %d", c.flag, c.n, c.min, c.max)
		}
	}
	if o.work < 0 || o.work > time.Minute || o.spread < 0 {
		return fmt.Errorf("-work is %v and -for %v; want at most a minute, and nothing below 0", o.work, o.spread)
	}
	if _, err := nemesis.Schedule(o.profile, o.seed, o.nodes()); err != nil {
		return err
	}
	if lacks := cluster.Lacks(); lacks != "" {
		return fmt.Errorf("this machine lacks %s", lacks)
	}
	fabric, disks := nemesis.Needs(o.profile)
	o.fabric = o.fabric || fabric
	if disks {
		o.diskBytes = diskBytes
	}
	return nil
}
