//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A large file goes there and another comes back, each compared with its hash, and
// neither agent takes more memory than for a small one. With SCAGENT_TEST_LONG=1 it
// has 1 GiB, and calls on the same pair must not take three times as long meanwhile.
func TestLargeFilesTakeLittleMemory(t *testing.T) {
	mib, long := 160, os.Getenv("SCAGENT_TEST_LONG") != ""
	if long {
		mib = 1024
	}
	program := filepath.Join(t.TempDir(), "payload")
	build := exec.Command("go", "build", "-o", program, "./payload")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprintf("secured=%v", secured), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), program, "-memory", "-mib", fmt.Sprint(mib), fmt.Sprintf("-secured=%v", secured), "-dir", t.TempDir())
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %v\n%s", cmd, err, out)
			}
			t.Logf("%s", out)
			figures := map[string]figure{}
			for line := range strings.Lines(string(out)) {
				f := decode[figure](t, line)
				figures[f.Metric] = f
			}
			for _, who := range []string{"master", "worker"} {
				if f, ok := figures["memory_"+who]; !ok || f.Before == 0 || f.Value >= 64<<10 {
					t.Errorf("the memory of the %s grew by %d KiB over %d; want less than 64 MiB", who, f.Value, f.Before)
				}
			}
			if f, ok := figures["noop_p50"]; !ok || f.N < 100 || long && f.Ratio > 3 {
				t.Errorf("%d calls meanwhile took %v times as long as before; want at least 100, at most 3", f.N, f.Ratio)
			}
		})
	}
}

// figure is a line that test/payload prints with -memory.
type figure struct {
	Metric string
	Value  int
	Before int
	Ratio  float64
	N      int
}
