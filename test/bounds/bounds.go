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
// that it tries many. Time is wide because these tests also run on machines that
// are busy with other things: it is there for loops that do not end, and for work
// that grows faster than its input.
const (
	MaxInput = 64 << 10
	MaxAlloc = 64 << 20
	MaxTime  = 20 * time.Second
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

// Check calls f, and fails the test if f allocated more than MaxAlloc. If f takes
// longer than MaxTime it panics with all stacks, as nothing else could end it. It
// must be called outside of synctest bubbles, whose clock is another; f may use
// one.
func Check(t testing.TB, f func()) {
	t.Helper()
	stuck := time.AfterFunc(MaxTime, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("%s: one input takes more than %v", t.Name(), MaxTime))
	})
	defer stuck.Stop()
	before := allocated()
	f()
	if n := allocated() - before; n > MaxAlloc {
		t.Errorf("%d MiB were allocated, want at most %d", n>>20, MaxAlloc>>20)
	}
}

// allocated returns how many bytes this process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
