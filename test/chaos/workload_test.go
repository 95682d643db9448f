//go:build linux

package main

import (
	"testing"

	"github.com/scagent/scagent/tasks"
)

func TestBeforeIsTheIDBefore(t *testing.T) {
	for _, c := range []struct{ in, want tasks.ID }{
		{tasks.ID{15: 1}, tasks.ID{}},
		{tasks.ID{13: 1}, tasks.ID{14: 0xff, 15: 0xff}},
		{tasks.ID{0: 7, 15: 9}, tasks.ID{0: 7, 15: 8}},
	} {
		if got := before(c.in); got != c.want {
			t.Errorf("before(%x) = %x, want %x", c.in[:], got[:], c.want[:])
		}
	}
}
