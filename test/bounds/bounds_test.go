package bounds

import (
	"testing"
)

// spy is a test that remembers whether it has failed.
type spy struct {
	testing.TB
	failed bool
}

func (s *spy) Helper()               {}
func (s *spy) Errorf(string, ...any) { s.failed = true }

var sink []byte

func TestCheckSeesLargeAllocations(t *testing.T) {
	for size, want := range map[int]bool{MaxAlloc / 2: false, MaxAlloc * 2: true} {
		s := &spy{TB: t}
		Check(s, func() {
			for range 64 { // in pieces, as decoders do
				sink = make([]byte, size/64)
			}
		})
		if s.failed != want {
			t.Errorf("Check of %d MiB: failed is %v, want %v", size>>20, s.failed, want)
		}
	}
}
