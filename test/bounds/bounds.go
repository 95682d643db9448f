// Package bounds sees that a decoder, whatever it is fed, takes little time and
// memory. Fuzz tests use it around what they test.
package bounds

import (
	"fmt"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// What one input may take. Inputs of a fuzz test are at most MaxInput long, so
// that it tries many. MaxCPU is of the whole process, and there for loops that do
// not end and work that grows faster than its input; MaxTime, for what waits, is
// wide because these tests also run on machines that are busy with other things.
const (
	MaxInput = 64 << 10
	MaxAlloc = 64 << 20
	MaxCPU   = 10 * time.Second
	MaxTime  = 10 * time.Minute
)

// Input skips an input that is too long.
func Input[T ~string | ~[]byte](t *testing.T, in ...T) {
	t.Helper()
	n := 0
	for _, s := range in {
		n += len(s)
	}
	if n > MaxInput {
		t.Skipf("%d bytes, more than %d", n, MaxInput)
	}
}

// Check begins to watch what one input takes; the function that it returns ends
// that:
//
//	defer bounds.Check(t)()
//
// More than MaxAlloc allocated fails the test. More than MaxCPU or MaxTime is a
// panic with all stacks, as nothing else could end it. It must be called outside
// of synctest bubbles, whose clock is another; one may be inside.
func Check(t testing.TB) (end func()) {
	stop := watch(t.Name(), MaxCPU)
	before := allocated()
	return func() {
		t.Helper()
		stop()
		if n := allocated() - before; n > MaxAlloc {
			t.Errorf("%d MiB were allocated, want at most %d", n>>20, MaxAlloc>>20)
		}
	}
}

// watch panics when what has begun now takes more than maxCPU or MaxTime; the
// function that it returns ends that.
func watch(name string, maxCPU time.Duration) (stop func()) {
	began, used := time.Now(), cpu()
	ended := make(chan struct{})
	var timer *time.Timer
	timer = time.AfterFunc(time.Hour, func() {
		if cpu()-used > maxCPU || time.Since(began) > MaxTime {
			debug.SetTraceback("all")
			panic(fmt.Sprintf("%s: one input has taken %v, %v of it on a processor; want at most %v and %v",
				name, time.Since(began), cpu()-used, MaxTime, maxCPU))
		}
		select {
		case <-ended:
		default:
			timer.Reset(time.Second)
		}
	})
	timer.Reset(time.Second) // now that it is known to its function
	return func() {
		close(ended)
		timer.Stop()
	}
}

// allocated returns how many bytes this process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
