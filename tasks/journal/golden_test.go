package journal

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/v1 anew")

// TestGoldenJournalOpens: what version 1 wrote can be read for ever.
func TestGoldenJournalOpens(t *testing.T) {
	const golden = "testdata/v1"
	calls := append(someCalls(60), []Record{put(3, 1, ""), put(3, 2, strings.Repeat("large", 200))})
	want := model{}
	for _, rs := range calls {
		want.apply(rs...)
	}
	if *update {
		os.RemoveAll(golden)
		cfg := smallConfig(golden)
		cfg.SegmentBytes = 4096
		j := mustOpen(t, cfg)
		for _, rs := range calls {
			mustTry(t, j, rs...)
		}
		mustClose(t, j)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
		t.Fatal(err)
	}
	j := mustOpen(t, smallConfig(dir))
	wantContents(t, j, want)
	if s := j.Stats(); s.Segments < 2 || s.Files != 1 {
		t.Errorf("the journal has %+v, want 2 segments and a value with a file", s)
	}
}
