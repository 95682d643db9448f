package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/scagent/scagent/tasks"
)

func id(n byte) (id tasks.ID) { id[15] = n; return id }

// good is what a run without fault leaves: three tasks that are done, the second of
// which had lost a worker.
func good() (*ledger, []string) {
	l := newLedger()
	var truth []string
	for n := range byte(3) {
		l.acknowledge(id(n))
		l.end(id(n), final{state: tasks.StateDone, attempt: uint32(1 + n%2)}, "")
		l.keep(id(n))
		truth = append(truth, note(n, 1, "start"))
		if n%2 == 1 {
			truth = append(truth, note(n, 2, "start"))
		}
		truth = append(truth, note(n, 1+int(n%2), "end"))
	}
	return l, truth
}

func note(n byte, attempt int, what string) string {
	return fmt.Sprintf("%s %d 4711 %s 1795664798523856072", id(n), attempt, what)
}

// TestProblemsAreFound changes what a good run leaves, one thing at a time.
func TestProblemsAreFound(t *testing.T) {
	for _, c := range []struct {
		name       string
		change     func(l *ledger, truth *[]string)
		atMostOnce bool
		want       string // empty: no problem
	}{
		{name: "nothing", change: func(*ledger, *[]string) {}},
		{name: "a late first attempt of a paused worker", change: func(l *ledger, truth *[]string) {
			*truth = append(slices.Delete(*truth, 2, 3), note(1, 1, "start"), note(1, 1, "end"))
		}},
		{name: "one submission of which nobody knows", change: func(l *ledger, truth *[]string) { *truth = append(*truth, note(9, 1, "start")) }},
		{name: "the same end twice", change: func(l *ledger, truth *[]string) { l.end(id(0), final{state: tasks.StateDone, attempt: 1}, "") }},
		{name: "a run at the end is cut short", change: func(l *ledger, truth *[]string) { *truth = append(*truth, note(0, 2, "start")) }},

		{name: "missing", change: func(l *ledger, truth *[]string) { l.lose(id(1)) }, want: "1 acknowledged tasks are missing"},
		{name: "not final", change: func(l *ledger, truth *[]string) { l.acknowledge(id(3)); l.keep(id(3)) }, want: "1 acknowledged tasks are not final"},
		{name: "running is not final", change: func(l *ledger, truth *[]string) {
			l.acknowledge(id(3))
			l.keep(id(3))
			l.end(id(3), final{state: tasks.StateRunning, attempt: 1}, "")
		}, want: "1 acknowledged tasks are not final"},
		{name: "another state", change: func(l *ledger, truth *[]string) { l.end(id(1), final{state: tasks.StateLost, attempt: 2}, "") }, want: "1 tasks ended twice differently"},
		{name: "another attempt", change: func(l *ledger, truth *[]string) { l.end(id(1), final{state: tasks.StateDone, attempt: 3}, "") }, want: "1 tasks ended twice differently"},
		{name: "runs again", change: func(l *ledger, truth *[]string) { l.end(id(1), final{state: tasks.StateQueued, attempt: 2}, "") }, want: "1 tasks ended twice differently"},
		{name: "the same attempt", change: func(l *ledger, truth *[]string) { *truth = append(*truth, note(1, 1, "start")) }, want: "1 tasks had an attempt started twice"},
		{name: "never ran", change: func(l *ledger, truth *[]string) { *truth = (*truth)[:len(*truth)-1] }, want: "1 tasks are done, and never ran to their end"},
		{name: "failed", change: func(l *ledger, truth *[]string) {
			l.acknowledge(id(3))
			l.keep(id(3))
			l.end(id(3), final{state: tasks.StateFailed, attempt: 1, exit: 1}, "")
		}, want: "1 tasks failed"},
		{name: "held responsible after three starts", change: func(l *ledger, truth *[]string) {
			l.acknowledge(id(3))
			l.keep(id(3))
			l.end(id(3), final{state: tasks.StateFailed, attempt: 3, reason: tasks.Poison}, "")
			*truth = append(*truth, note(3, 1, "start"), note(3, 2, "start"), note(3, 3, "start"))
		}},
		{name: "held responsible after two", change: func(l *ledger, truth *[]string) {
			l.acknowledge(id(3))
			l.keep(id(3))
			l.end(id(3), final{state: tasks.StateFailed, attempt: 3, reason: tasks.Poison}, "")
			*truth = append(*truth, note(3, 1, "start"), note(3, 2, "start"))
		}, want: "1 tasks failed"},
		{name: "lost", change: func(l *ledger, truth *[]string) {
			l.acknowledge(id(3))
			l.keep(id(3))
			l.end(id(3), final{state: tasks.StateLost, attempt: 1}, "")
		}, want: "1 tasks were lost"},
		{name: "cancelled", change: func(l *ledger, truth *[]string) {
			l.acknowledge(id(3))
			l.keep(id(3))
			l.end(id(3), final{state: tasks.StateCancelled, attempt: 1}, "")
		}, want: "1 tasks were cancelled"},
		{name: "strays", change: func(l *ledger, truth *[]string) {
			*truth = append(*truth, note(8, 1, "start"), note(8, 1, "end"), note(9, 1, "start"))
		}, want: "1 tasks ran that nobody can have submitted"},
		{name: "forgotten", change: func(l *ledger, truth *[]string) { l.tasks[id(2)].kept = false }, want: "1 tasks can not be asked for any more"},
		{name: "twice, and once at most", change: func(*ledger, *[]string) {}, atMostOnce: true, want: "1 starts too many"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, truth := good()
			c.change(l, &truth)
			strays, err := l.readTruth(strings.NewReader(strings.Join(truth, "\n") + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			got := l.report(strays).problems(c.atMostOnce, 1, 3)
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], c.want)) {
				t.Errorf("problems are %q, want %q", got, c.want)
			}
		})
	}
}

func TestReportCounts(t *testing.T) {
	l, truth := good()
	strays, err := l.readTruth(strings.NewReader(strings.Join(truth, "\n")))
	r := l.report(strays)
	l.acknowledge(id(9))
	l.end(id(9), final{state: tasks.StateFailed}, "process 17: no luck")
	if got := l.report(0).offenders(); !slices.Contains(got, `errors: 1 x "process ##: no luck"`) {
		t.Errorf("the error is not among %q", got)
	}
	if err != nil || r.Acknowledged != 3 || r.Done != 3 || r.Starts != 4 || r.Duplicates != 1 || r.Kept != 3 {
		t.Errorf("a good run is reported as %+v, %v", r, err)
	}
}

func TestABadTruthIsAnError(t *testing.T) {
	for _, line := range []string{"x", "x 1 2 start 3", note(1, 1, "middle"), note(1, -1, "start")} {
		l, _ := good()
		if _, err := l.readTruth(strings.NewReader(line + "\n")); err == nil {
			t.Errorf("the line %q passed", line)
		}
	}
}
