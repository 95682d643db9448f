//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/scagent/scagent/test/chaos/cluster"
)

// soak looks at what the agents take, again and again, to see whether it grows.
type soak struct {
	every   time.Duration
	cluster *cluster.Cluster
	names   []string
	out     io.Writer // told each sample, a line each
	log     func(string)
	samples map[string][]sample // by node
}

// sample is what an agent took at a time.
type sample struct {
	rss, goroutines, fds, disk int64
}

// parts are the figures of a sample, and up to what they may be whatever they were.
var parts = []struct {
	name  string
	floor int64
	of    func(s *sample) int64
}{
	{"resident bytes", 64 << 20, func(s *sample) int64 { return s.rss }},
	{"goroutines", 100, func(s *sample) int64 { return s.goroutines }},
	{"descriptors", 64, func(s *sample) int64 { return s.fds }},
	{"bytes on disk", 96 << 20, func(s *sample) int64 { return s.disk }},
}

// run samples until ctx ends.
func (k *soak) run(ctx context.Context) {
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, name := range k.names {
			s, err := k.look(ctx, name)
			if err != nil { // it was killed
				continue
			}
			k.samples[name] = append(k.samples[name], s)
			fmt.Fprintf(k.out, "%s %s rss=%d goroutines=%d fds=%d disk=%d\n", time.Now().UTC().Format(time.TimeOnly), name, s.rss, s.goroutines, s.fds, s.disk)
		}
	}
}

func (k *soak) look(ctx context.Context, name string) (s sample, err error) {
	n := k.cluster.Node(name)
	c, err := n.Client()
	if err != nil {
		return s, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	info, err := c.Info(ctx)
	if err != nil {
		return s, err
	}
	s.goroutines = int64(info.Goroutines)
	if s.rss, s.fds, err = n.Takes(); err != nil {
		return s, err
	}
	s.disk, err = n.OnDisk()
	return s, err
}

// grown says what has grown: what an agent took in the last quarter of the run beside
// what it took in the second, by more than a quarter and above the floor.
func (k *soak) grown() (problems []string) {
	for _, name := range k.names {
		all := k.samples[name]
		if len(all) < 16 {
			problems = append(problems, fmt.Sprintf("%s was looked at only %d times; want 16 at least to tell whether it grows", name, len(all)))
			continue
		}
		q := len(all) / 4
		for _, p := range parts {
			before, after := median(all[q:2*q], p.of), median(all[3*q:], p.of)
			k.log(fmt.Sprintf("%s: %s: %d in the second quarter, %d in the last", name, p.name, before, after))
			if after > p.floor && after > before*5/4 {
				problems = append(problems, fmt.Sprintf("%s: %s grew from %d to %d", name, p.name, before, after))
			}
		}
	}
	return problems
}

func median(all []sample, of func(*sample) int64) int64 {
	vs := make([]int64, len(all))
	for i := range all {
		vs[i] = of(&all[i])
	}
	slices.SortFunc(vs, cmp.Compare)
	return vs[len(vs)/2]
}

// newSoak writes samples to a file.
func newSoak(every time.Duration, c *cluster.Cluster, names []string, path string, log func(string)) (*soak, *os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, nil, err
	}
	return &soak{every: every, cluster: c, names: names, out: f, log: log, samples: map[string][]sample{}}, f, nil
}
