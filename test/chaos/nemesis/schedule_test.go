package nemesis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scagent/scagent/test/chaos/fabric"
)

var nodes = Nodes{All: []string{"m1", "w1", "w2", "w3", "w4"}, Victims: []string{"w1", "w2", "w3", "w4"}}

// lasting are the profiles with faults that last for long, whatever the seed.
var lasting = map[string]bool{"loss5": true, "loss10": true, "halves": true, "soak": true}

func first(t *testing.T, n int, profile string, seed uint64, nodes Nodes) (steps []Step) {
	t.Helper()
	all, err := Schedule(profile, seed, nodes)
	if err != nil {
		t.Fatal(err)
	}
	for step := range all {
		if steps = append(steps, step); len(steps) == n {
			break
		}
	}
	return steps
}

func TestASeedGivesTheSameScheduleAgain(t *testing.T) {
	for _, profile := range Profiles() {
		one, again, other := first(t, 1000, profile, 1, nodes), first(t, 1000, profile, 1, nodes), first(t, 1000, profile, 2, nodes)
		if !slices.Equal(one, again) {
			t.Errorf("%s: two schedules of one seed differ", profile)
		}
		if profile != "none" && !lasting[profile] && (len(one) != 1000 || slices.Equal(one, other)) {
			t.Errorf("%s: %d steps; those of two seeds are equal: %t", profile, len(one), slices.Equal(one, other))
		}
	}
}

// TestAScheduleIsOfSense plays the schedules: who is struck was not yet, what ends
// had begun, and everything ends.
func TestAScheduleIsOfSense(t *testing.T) {
	ends := map[Kind]Kind{Start: Kill, Cont: Stop, Heal: Cut, Free: Full, FDsFree: FDs}
	for _, profile := range Profiles() {
		for seed := range uint64(20) {
			struck, kinds := map[string]time.Duration{}, map[Kind]int{}
			var last time.Duration
			for _, step := range first(t, 2000, profile, seed, nodes) {
				if step.At < last {
					t.Fatalf("%s, seed %d: %s comes after %s", profile, seed, step, last)
				}
				last = step.At
				kinds[step.Kind]++
				begin, over := ends[step.Kind]
				if !over {
					begin = step.Kind
				}
				switch step.Kind {
				case Loss:
					over = step.Percent == 0
				case Shape:
					over = step.Policy == fabric.Policy{}
				}
				key := fmt.Sprint(begin, step.Node, step.To)
				since, is := struck[key]
				if is != over {
					t.Fatalf("%s, seed %d: %s, and it is so: %t", profile, seed, step, is)
				}
				if over {
					delete(struck, key)
					if !lasting[profile] && step.At-since > 10*time.Second {
						t.Errorf("%s, seed %d: %s after %s", profile, seed, step, step.At-since)
					}
				} else {
					struck[key] = step.At
				}
				if process := begin != Cut && begin != Loss && begin != Shape; process && !slices.Contains(nodes.Victims, step.Node) || step.Node == step.To {
					t.Fatalf("%s, seed %d: %s strikes whom it must not", profile, seed, step)
				}
			}
			if profile == "mixed" && len(kinds) != 12 {
				t.Errorf("mixed, seed %d: has only %v", seed, kinds)
			}
			if k := kinds[Kill]; profile == "kills" && (k < 800 || last < time.Duration(k)*900*ms || last > time.Duration(k)*1600*ms) {
				t.Errorf("kills, seed %d: %d kills in %s, want one about every second", seed, k, last)
			}
		}
	}
}

func TestWithoutVictimsNothingIsKilled(t *testing.T) {
	for _, step := range first(t, 500, "mixed", 1, Nodes{All: nodes.All}) {
		if step.Kind != Cut && step.Kind != Heal && step.Kind != Loss && step.Kind != Shape {
			t.Fatalf("%s, and there is no victim", step)
		}
	}
}

func TestAnUnknownProfileIsRefused(t *testing.T) {
	if _, err := Schedule("rain", 1, nodes); err == nil || !strings.Contains(err.Error(), `no profile "rain"`) {
		t.Errorf("Schedule of rain: %v", err)
	}
}

func TestStepsAreAppliedWhenTheyAreDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps, _ := Schedule("kills", 1, nodes)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin, n := time.Now(), 0
		err := Run(ctx, steps, func(s Step) error {
			if n++; time.Since(begin) != s.At {
				t.Errorf("%s was applied after %s", s, time.Since(begin))
			}
			return nil
		})
		if err != nil || time.Since(begin) != time.Minute || n < 50 {
			t.Errorf("Run = %v after %s and %d steps", err, time.Since(begin), n)
		}
		broken := fmt.Errorf("broken")
		if err := Run(t.Context(), steps, func(Step) error { return broken }); err == nil || !strings.Contains(err.Error(), "kill w") {
			t.Errorf("Run whose step fails = %v", err)
		}
	})
}
