package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/scagent/scagent/tasks/blob"
)

// Who has an output open can make it longer while it is taken over.
func TestAnOutputThatGrowsIsNotReadWhole(t *testing.T) {
	store, err := blob.Open(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	a := &Agent{blobs: store}
	const growing, inline = "/proc/self/maps", 100 // which says that it is empty
	if c, err := a.keep(growing, inline); len(c.Inline) > 0 || err == nil {
		t.Errorf("keep took %d bytes into memory, %v; want none: it has more than %d", len(c.Inline), err, inline)
	}
	for size, want := range map[int]int{0: 0, inline: inline, inline + 1: 0} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := a.keep(path, inline)
		if err != nil || len(c.Inline) != want || (c.Blob != "") != (size > inline) {
			t.Errorf("of %d bytes %d are in memory, blob %q, %v; want %d", size, len(c.Inline), c.Blob, err, want)
		}
	}
}
