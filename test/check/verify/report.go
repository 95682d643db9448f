package verify

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/scagent/scagent/tasks"
	"github.com/scagent/scagent/tasks/history"
)

// Invariants is how many there are. They are numbered from 1.
const Invariants = 20

// Violation is an invariant that does not hold.
type Violation struct {
	Invariant int
	Task      tasks.ID // zero: of no one task
	N         uint32   // number of the attempt, 0: of no one attempt
	Text      string
	at        []point
}

// String returns it as a line.
func (v *Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "I%d", v.Invariant)
	if !v.Task.IsZero() {
		fmt.Fprintf(&b, " task=%s", v.Task)
	}
	if v.N > 0 {
		fmt.Fprintf(&b, " attempt=%d", v.N)
	}
	return b.String() + ": " + v.Text
}

// Report is what Check has found.
type Report struct {
	Violations []Violation         // at most 50 of each invariant
	Broken     [Invariants + 1]int // how many there are of each

	Events, Nodes, Hosts int
	Restarts, Cut        int // starts but for the first; starts that ended without a word
	Torn                 int // lines that were skipped as their writer was killed
	Faults               int // that a harness has said it injected
	OpenFaults           int // of them, those that were not said to be over: they excuse much

	Tasks, Unasked                int // ids given out; others that were heard of
	Done, Failed, Cancelled, Lost int // tasks by their final state
	Gone                          int // ephemeral tasks that went with their owner's start
	Early                         int // not ended, and not overdue
	Attempts, Starts              int
	Runs                          int // starts by the tasks' own word
	Duplicates                    int // starts beyond the first that no failure asked for
	LeasesLost                    int
	Excused                       int // what could not be decided as events are missing that a kill may have lost
	MembersFailed                 int // members that were reported as failed
	FalselyFailed                 int // of them, those that only lost packets
	Sought                        int // searches for leftovers; without one I18 is not decided

	files []Source
}

// OK says that no invariant is known to be broken.
func (r *Report) OK() bool { return len(r.Violations) == 0 }

func (r *Report) count(s tasks.State) {
	switch s {
	case tasks.StateDone:
		r.Done++
	case tasks.StateFailed:
		r.Failed++
	case tasks.StateCancelled:
		r.Cancelled++
	case tasks.StateLost:
		r.Lost++
	}
}

// DuplicateRate is starts beyond the first for each task: I9.
func (r *Report) DuplicateRate() float64 {
	if r.Tasks == 0 {
		return 0
	}
	return float64(r.Duplicates) / float64(r.Tasks)
}

// Print writes the violations with the lines that show them, and the counts.
func (r *Report) Print(w io.Writer) error {
	lines, err := r.lines()
	if err != nil {
		return err
	}
	for i := range r.Violations {
		v := &r.Violations[i]
		fmt.Fprintln(w, v)
		for _, p := range v.at {
			fmt.Fprintf(w, "    %s:%d %s\n", r.files[p.file].Name, p.line, lines[place{p.file, p.line}])
		}
	}
	for i, n := range r.Broken {
		if n > maxReported {
			fmt.Fprintf(w, "I%d: %d more\n", i, n-maxReported)
		}
	}
	fmt.Fprintf(w, "events=%d nodes=%d hosts=%d restarts=%d cut=%d torn=%d faults=%d open_faults=%d\n", r.Events, r.Nodes, r.Hosts, r.Restarts, r.Cut, r.Torn, r.Faults, r.OpenFaults)
	fmt.Fprintf(w, "tasks=%d done=%d failed=%d cancelled=%d lost=%d gone=%d early=%d unasked=%d\n", r.Tasks, r.Done, r.Failed, r.Cancelled, r.Lost, r.Gone, r.Early, r.Unasked)
	fmt.Fprintf(w, "attempts=%d starts=%d runs=%d duplicates=%d duplicate_rate=%.5f leases_lost=%d excused=%d\n", r.Attempts, r.Starts, r.Runs, r.Duplicates, r.DuplicateRate(), r.LeasesLost, r.Excused)
	fmt.Fprintf(w, "members_failed=%d falsely_failed_under_loss=%d searches_for_leftovers=%d\n", r.MembersFailed, r.FalselyFailed, r.Sought)
	if r.Hosts > 1 {
		fmt.Fprintf(w, "the histories are of %d hosts: what happened on two of them was not ordered\n", r.Hosts)
	}
	if r.Sought == 0 {
		fmt.Fprintln(w, "nobody looked for leftovers: I18 was decided by what agents say alone")
	}
	_, err = fmt.Fprintf(w, "violations=%d\n", sum(r.Broken[:]))
	return err
}

func sum(ns []int) (all int) {
	for _, n := range ns {
		all += n
	}
	return all
}

// place is a line of a file.
type place struct{ file, line int32 }

// lines reads again what the violations point at.
func (r *Report) lines() (map[place]string, error) {
	var want []point
	for i := range r.Violations {
		want = append(want, r.Violations[i].at...)
	}
	slices.SortFunc(want, point.compare)
	got := map[place]string{}
	for len(want) > 0 {
		file := want[0].file
		n := slices.IndexFunc(want, func(p point) bool { return p.file != file })
		if n < 0 {
			n = len(want)
		}
		if err := r.readLines(file, want[:n], got); err != nil {
			return nil, err
		}
		want = want[n:]
	}
	return got, nil
}

// readLines reads the wanted lines, in order, of one file.
func (r *Report) readLines(file int32, want []point, got map[place]string) error {
	f, err := r.files[file].Open()
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, history.MaxLineBytes)
	for line := int32(1); len(want) > 0 && s.Scan(); line++ {
		for len(want) > 0 && want[0].line == line {
			text := s.Text()
			if len(text) > 400 {
				text = text[:400] + "…"
			}
			got[place{file, line}] = text
			want = want[1:]
		}
	}
	return s.Err()
}
