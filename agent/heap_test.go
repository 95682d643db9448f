package agent

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestHeapPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 4800}, {1 << 20, 4800}, {8 << 20, 600}, {48 << 20, 100}, {1 << 30, 100},
	} {
		if got := heapPercent(c.live); got != c.want {
			t.Errorf("heapPercent(%d) = %d, want %d", c.live, got, c.want)
		}
	}
}

// Each collection works the rule out again: with much live memory Go's own
// returns.
func TestTheHeapIsTunedAgainAsItGrows(t *testing.T) {
	tuneHeap()
	percent := func() int {
		p := debug.SetGCPercent(-1)
		debug.SetGCPercent(p)
		return p
	}
	collectUntil := func(done func() bool) bool {
		for range 200 { // cleanups run some time after the collection that found them
			debug.FreeOSMemory()
			if done() {
				return true
			}
		}
		return false
	}
	if !collectUntil(func() bool { return percent() > 150 }) {
		t.Fatalf("with little live memory the percentage is %d, want more than 150", percent())
	}
	ballast := make([]byte, 200<<20)
	if !collectUntil(func() bool { return percent() == 100 }) {
		t.Errorf("with 200 MiB live the percentage is %d, want 100", percent())
	}
	runtime.KeepAlive(ballast)
	if !collectUntil(func() bool { return percent() > 150 }) {
		t.Errorf("with little again the percentage is %d, want more than 150", percent())
	}
}
