package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scagent/scagent/tasks"
)

// memory sends one large file there and one back.
func (b *bench) memory() error {
	in, _, err := b.file("in")
	if err != nil {
		return err
	}
	out, hash, err := b.file("out")
	if err != nil {
		return err
	}
	const calls = 5000
	if _, err := b.calls(calls, nil); err != nil { // all is warm then
		return err
	}
	idle, err := b.calls(calls, nil)
	if err != nil {
		return err
	}
	pids := map[string]int{"master": os.Getpid(), "worker": b.worker.Process.Pid}
	before := map[string]int{}
	for who, pid := range pids {
		// From here on the most is that from here on: proc(5), clear_refs.
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
			return err
		}
		if before[who], err = peak(pid); err != nil {
			return err
		}
	}

	c, err := b.put(in)
	if err != nil {
		return err
	}
	var busy latencies
	for _, move := range []func() error{
		func() error { return b.in(c, "true") },
		func() error { _, err := b.out(out, hash); return err },
	} {
		if err := b.settle(); err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() { done <- move() }()
		all, err := b.calls(0, done)
		if err != nil {
			return err
		}
		busy = append(busy, all...)
	}
	if err := errors.Join(b.in(c, "cmp", in, "in"), b.check(hash)); err != nil {
		return err
	}
	print(map[string]any{"metric": "noop_p50", "unit": "us", "mib": *mib, "secured": *secured, "idle": idle.p50(), "meanwhile": busy.p50(), "p99": busy.p99(),
		"ratio": round(float64(busy.p50()) / float64(idle.p50())), "n": len(busy)})
	for who, pid := range pids {
		after, err := peak(pid)
		if err != nil {
			return err
		}
		print(map[string]any{"metric": "memory_" + who, "unit": "KiB", "mib": *mib, "secured": *secured, "before": before[who], "value": after - before[who]})
	}
	return nil
}

// latencies are how long calls took, one after the other.
type latencies []time.Duration

func (l latencies) p50() int64 { return l.at(len(l) / 2) }
func (l latencies) p99() int64 { return l.at(len(l) * 99 / 100) }

func (l latencies) at(i int) int64 {
	slices.Sort(l)
	return l[i].Microseconds()
}

// calls calls the function that does nothing n times, or until done tells
// something, which it returns.
func (b *bench) calls(n int, done chan error) (all latencies, err error) {
	for n == 0 || len(all) < n {
		select {
		case err := <-done:
			return all, err
		default:
		}
		begun := time.Now()
		if _, err := noop.Call(b.ctx, b.agent, tasks.Target{}, 0); err != nil {
			return nil, err
		}
		all = append(all, time.Since(begun))
	}
	return all, nil
}

// peak returns the most memory that a process had, in KiB.
func peak(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(b), "VmHWM:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0, fmt.Errorf("process %d has no VmHWM", pid)
	}
	return strconv.Atoi(fields[0])
}
