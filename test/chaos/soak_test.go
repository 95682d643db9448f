//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestWhatGrowsIsTold(t *testing.T) {
	flat := func() []sample {
		all := make([]sample, 40)
		for i := range all {
			all[i] = sample{rss: 100<<20 + int64(i%5)<<20, goroutines: 500, fds: 90, disk: 200 << 20}
		}
		return all
	}
	for _, c := range []struct {
		name, want string
		change     func(all []sample)
	}{
		{"nothing", "", func([]sample) {}},
		{"at the start alone", "", func(all []sample) {
			for i := range 10 {
				all[i].rss /= 10
			}
		}},
		{"one peak", "", func(all []sample) { all[35].fds = 1000 }},
		{"what is little", "", func(all []sample) {
			for i := range all {
				all[i].goroutines = int64(1 + i)
			}
		}},
		{"memory", "resident bytes grew", func(all []sample) {
			for i := range all {
				all[i].rss += int64(i) << 21
			}
		}},
		{"goroutines", "goroutines grew", func(all []sample) {
			for i := range all {
				all[i].goroutines += int64(i) * 10
			}
		}},
		{"descriptors", "descriptors grew", func(all []sample) {
			for i := range all {
				all[i].fds += int64(i) * 3
			}
		}},
		{"disk", "bytes on disk grew", func(all []sample) {
			for i := range all {
				all[i].disk += int64(i) << 22
			}
		}},
	} {
		all := flat()
		c.change(all)
		k := &soak{names: []string{"n"}, samples: map[string][]sample{"n": all}, log: func(string) {}}
		if got := strings.Join(k.grown(), "; "); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
