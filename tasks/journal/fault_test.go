package journal

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/tasks/journal/memfs"
)

// faultCalls are what the scripts of faults write: with segments of 4 KiB there
// are new segments, compaction and values with files.
func faultCalls(n int) (calls [][]Record) {
	r := rand.New(rand.NewPCG(3, 4))
	for range n {
		calls = append(calls, randomCall(r, 20))
	}
	return calls
}

func faultConfig(m *memfs.FS[File]) Config {
	cfg := memConfig(m)
	cfg.SegmentBytes = 4096
	return cfg
}

// outcome is what a script was told.
type outcome struct {
	told bool
	err  error
}

// TestDiskFailsAtEachCall lets each call in turn fail that changes something on
// disk. What was acknowledged must be there afterwards, what was refused not,
// whether the process ends or the machine; and when there was no room, all goes
// on by itself.
func TestDiskFailsAtEachCall(t *testing.T) {
	calls := faultCalls(100)
	for _, c := range []struct {
		name  string
		err   error
		times int
	}{
		{"no room once", syscall.ENOSPC, 1},
		{"no room for a while", syscall.EDQUOT, 25},
		{"file too large", syscall.EFBIG, 3},
		{"error", syscall.EIO, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; ; n += stride {
				if !failAt(t, calls, n, c.times, c.err) {
					if n < 200 {
						t.Errorf("the script makes %d calls, want more", n)
					}
					break
				}
				if t.Failed() {
					break
				}
			}
		})
	}
}

// failAt runs the script with calls of number n to n+times failing. It returns
// false if there are not so many.
func failAt(t *testing.T, calls [][]Record, n, times int, fault error) (reached bool) {
	synctest.Test(t, func(t *testing.T) {
		m := memfs.New[File]()
		count, opened := 0, false // guarded by m.Mu
		var at string
		m.Before = func(m *memfs.FS[File], op, name string) error {
			if count++; opened && count >= n && count < n+times {
				if at == "" {
					at = fmt.Sprintf("call %d, %s %s, fails with %v", n, op, name, fault)
				}
				// A full disk fails neither what reads nor what frees.
				if fault != syscall.EIO && (op == "remove" || op == "truncate" || op == "sync" || op == "syncdir") {
					return nil
				}
				return fault
			}
			return nil
		}
		j, err := Open(faultConfig(m))
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		defer j.Close()
		m.Mu.Lock()
		count, opened = 0, true
		m.Mu.Unlock()
		told := make([]outcome, len(calls))
		for i, rs := range calls {
			write := j.Try
			if i%3 == 0 {
				write = j.Write
			}
			write(func(err error) {
				if told[i].told {
					t.Errorf("%s: call %d was told twice", at, i)
				}
				told[i] = outcome{true, err}
			}, rs...)
			if i%4 != 0 {
				synctest.Wait()
			}
		}
		time.Sleep(time.Minute) // of the bubble
		m.Mu.Lock()
		opened = false // there is room, if there was none yet
		m.Mu.Unlock()
		time.Sleep(2 * lookAgain)
		synctest.Wait()
		if reached = at != ""; !reached {
			return
		}
		failed := j.Err()
		if fault != syscall.EIO && failed != nil {
			t.Errorf("%s: Err a minute later = %v, want nil", at, failed)
		}
		if failed != nil && !errors.Is(failed, ErrFailed) {
			t.Errorf("%s: Err = %v, want ErrFailed", at, failed)
		}
		want := model{}
		for i, rs := range calls {
			switch o := told[i]; {
			case !o.told:
				t.Errorf("%s: call %d was told nothing", at, i)
			case o.err == nil:
				want.apply(rs...)
			case !errors.Is(o.err, ErrFull) && !errors.Is(o.err, ErrFailed):
				t.Errorf("%s: call %d was told %v", at, i, o.err)
			case i%3 == 0 && failed == nil:
				t.Errorf("%s: Write %d was told %v, want nil some time", at, i, o.err)
			}
		}
		if failed == nil {
			if err := try(j, put(3, 1000, "again")); err != nil {
				t.Errorf("%s: Try a minute later: %v", at, err)
			}
			want.apply(put(3, 1000, "again"))
		}
		wantContents(t, j, want)
		if names, _ := m.ReadDir(memDir + "/" + valuesDir); fault != syscall.EIO && len(names) != j.Stats().Files {
			t.Errorf("%s: %d value files, want %d", at, len(names), j.Stats().Files)
		}
		if err := j.Close(); (err != nil) != (failed != nil) {
			t.Errorf("%s: Close = %v after Err = %v", at, err, failed)
		}
		for what, left := range map[string]*memfs.FS[File]{
			"the process ended": m.Left(nil, true),
			"a crash":           m.Left(nil, false),
			"another crash":     m.Left(rand.New(rand.NewPCG(5, uint64(n))), false),
		} {
			j, err := Open(faultConfig(left))
			if err != nil {
				t.Fatalf("%s, then %s: Open: %v", at, what, err)
			}
			got, err := contents(j)
			if err != nil {
				t.Fatalf("%s, then %s: read all: %v", at, what, err)
			}
			if d := want.diff(got); d != "" {
				t.Fatalf("%s, then %s: the journal %s", at, what, d)
			}
			mustClose(t, j)
		}
	})
	return reached
}

// TestCrashAtEachCall takes, before each call that changes something on disk,
// what a crash would leave, and opens it. That may be what was acknowledged, or
// also some of what was not yet, in the order of the calls; each whole or not at
// all. A crash while that is opened must change nothing of it.
func TestCrashAtEachCall(t *testing.T) {
	calls := faultCalls(200)
	m := memfs.New[File]()
	r := rand.New(rand.NewPCG(6, 7))
	states := []model{{}}
	for _, rs := range calls {
		s := maps.Clone(states[len(states)-1])
		s.apply(rs...)
		states = append(states, s)
	}
	acked, asked, crashes := 0, 0, 0
	check := func(left *memfs.FS[File], what string) {
		crashes++
		again := []*memfs.FS[File]{}
		if crashes%10 == 0 {
			left.Before = func(m *memfs.FS[File], op, name string) error {
				again = append(again, m.Left(nil, false), m.Left(r, false), m.Left(nil, true))
				return nil
			}
		}
		j, err := Open(faultConfig(left))
		if err != nil {
			t.Fatalf("%s: Open: %v", what, err)
		}
		defer j.Close()
		got, err := contents(j)
		if err != nil {
			t.Fatalf("%s: read all: %v", what, err)
		}
		is := -1
		for n := acked; n <= asked && is < 0; n++ {
			if states[n].diff(got) == "" {
				is = n
			}
		}
		if is < 0 {
			t.Fatalf("%s: of what was acknowledged the journal %s", what, states[acked].diff(got))
		}
		for _, left := range again {
			j, err := Open(faultConfig(left))
			if err != nil {
				t.Fatalf("%s, and again during Open: Open: %v", what, err)
			}
			got, err := contents(j)
			if err != nil {
				t.Fatalf("%s, and again during Open: read all: %v", what, err)
			}
			if d := states[is].diff(got); d != "" {
				// A torn write that the first Open did not see whole may be whole
				// only if it was there whole.
				t.Fatalf("%s, and again during Open: the journal %s", what, d)
			}
			mustClose(t, j)
		}
	}
	n := 0
	m.Before = func(m *memfs.FS[File], op, name string) error {
		n++
		what := fmt.Sprintf("crash before call %d, %s %s, with %d calls acknowledged of %d", n, op, name, acked, asked)
		if n%stride == 0 {
			check(m.Left(nil, false), what)
			check(m.Left(nil, true), "end of the process, not "+what)
			for range 3 {
				check(m.Left(r, false), "with some of what was not synced, "+what)
			}
		}
		return nil
	}
	j := mustOpen(t, faultConfig(m))
	for i := 0; i < len(calls); {
		// A few calls at once, which makes groups of several.
		more := min(1+i%4, len(calls)-i)
		done := make(chan error, more)
		m.Mu.Lock() // holds up the writer at its next call, so that asked is right
		asked += more
		for _, rs := range calls[i : i+more] {
			j.Write(func(err error) {
				m.Mu.Lock()
				acked++
				m.Mu.Unlock()
				done <- err
			}, rs...)
		}
		m.Mu.Unlock()
		for range more {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		i += more
	}
	mustClose(t, j)
	if j.index.segments[0].number < 10 {
		t.Errorf("the oldest segment is %d: hardly anything was compacted", j.index.segments[0].number)
	}
	if crashes < 1000/stride {
		t.Errorf("%d crashes, want more", crashes)
	}
}
