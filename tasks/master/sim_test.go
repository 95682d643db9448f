package master

import (
	"flag"
	"fmt"
	"io"
	"log"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

var (
	simSeeds = flag.Int("sim.seeds", 0, "how many worlds are simulated; 0: some")
	simFrom  = flag.Uint64("sim.from", 1, "the first seed")
	simAll   = flag.Bool("sim.all", false, "print all faults of a world that fails, and do not look for the few that it takes")
	simLog   = flag.Bool("sim.log", false, "print what agents log")
)

// TestWorlds simulates small worlds in which things go wrong, each from a seed. When all
// is well again every task ends in one way, nothing is left, and what everybody has
// written down keeps the invariants that package verify checks.
//
// A seed decides what is asked for, what goes wrong, and when, and all that a Master
// draws. It does not decide in which order goroutines run that can, and ranges over
// maps and selects go on: a failure may need some tries to be seen again.
func TestWorlds(t *testing.T) {
	n := *simSeeds
	if n == 0 {
		n = 300
		if raced || testing.Short() {
			n = 20
		}
	}
	began, faults := time.Now(), 0
	for seed := *simFrom; seed < *simFrom+uint64(n); seed++ {
		p := drawPlan(seed)
		faults += len(p.faults)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			if wrong := simulate(t, p); wrong != nil {
				report(t, p, wrong)
			}
		})
	}
	took := time.Since(began)
	t.Logf("%d seeds from %d, %d faults, in %v: %.0f seeds/s", n, *simFrom, faults, took.Round(time.Millisecond), float64(n)/took.Seconds())
}

// TestWorldsThatFailed has the seeds that showed mistakes which are mended.
func TestWorldsThatFailed(t *testing.T) {
	for _, c := range []struct {
		seed uint64
		was  string
	}{
		{1, "the result of an attempt that was made again was acknowledged before that was on disk"},
		{36, "a run for three workers, one of which refuses the task, never ended"},
		{74, "a class stayed listed as one that waits when its last task was cancelled in the queue"},
		{98, "a grant that was on disk and not sent before a stop was sent after it, and not written down"},
		{3025, "a task waited for ever beside an idle worker: the first in its queue could not go there, then went elsewhere"},
		{3198, "a grant was recorded after Close and not sent, so that the task was lost and had never run"},
		{4181, "a worker whose link broke while it drained was never used again"},
		{4750, "a late result was acknowledged before the attempt in its place was on disk"},
		{23484, "a result that came while the loss of its attempt was on its way to the disk was never acknowledged"},
		{23848, "a late result counted though another task of its run was at its worker"},
		{705720, "a worker was never told to forget the result of an attempt when an earlier one had counted"},
	} {
		t.Run(fmt.Sprint("seed=", c.seed), func(t *testing.T) {
			if wrong := simulate(t, drawPlan(c.seed)); wrong != nil {
				t.Errorf("once %s; now: %s", c.was, strings.Join(wrong, "\n"))
			}
		})
	}
}

// simulate returns what is wrong in the world of a plan.
func simulate(t *testing.T, p *plan) (wrong []string) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, p.seed) // ids
	var w *world
	l := log.New(io.Discard, "", 0)
	if *simLog {
		l = log.New(testLog{t}, "", log.Lmicroseconds)
	}
	synctest.Test(t, func(*testing.T) {
		w = newWorld(p, l)
		w.live()
	})
	w.judgeHistories()
	return w.mistakes
}

// report prints the faults that a failure needs: others are left out one by one while
// something still is wrong.
func report(t *testing.T, p *plan, wrong []string) {
	t.Helper()
	few := *p
	for i := len(few.faults) - 1; i >= 0 && !*simAll; i-- {
		less := few
		less.faults = slices.Delete(slices.Clone(few.faults), i, i+1)
		for range 3 { // the order of goroutines is not the same each time
			if w := simulate(t, &less); w != nil {
				few, wrong = less, w
				break
			}
		}
	}
	t.Errorf("seed %d: %s\nwith these of %d faults:%s", p.seed, strings.Join(wrong, "\n"), len(p.faults), describe(few.faults))
}
