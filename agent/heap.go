package agent

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// heapFloor is up to how much garbage may pile up before it is collected, whatever
// is live. Go's own rule, as much again as is live, has an agent with its few MiB
// collect some forty times a second when it is busy with small tasks, which takes
// a third of its time.
const heapFloor = 48 << 20

// TuneHeap lets up to 48 MiB of garbage pile up between collections, for as long as
// the program runs; above that much live memory Go's rule stays (GOGC=100). A
// program that is an agent before all else calls it once, at the start. It does
// nothing when the environment has GOGC.
func TuneHeap() {
	if os.Getenv("GOGC") == "" {
		tuneHeap()
	}
}

// tuneHeap works the rule out again after each collection.
var tuneHeap = sync.OnceFunc(func() {
	percent := 100
	var each func()
	each = func() {
		if p := heapPercent(liveHeap()); p < percent*9/10 || p > percent*11/10 { // setting it stops the world
			percent = p
			debug.SetGCPercent(p)
		}
		runtime.AddCleanup(new([64]byte), func(each func()) { each() }, each) // larger than what shares a block
	}
	each()
})

// heapPercent is the garbage, in percent of what is live, that may pile up.
func heapPercent(live uint64) int {
	return int(max(100, heapFloor*100/max(live, 1<<20)))
}

// liveHeap returns the bytes that the last collection found live.
func liveHeap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
