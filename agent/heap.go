package agent

import "sync"

// ballastBytes is how much more garbage may pile up before it is collected than is
// live. Go's own rule, as much again as is live, has an agent with its few MiB collect
// some forty times a second when it is busy with small tasks, which takes a third of
// its time.
const ballastBytes = 12 << 20

// ballast counts as live and is never touched, so that it takes no memory.
var ballast = sync.OnceValue(func() []byte { return make([]byte, ballastBytes) })

// TuneHeap lets 12 MiB more garbage pile up between collections than Go's own rule
// does, for as long as the program runs. A program that is an agent before all else
// calls it once, at the start.
func TuneHeap() { ballast() }
