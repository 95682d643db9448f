package journal

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks/journal/memfs"
)

// told returns a done and what it was told, which is nil until then.
func told() (func(error), *outcome) {
	o := &outcome{}
	return func(err error) { *o = outcome{true, err} }, o
}

func TestWriteWaitsForRoomAndTryIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memfs.New[File]()
		j := mustOpen(t, faultConfig(m))
		defer j.Close()
		mustTry(t, j, put(1, 1, "old"))
		full := true
		m.Mu.Lock()
		m.Before = func(m *memfs.FS[File], op, name string) error {
			if full && op == "write" {
				return syscall.ENOSPC
			}
			return nil
		}
		m.Mu.Unlock()
		done1, write1 := told()
		done2, write2 := told()
		j.Write(done1, put(1, 1, "new"), put(2, 1, "too"))
		synctest.Wait()
		if err := j.Err(); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room where /j is") {
			t.Errorf("Err = %v, want ErrFull, the reason and what to do", err)
		}
		j.Write(done2, put(1, 1, "newest"))
		if err := try(j, put(1, 2, "v")); !errors.Is(err, ErrFull) {
			t.Errorf("Try without room = %v, want ErrFull", err)
		}
		time.Sleep(10*lookAgain + lookAgain/2)
		synctest.Wait()
		if write1.told || write2.told {
			t.Error("a Write was told something while there was no room")
		}
		wantContents(t, j, model{{1, id(1)}: "old"})
		m.Mu.Lock()
		full = false
		m.Mu.Unlock()
		time.Sleep(lookAgain)
		synctest.Wait()
		if *write1 != (outcome{true, nil}) || *write2 != (outcome{true, nil}) {
			t.Errorf("the Writes were told %v and %v when there was room, want nil", *write1, *write2)
		}
		if err := j.Err(); err != nil {
			t.Errorf("Err when there is room = %v, want nil", err)
		}
		mustTry(t, j, put(1, 3, "v"))
		wantContents(t, j, model{{1, id(1)}: "newest", {2, id(1)}: "too", {1, id(3)}: "v"})
	})
}

func TestCloseTellsWritesThatFoundNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memfs.New[File]()
		j := mustOpen(t, faultConfig(m))
		m.Mu.Lock()
		m.Before = func(m *memfs.FS[File], op, name string) error {
			if op == "write" {
				return syscall.ENOSPC
			}
			return nil
		}
		m.Mu.Unlock()
		done, write := told()
		j.Write(done, put(1, 1, "v"))
		synctest.Wait()
		if err := j.Close(); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrFull) {
			t.Errorf("Close = %v, want ErrClosed and ErrFull", err)
		}
		if !errors.Is(write.err, ErrClosed) || !errors.Is(write.err, ErrFull) {
			t.Errorf("the Write was told %v, want ErrClosed and ErrFull", write.err)
		}
	})
}

func TestMinFreeIsLeftToWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memfs.New[File]()
		cfg := faultConfig(m)
		cfg.MinFree = 10_000
		j := mustOpen(t, cfg)
		defer j.Close()
		m.SetFree(10_500)
		mustTry(t, j, put(1, 1, "fits"))
		large := strings.Repeat("large", 200) // in a file of its own
		if err := try(j, put(1, 2, large)); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "bytes are free where /j is above the 10000 that stay free") {
			t.Errorf("Try of what would leave less than MinFree = %v, want ErrFull and what is free", err)
		}
		if err := j.Err(); !errors.Is(err, ErrFull) {
			t.Errorf("Err = %v, want ErrFull", err)
		}
		done, write := told()
		j.Write(done, put(1, 3, large))
		synctest.Wait()
		if *write != (outcome{true, nil}) {
			t.Errorf("the Write was told %v, want nil", *write)
		}
		if err := try(j, put(1, 4, "v")); !errors.Is(err, ErrFull) {
			t.Errorf("Try within a second = %v, want ErrFull", err)
		}
		m.SetFree(1 << 30)
		time.Sleep(lookAgain)
		synctest.Wait()
		if err := j.Err(); err != nil {
			t.Errorf("Err when there is room = %v, want nil", err)
		}
		mustTry(t, j, put(1, 2, large))
		wantContents(t, j, model{{1, id(1)}: "fits", {1, id(2)}: large, {1, id(3)}: large})
	})
}

// TestFailedSyncIsFinal: the second fdatasync would succeed, and prove nothing.
func TestFailedSyncIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memfs.New[File]()
		var text strings.Builder
		cfg := logTo(faultConfig(m), &text)
		j := mustOpen(t, cfg)
		mustTry(t, j, put(1, 1, "v"))
		failed := 0
		m.Mu.Lock()
		m.Before = func(m *memfs.FS[File], op, name string) error {
			if op == "sync" {
				if failed++; failed == 1 {
					return syscall.ENOSPC // even this, from a sync
				}
			}
			return nil
		}
		m.Mu.Unlock()
		done, write := told()
		j.Write(done, put(1, 1, "lost"))
		synctest.Wait()
		time.Sleep(time.Hour)
		if !errors.Is(write.err, ErrFailed) || errors.Is(write.err, ErrFull) {
			t.Errorf("the Write was told %v, want ErrFailed", write.err)
		}
		if err := try(j, put(1, 2, "v")); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "start again") {
			t.Errorf("Try after that = %v, want ErrFailed and what to do", err)
		}
		if failed != 1 {
			t.Errorf("%d syncs, want none after the failed one", failed)
		}
		wantContents(t, j, model{{1, id(1)}: "v"})
		if err := j.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("Close = %v, want ErrFailed", err)
		}
		if n := strings.Count(text.String(), "\n"); n != 1 || !strings.HasPrefix(text.String(), "[ERR] journal: ") {
			t.Errorf("logged %q, want one line of level ERR", text.String())
		}
	})
}

// Without descriptors a directory cannot be opened to be synced. That is no sync that failed.
func TestTheJournalOutlivesALackOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memfs.New[File]()
		cfg := faultConfig(m)
		j := mustOpen(t, cfg)
		none := true
		m.Mu.Lock()
		m.Before = func(m *memfs.FS[File], op, name string) error {
			if none && op == "syncdir" {
				return &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
			}
			return nil
		}
		m.Mu.Unlock()
		want := model{}
		var writes []*outcome
		for i := range 20 { // segments end meanwhile
			large := strings.Repeat(string(rune(97+i)), cfg.FileBytes+1)
			small := large[:cfg.FileBytes]
			done, o := told()
			j.Write(done, put(1, i, large), put(2, i, small))
			writes = append(writes, o)
			want[key{1, id(i)}], want[key{2, id(i)}] = large, small
		}
		synctest.Wait()
		if err := j.Err(); !errors.Is(err, ErrFull) {
			t.Errorf("Err without descriptors = %v, want ErrFull", err)
		}
		m.Mu.Lock()
		none = false
		m.Mu.Unlock()
		time.Sleep(2 * lookAgain)
		synctest.Wait()
		for i, o := range writes {
			if *o != (outcome{true, nil}) {
				t.Fatalf("write %d was told %v when there were some again, want nil", i, *o)
			}
		}
		if err := j.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		j = mustOpen(t, cfg)
		defer j.Close()
		wantContents(t, j, want)
	})
}
