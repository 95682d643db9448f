package agent

import (
	"runtime"
	"testing"
)

// The next collection comes when as much garbage has piled up as is live, and the ballast.
func TestGarbageMayPileUp(t *testing.T) {
	next := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.NextGC)
	}
	TuneHeap()
	TuneHeap() // has no effect
	if n := next(); n < 2*ballastBytes || n > 4*ballastBytes {
		t.Errorf("the heap is collected at %d bytes, want twice %d and some more", n, ballastBytes)
	}
}
