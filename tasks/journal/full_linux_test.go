package journal

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiskThatIsReallyFull fills a file system of its own.
func TestDiskThatIsReallyFull(t *testing.T) {
	if os.Geteuid() != 0 {
		const lacks = "root, who can mount a file system"
		if os.Getenv("SCAGENT_TEST_NO_SKIP") != "" {
			t.Fatalf("this machine lacks %s, and nothing may be skipped", lacks)
		}
		t.Skipf("SKIPPED: this machine lacks %s", lacks)
	}
	dir := t.TempDir()
	if err := unix.Mount("journal-test", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	cfg := smallConfig(dir + "/journal")
	cfg.SegmentBytes, cfg.FileBytes = 64<<10, 8<<10
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	want := model{}
	refused := 0
	for n := range 1000 {
		r := put(1, n, strings.Repeat("value", 1000+n%1000))
		if err := try(j, r); err == nil {
			want.apply(r)
		} else if refused++; !errors.Is(err, ErrFull) {
			t.Fatalf("Try on a full disk = %v, want ErrFull", err)
		}
	}
	if len(want) < 100 || refused < 100 {
		t.Fatalf("%d records were taken and %d refused, want more", len(want), refused)
	}
	wantContents(t, j, want)
	done := make(chan error, 2)
	last := put(2, 1, strings.Repeat("kept", 1500))
	j.Write(func(err error) { done <- err }, last)
	for n := range 100 { // makes room, which is then used
		j.Write(func(error) {}, del(1, n))
		want.apply(del(1, n))
	}
	j.Write(func(err error) { done <- err })
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatalf("make the tmpfs larger: %v", err)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatalf("Write when there is room: %v", err)
		}
	}
	want.apply(last)
	mustTry(t, j, put(1, 5000, "v"))
	want.apply(put(1, 5000, "v"))
	mustClose(t, j)
	j, err = Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	wantContents(t, j, want)
}
